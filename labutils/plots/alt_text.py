"""Alternative text of figures: what a figure shows, for readers who do not see it, made from the figure itself."""

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

PNG = "image/png"
MOST_SERIES = 12  # names of a legend; the rest is counted


def describe_figure(figure: Figure) -> str:
    """Title, axes and names of the series, as one text without line breaks.

    >>> describe_figure(lab.plots.loss_curves(rows, title="What each allocation costs"))
    'Figure: What each allocation costs. Panel “review”: added loss (nats) against sparsity (share of zeros). Shown: …'

    What it means stands in the sentence under the figure; this says which figure it is.
    """
    axes = [axis for axis in figure.axes if axis.get_visible() and axis.axison and axis.get_label() != "<colorbar>"]
    own = [axis.get_title() for axis in axes] if len(axes) == 1 else []
    title = _first_text([figure.get_suptitle(), *(axis.get_title(loc="left") for axis in axes), *own])
    parts = [f"Figure: {title}" if title else "Figure"]
    parts += [text for text in (_describe_panel(axis, title) for axis in axes) if text]
    names = list(dict.fromkeys(name for part in (figure, *axes) for name in _legend(part)))
    if names:
        rest = f" and {len(names) - MOST_SERIES} more" if len(names) > MOST_SERIES else ""
        parts.append(f"Shown: {', '.join(names[:MOST_SERIES])}{rest}")
    return " ".join(f"{' '.join(part.split()).rstrip('.')}." for part in parts)


def show_alt_text() -> None:
    """From now on, notebooks store the description of every figure beside its image; outside a notebook, nothing.

    >>> show_alt_text()

    HTML pages made from the notebook show it as the image's `alt`.
    """
    try:
        shell = get_ipython()  # IPython defines the name in its own sessions
    except NameError:
        return
    plt.switch_backend(plt.get_backend())  # a backend that loads later would bring back its own way of showing
    formatter = shell.display_formatter.formatters[PNG]
    shown = formatter.for_type(Figure)
    if shown is None or getattr(shown, "tells_alt", False):
        return

    def with_alt_text(figure: Figure) -> object:
        image = shown(figure)
        image, about = image if isinstance(image, tuple) else (image, {})
        return None if image is None else (image, about | {"alt": describe_figure(figure)})

    with_alt_text.tells_alt = True
    formatter.for_type(Figure, with_alt_text)


def _describe_panel(axis: Axes, title: str) -> str:
    across, up = axis.get_xlabel(), axis.get_ylabel()
    own = _first_text([axis.get_title(), axis.get_title(loc="left")])
    head = f"Panel “{own}”" if own and own != title else "Axes" if across or up else ""
    told = f"{up} against {across}" if across and up else across or up
    return ": ".join(filter(None, [head, told]))


def _first_text(texts: list[str]) -> str:
    return next((text for text in texts if text), "")


def _legend(part: Figure | Axes) -> list[str]:
    legends = part.legends if isinstance(part, Figure) else [part.get_legend()]
    return [text.get_text() for legend in legends if legend is not None for text in legend.get_texts()]
