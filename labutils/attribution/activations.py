"""Mean activations of all neurons of all blocks on words, in one forward pass over the texts.

Only running sums are kept, one number per word and neuron: memory does not depend on the number of texts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.attribution.neurons import MlpLayer, find_mlp_layers, hooked_neurons
from labutils.attribution.words import Row, read_rows
from labutils.core.options import suggest
from labutils.core.progress import progress
from labutils.data.words import Terms, count_words, term_key
from labutils.evaluation.batching import context_length, padded_batches
from labutils.models.modes import device_of, eval_mode
from labutils.models.structure import check_token_ids

VALUES = ("signed", "absolute")
SUMS_AT_MOST = 2**32  # bytes of running sums: words × neurons × 8
ROWS_AT_ONCE = 256  # rows sorted by length together, so that batches hold little padding


@dataclass(frozen=True)
class WordActivations:
    """Mean activations of all neurons on some words.

    Attributes:
        words: the words that occur often enough, spelled as given.
        counts: their occurrences.
        means: per block, the mean activation over the occurrences.
        token_means: per block, the neurons' mean over all tokens of the texts (special tokens are left out).
        deviations: per block, the root mean square over the same tokens of the activation's distance from that mean.
        absent: words that were asked for and do not occur often enough.
    """

    words: tuple[str, ...]
    counts: Int64[Tensor, " words"]
    means: list[Float64[Tensor, "words width"]]
    token_means: list[Float64[Tensor, " width"]]
    deviations: list[Float64[Tensor, " width"]]
    absent: tuple[str, ...]

    def select(self, words: Sequence[str]) -> list[int]:
        """The positions of those of `words` that were measured, however they are spelled."""
        places = {term_key(word): place for place, word in enumerate(self.words)}
        return [places[key] for key in dict.fromkeys(map(term_key, words)) if key in places]


def measure_words(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    words: Sequence[str] | None = None,
    *,
    min_count: int = 1,
    value: str = "signed",
    batch_size: int = 16,
) -> WordActivations:
    """Mean activations of all neurons of all blocks on words.

        found = measure_words(model, tokenizer, texts, ["chest pain", "fever"], min_count=5)

    Args:
        texts: long ones are read in windows of the model's context; see `read_rows`.
        words: terms of one or several words; None takes every word of the texts.
        min_count: occurrences that a word must have.
        value: "signed" activations, or "absolute" ones, taken token by token before they are averaged inside a word.
        batch_size: rows per forward pass; speed and memory only.

    Raises:
        ValueError: no texts, no word that occurs often enough, more sums than `SUMS_AT_MOST`, activations that are not
            finite (the block is named), or a tokenizer without character offsets.
        LookupError: the model's MLPs cannot be found.
    """
    terms = _check_request(texts, words, min_count, value, batch_size)
    layers = find_mlp_layers(model)
    n_neurons = sum(layer.width for layer in layers)
    if (size := len(terms.names) * n_neurons * 8) > SUMS_AT_MOST:
        raise ValueError(
            f"{len(terms.names):,} words × {n_neurons:,} neurons need {size / 2**30:.1f} GiB of sums, more than "
            f"{SUMS_AT_MOST / 2**30:.0f} GiB: name fewer words, or raise min_count"
        )
    sums = _Sums(len(terms.names), layers, device_of(model), value)
    rows = read_rows(tokenizer, texts, terms, limit=context_length(model, tokenizer))
    batches = progress(
        _batches(rows, batch_size), total=-(-len(texts) // batch_size), description="read neurons", unit="batch"
    )
    with eval_mode(model), hooked_neurons(layers, sums.receive):
        for batch in batches:
            ids = [row.ids for row in batch]
            check_token_ids(model, ids)
            ((chosen, padded, mask),) = padded_batches(ids, len(ids), tokenizer, device_of(model))
            sums.prepare([batch[index] for index in chosen], padded.shape[1])
            model.base_model(input_ids=padded, attention_mask=mask)
    return sums.result(terms.names, min_count)


def _check_request(
    texts: Sequence[str], words: Sequence[str] | None, min_count: int, value: str, batch_size: int
) -> Terms:
    """The terms to look for; ValueError for anything that cannot be used."""
    if value not in VALUES:
        raise ValueError(f"value={value!r} is not one of {', '.join(VALUES)}.{suggest(value, VALUES)}")
    if min_count < 1 or batch_size < 1:
        raise ValueError(f"min_count={min_count} and batch_size={batch_size} must be at least 1")
    if isinstance(texts, str) or len(texts) == 0:
        raise ValueError("texts must be a list with at least one text")
    if words is not None:
        if isinstance(words, str) or len(words) == 0:
            raise ValueError("words must be a list with at least one word, or None for all words of the texts")
        return Terms(words)
    counts = count_words(texts)
    names = sorted(word for word, count in counts.items() if count >= min_count)
    if not names:
        most = max(counts.values(), default=0)
        raise ValueError(f"no word of the {len(texts)} texts occurs {min_count} times (most: {most}); give more text")
    return Terms(names)


def _batches(rows: Iterator[Row], batch_size: int) -> Iterator[list[Row]]:
    """Rows of similar length together; at most `ROWS_AT_ONCE` are held."""
    held: list[Row] = []
    for row in rows:
        held.append(row)
        if len(held) == ROWS_AT_ONCE:
            yield from _sorted_batches(held, batch_size)
            held = []
    yield from _sorted_batches(held, batch_size)


def _sorted_batches(rows: list[Row], batch_size: int) -> Iterator[list[Row]]:
    ordered = sorted(rows, key=lambda row: -len(row.ids))
    for start in range(0, len(ordered), batch_size):
        yield ordered[start : start + batch_size]


class _Sums:
    """Running sums over batches: per word, and over all tokens of the texts."""

    def __init__(self, n_words: int, layers: Sequence[MlpLayer], device: torch.device, value: str) -> None:
        self.layers, self.value, self.n_tokens = layers, value, 0
        options = {"dtype": torch.float64, "device": device}
        self.words = [torch.zeros(n_words, layer.width, **options) for layer in layers]
        self.tokens = [torch.zeros(layer.width, **options) for layer in layers]
        self.squares = [torch.zeros(layer.width, **options) for layer in layers]
        self.counts = torch.zeros(n_words, dtype=torch.int64)

    def prepare(self, rows: Sequence[Row], length: int) -> None:
        """Note where the next batch, whose rows are padded to `length`, holds content and occurrences."""
        device = self.tokens[0].device
        content = [row * length + position for row, (_, span, _) in enumerate(rows) for position in span]
        pairs = [
            (row * length + token, term, 1 / (last - first))
            for row, (_, _, occurrences) in enumerate(rows)
            for term, first, last in occurrences
            for token in range(first, last)
        ]
        self.n_tokens += len(content)
        for row in rows:
            for occurrence in row.occurrences:
                self.counts[occurrence.term] += 1
        self.content = torch.tensor(content, device=device)
        self.read = torch.tensor([token for token, _, _ in pairs], dtype=torch.int64, device=device)
        terms = torch.tensor([term for _, term, _ in pairs], dtype=torch.int64, device=device)
        self.shares = torch.tensor([share for _, _, share in pairs], device=device).unsqueeze(1)
        self.terms, self.places = terms.unique(return_inverse=True)

    def receive(self, block: int, inner: Float[Tensor, "tokens width"]) -> None:
        """Add the batch: a word's tokens share its weight of one; sums within the batch are float32."""
        content = inner[self.content].double()
        self.tokens[block] += content.sum(0)
        self.squares[block] += content.square().sum(0)
        values = inner[self.read].float()
        values = (values.abs() if self.value == "absolute" else values) * self.shares
        within = values.new_zeros(len(self.terms), values.shape[1]).index_add_(0, self.places, values)
        self.words[block].index_add_(0, self.terms, within.double())

    def result(self, names: tuple[str, ...], min_count: int) -> WordActivations:
        for layer, squares in zip(self.layers, self.squares, strict=True):
            if not torch.isfinite(squares).all():
                raise ValueError(f"the activations that enter {layer.name} are NaN or infinite; check the model")
        kept = self.counts >= min_count
        if not kept.any():
            most = int(self.counts.max())
            raise ValueError(f"none of the {len(names)} words occurs {min_count} times in the texts (most: {most})")
        counts = self.counts[kept]
        places = kept.nonzero().flatten()
        words = [sums[places.to(sums.device)].cpu() / counts.unsqueeze(1) for sums in self.words]
        means = [tokens.cpu() / self.n_tokens for tokens in self.tokens]
        squares = [total.cpu() / self.n_tokens for total in self.squares]
        deviations = [(square - mean.square()).clamp_min(0).sqrt() for square, mean in zip(squares, means, strict=True)]
        present = tuple(name for name, keep in zip(names, kept.tolist(), strict=True) if keep)
        absent = tuple(name for name, keep in zip(names, kept.tolist(), strict=True) if not keep)
        return WordActivations(present, counts, words, means, deviations, absent)
