"""How figures end: with title, note and legend, and no longer pyplot's."""

import matplotlib.pyplot as plt

from labutils.core.figures import close_figure, finish_figure


def test_a_finished_figure_has_its_texts_and_is_closed() -> None:
    figure, axes = plt.subplots(1, 2)
    axes[0].plot([0, 1], label="wanda")
    finished = finish_figure(figure, "a title", "a note", legend_of=axes[0])
    assert finished is figure and not plt.fignum_exists(figure.number)
    assert figure.get_suptitle() == "a title" and "a note" in [text.get_text() for text in figure.texts]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["wanda"]


def test_note_and_legend_can_be_left_out() -> None:
    figure = finish_figure(plt.figure(), "a title")
    assert not figure.legends and [text.get_text() for text in figure.texts if text.get_text() != "a title"] == []


def test_closing_changes_nothing_in_the_figure() -> None:
    figure = plt.figure()
    assert close_figure(figure) is figure and not plt.fignum_exists(figure.number) and not figure.texts
