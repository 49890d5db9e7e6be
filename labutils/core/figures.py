"""How every figure ends, so that Jupyter shows it once. Palette and style are those of `labutils.plots`."""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure


def close_figure(figure: Figure) -> Figure:
    """The figure, released from pyplot: a notebook then shows it once, as the value of its cell."""
    plt.close(figure)
    return figure


def finish_figure(
    figure: Figure, title: str, note: str = "", *, legend_of: Axes | None = None, note_height: float = -0.02
) -> Figure:
    """Title above and note below all axes, laid out and closed; the last line of a function that draws.

        return finish_figure(figure, title, "bars: 95 % intervals over items", legend_of=axes[0])

    Args:
        legend_of: the axes whose legend stands to the right for all of them; without it no legend is added.
        note_height: where the note stands, as a share of the figure's height from its lower edge.
    """
    if legend_of is not None:
        handles, labels = legend_of.get_legend_handles_labels()
        figure.legend(handles, labels, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    if note:
        figure.text(0.01, note_height, note, fontsize=9, color="0.35")
    figure.tight_layout()
    return close_figure(figure)
