"""Every figure of a notebook carries a description, and the page shows it to readers who do not see the image."""

import matplotlib.pyplot as plt
import nbformat
import pytest
from nbclient import NotebookClient

from labutils.plots.alt_text import describe_figure, show_alt_text
from labutils.runner.notebooks import write_html

CELLS = [
    "import labutils as lab\nlab.plots.set_style()\nlab.plots.set_style()",
    "import matplotlib.pyplot as plt\nfigure, axis = plt.subplots()\naxis.plot([1, 2])\n"
    "axis.set(title='A <b>', xlabel='dose', ylabel='loss')\nplt.close(figure)\nfigure",
]


def test_a_notebooks_figures_are_described_on_its_page():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    NotebookClient(notebook, timeout=300).execute()
    output = notebook.cells[1].outputs[0]
    assert output["metadata"]["image/png"]["alt"] == "Figure: A <b>. Axes: loss against dose."
    page = write_html(notebook, "t")
    assert page.count("<img") == 1 and 'alt="Figure: A &lt;b&gt;. Axes: loss against dose."' in page


def test_panels_and_series_are_named():
    figure, axes = plt.subplots(1, 3)
    for axis, name in zip(axes, ("review", "narrative", "hidden"), strict=True):
        axis.plot([1, 2], label="wanda")
        axis.plot([2, 1], label="ria")
        axis.set(title=name, xlabel="sparsity")
    axes[0].set_ylabel("added\nloss")
    axes[2].set_visible(False)
    figure.legend(*axes[0].get_legend_handles_labels())
    figure.suptitle("What each allocation costs.")
    plt.close(figure)
    assert describe_figure(figure) == (
        "Figure: What each allocation costs. Panel “review”: added loss against sparsity. Panel “narrative”: sparsity. "
        "Shown: wanda, ria."
    )


@pytest.mark.parametrize(("count", "end"), [(12, "s11."), (14, "s11 and 2 more.")])
def test_long_legends_are_counted(count, end):
    figure, axis = plt.subplots()
    for number in range(count):
        axis.plot([1, 2], label=f"s{number}")
    axis.legend()
    plt.close(figure)
    assert describe_figure(figure).endswith(end)


def test_outside_a_notebook_nothing_happens():
    before = plt.get_backend()
    show_alt_text()
    assert plt.get_backend() == before
