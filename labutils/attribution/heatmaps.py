"""Word heat maps: how strongly some neurons answer each word of a text, the dense model above the pruned one.

One `WordHeatmap` shows itself as HTML in JupyterLab and in exported pages, and draws a static picture, which is what
survives on GitHub. Both use one colour scale, symmetric around zero, for both models and all texts.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float
from matplotlib import colormaps, colors
from matplotlib.figure import Figure
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.attribution.neurons import Neurons, check_neurons, find_mlp_layers, hooked_neurons
from labutils.attribution.words import encode_texts, token_range
from labutils.data.tokens import special_frame
from labutils.data.words import find_words
from labutils.evaluation.batching import context_length
from labutils.models.modes import device_of, eval_mode
from labutils.models.structure import check_token_ids
from labutils.stats.writing import write_number

COLOURS = colormaps["RdBu_r"]
LINE_LENGTH = 84  # characters per line of the static picture
CHARACTER, LINE = 0.105, 0.26  # inches, of the static picture


class Piece(NamedTuple):
    """A piece of a text: a word with its two activations, or what stands between words, without."""

    text: str
    dense: float | None
    pruned: float | None


@dataclass(frozen=True)
class WordHeatmap:
    """Texts in pieces, with the activations of some neurons in two models.

    Attributes:
        title: what is shown.
        texts: the pieces of each text, in order.
        limit: the activation at the ends of the colour scale.
    """

    title: str
    texts: list[list[Piece]]
    limit: float

    def _repr_html_(self) -> str:
        parts = [f"<div><strong>{html.escape(self.title)}</strong></div>", f"<div>{self._scale()}</div>"]
        for pieces in self.texts:
            lines = [
                f'<div><span style="color:#666;font-size:80%">{label}</span> {self._line(pieces, label)}</div>'
                for label in ("dense", "pruned")
            ]
            parts.append(f'<div style="margin:0.6em 0;line-height:1.7">{"".join(lines)}</div>')
        return "".join(parts)

    def figure(self) -> Figure:
        """The same as a static picture. Lines break between pieces; every line is drawn dense above pruned."""
        lines = [line for pieces in self.texts for line in _broken(pieces)]
        figure, axis = plt.subplots(figsize=(1 + CHARACTER * (LINE_LENGTH + 8), 1 + LINE * 2.4 * len(lines)))
        for number, line in enumerate(lines):
            for row, label in enumerate(("dense", "pruned")):
                self._draw(axis, line, label, -2.4 * number - row)
        axis.set(xlim=(-8, LINE_LENGTH), ylim=(-2.4 * len(lines) + 0.6, 0.8))
        axis.axis("off")
        axis.set_title(self.title, loc="left", parse_math=False)
        scale = plt.cm.ScalarMappable(colors.Normalize(-self.limit, self.limit), COLOURS)
        figure.colorbar(scale, ax=axis, label="mean activation", fraction=0.02, pad=0.01)
        plt.close(figure)  # so that a notebook shows it once: as the cell's value
        return figure

    def _scale(self) -> str:
        steps = [("negative", -self.limit), ("zero", 0.0), ("positive", self.limit)]
        return " ".join(f"{_span(write_number(value, '+.3g'), value, self.limit, name)}" for name, value in steps)

    def _line(self, pieces: Sequence[Piece], label: str) -> str:
        return "".join(_span(piece.text, getattr(piece, label), self.limit, label) for piece in pieces)

    def _draw(self, axis: plt.Axes, line: Sequence[Piece], label: str, height: float) -> None:
        axis.text(-8, height, label, fontsize=7, color="0.45", va="center")
        position = 0
        for piece in line:
            background, ink = _colours(getattr(piece, label), self.limit)
            if background is not None:
                axis.add_patch(plt.Rectangle((position, height - 0.45), len(piece.text), 0.9, color=background))
            axis.text(
                position + len(piece.text) / 2, height, piece.text, family="monospace", fontsize=9, color=ink,
                ha="center", va="center", parse_math=False,
            )  # fmt: skip
            position += len(piece.text)


def word_heatmap(
    dense: PreTrainedModel,
    pruned: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    neurons: Neurons,
    *,
    title: str,
) -> WordHeatmap:
    """The mean activation of some neurons on every word of every text, in a dense model and its pruned copy.

        word_heatmap(dense, pruned, tokenizer, texts[:3], [(0, 17)], title="fever")

    Inside a word of several tokens their mean counts. A text longer than the context loses its end.

    Raises:
        ValueError: no texts, or one without words; no neurons; a tokenizer without character offsets.
        LookupError: a neuron that the models do not have, or MLPs that cannot be found.
    """
    if isinstance(texts, str) or len(texts) == 0:
        raise ValueError("texts must be a list with at least one text")
    rows = []
    for text in texts:
        before, after = (_word_values(model, tokenizer, text, neurons) for model in (dense, pruned))
        rows.append(_pieces(text, before, after))
    largest = max(abs(value) for row in rows for piece in row for value in piece[1:] if value is not None)
    return WordHeatmap(title, rows, largest or 1.0)


def _word_values(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, neurons: Neurons
) -> list[tuple[int, int, float]]:
    """First and last + 1 character of each word that the model reads, and the neurons' mean activation on it."""
    layers = find_mlp_layers(model)
    chosen = check_neurons(neurons, layers)
    prefix, suffix = special_frame(tokenizer)
    room = context_length(model, tokenizer) - len(prefix) - len(suffix)
    tokens, starts, ends = (part[:room] for part in encode_texts(tokenizer, [text])[0])
    ids = torch.tensor([prefix + tokens + suffix], dtype=torch.int64, device=device_of(model))
    check_token_ids(model, ids)
    total = torch.zeros(ids.shape[1], dtype=torch.float64, device=ids.device)

    def add(block: int, inner: Float[Tensor, "tokens width"]) -> None:
        columns = torch.tensor(chosen["neuron"][chosen["block"] == block].to_numpy(dtype=int), device=inner.device)
        total.add_(inner[:, columns].double().sum(1))

    with eval_mode(model), hooked_neurons(layers, add):
        model.base_model(input_ids=ids)
    activations = (total / len(chosen)).cpu().numpy()[len(prefix) : len(prefix) + len(tokens)]
    spans = [(first, last, *token_range(starts, ends, first, last)) for _, first, last in find_words(text)]
    found = [(a, b, float(activations[first:last].mean())) for a, b, first, last in spans if first < last]
    if not found:
        raise ValueError(f"text {text!r} holds no word that the model reads; leave it out")
    return found


def _pieces(
    text: str, dense: Sequence[tuple[int, int, float]], pruned: Sequence[tuple[int, int, float]]
) -> list[Piece]:
    """The text cut before and after every word."""
    pieces, position = [], 0
    for (first, last, before), (_, _, after) in zip(dense, pruned, strict=True):
        if first > position:
            pieces.append(Piece(text[position:first], None, None))
        pieces.append(Piece(text[first:last], before, after))
        position = last
    return [*pieces, Piece(text[position:], None, None)] if position < len(text) else pieces


def _broken(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Pieces in lines of at most `LINE_LENGTH` characters; a longer piece has a line of its own, cut at its end."""
    lines: list[list[Piece]] = [[]]
    used = 0
    for piece in pieces:
        shown = piece._replace(text=piece.text.replace("\n", " ").replace("\t", " ")[:LINE_LENGTH])
        if used and used + len(shown.text) > LINE_LENGTH:
            lines.append([])
            used = 0
        lines[-1].append(shown)
        used += len(shown.text)
    return lines


def _colours(value: float | None, limit: float) -> tuple[str | None, str]:
    """Background and ink; ink is white where the background is dark."""
    if value is None:
        return None, "#222222"
    shade = COLOURS(0.5 + 0.5 * value / limit)
    luminance = float(np.dot(shade[:3], (0.2126, 0.7152, 0.0722)))
    return colors.to_hex(shade), "#ffffff" if luminance < 0.4 else "#111111"


def _span(text: str, value: float | None, limit: float, label: str) -> str:
    """A piece of text on its colour; the number shows under the pointer."""
    escaped = html.escape(text)
    background, ink = _colours(value, limit)
    if background is None:
        return escaped
    style = f"background:{background};color:{ink};border-radius:2px;padding:0 1px"
    return f'<span style="{style}" title="{html.escape(label)}: {write_number(value, "+.4g")}">{escaped}</span>'
