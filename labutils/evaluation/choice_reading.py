"""The log-likelihoods of an item's choices, read in the fastest way that a model takes.

Nothing is looked up by a model's name: a fast way is tried on one text, and must give what a whole forward pass gives.
"""

import logging
from collections.abc import Sequence

import torch
from jaxtyping import Float32, Float64
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.core.progress import progress
from labutils.evaluation.batching import batches_of, rows_at_once
from labutils.evaluation.choice_tokens import Candidate, Row, packed_rows, plain_rows
from labutils.evaluation.readout import check_finite_values, read_rows
from labutils.models.modes import device_of, eval_mode
from labutils.models.structure import check_token_ids

WAYS = {"prompt once": (packed_rows, True), "choice by choice": (list, True), "all logits": (list, False)}
# Of attention, as configurations say.
WINDOWS = ("sliding_window", "attention_window_size", "attention_chunk_size", "window_size", "local_attention")

logger = logging.getLogger("labutils")


def choice_log_likelihoods(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: Sequence[Sequence[Candidate]],
    *,
    batch_size: int = 32,
) -> tuple[list[Float64[Tensor, " choices"]], str]:
    """log p of every choice given its prompt, in nats, summed over its tokens, and in which of the `WAYS` it was read.

        sums, way = choice_log_likelihoods(model, tokenizer, [encode_choices(tokenizer, row, 512)[0] for row in rows])

    The ways, fastest first: the prompt of an item once, under a mask by which its choices do not see each other, the
    head where tokens are predicted ("prompt once"); a row for each choice, the head likewise ("choice by choice");
    whole forward passes ("all logits"). The first that gives on one text what the last gives there reads all others.

    Raises:
        ValueError: ids outside the vocabulary, or logits that are NaN or infinite (the item is named).
    """
    check_token_ids(model, [candidate.ids for item in items for candidate in item])
    names = [candidate.item for item in items for candidate in item]
    starts = torch.tensor([0, *map(len, items)]).cumsum(0).tolist()
    plain = [plain_rows(item, start) for item, start in zip(items, starts, strict=False)]
    sums = torch.zeros(len(names), dtype=torch.float64)
    with eval_mode(model):
        trial, packs = _trial_item(model, plain)
        way, found = _fastest_way(model, tokenizer, plain[trial], names, packs)
        form, narrow = WAYS[way]
        if found is not None:
            _add(sums, form(plain[trial]), found, names)
        done = trial if found is not None else -1
        rows = [row for place, texts in enumerate(plain) if place != done for row in form(texts)]
        for packed in (True, False):  # they need other masks
            some = [row for row in rows if bool(row.branches) == packed]
            most = max((len(row.reads) if narrow else len(row.ids) for row in some), default=1)
            size = rows_at_once(model, batch_size, most)
            batches = list(batches_of([len(row.ids) for row in some], size, device_of(model)))
            for chosen in progress(batches, description="score choices", unit="batch"):
                batch = [some[place] for place in chosen]
                _add(sums, batch, read_rows(model, tokenizer, batch, narrow=narrow), names)
    return list(sums.split([len(item) for item in items])), way


def _add(
    sums: Float64[Tensor, " choices"], rows: Sequence[Row], values: Float32[Tensor, " reads"], names: Sequence[object]
) -> None:
    owners = torch.tensor([index for row in rows for _, _, index in row.reads])
    check_finite_values(values, [names[owner] for owner in owners], "item")
    sums.index_add_(0, owners, values.double())


def _trial_item(model: PreTrainedModel, plain: Sequence[list[Row]]) -> tuple[int, bool]:
    """The item that the ways are tried on, and whether its prompt can be read once.

    It is the one with the longest packed row, on which whatever depends on distance shows; without such, the shortest.
    """
    config = model.config.get_text_config()
    sizes = [getattr(config, name, None) for name in WINDOWS]
    window = min((size for size in sizes if isinstance(size, int) and size > 0), default=None)
    packed = [sum(len(row.ids) for row in packed_rows(rows) if row.branches) for rows in plain]
    fits = max(packed) > 0 and (window is None or max(packed) <= window)
    if fits:
        return packed.index(max(packed)), True
    lengths = [sum(len(row.ids) for row in rows) for rows in plain]
    return lengths.index(min(lengths)), False


def _fastest_way(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: list[Row], names: Sequence[object], packs: bool
) -> tuple[str, Float32[Tensor, " reads"] | None]:
    """The first way that reads off an item's last text what a whole forward pass gives, and what it read of the item.

    The last text stands furthest from its own place in a packed row. `packs` says whether reading the prompt once is
    among the ways; where it is the one, all reads of the item's packed row come back, else None.
    """
    wanted = read_rows(model, tokenizer, rows[-1:], narrow=False)
    check_finite_values(wanted, [names[index] for _, _, index in rows[-1].reads], "item")
    for way in list(WAYS)[0 if packs else 1 : -1]:
        form, narrow = WAYS[way]
        tried = form(rows)[-1:]
        try:
            found = read_rows(model, tokenizer, tried, narrow=narrow)
            error = (found[-len(wanted) :] - wanted).abs().max().item()
            # Rounding alone hides much in half precision, such as positions that a model does not listen to.
            limit = 2 * torch.finfo(model.dtype).eps ** 0.5  # 0.0007 nats a token in float32, 0.18 in bfloat16
            if way == "prompt once" and limit > 0.01:
                moved = read_rows(model, tokenizer, tried, narrow=narrow, own_positions=False)
                limit = min(limit, (found - moved).abs().max().item() / 4)
        except Exception as problem:  # whatever a model says to a mask or to positions that it does not take
            logger.info("%s: choices cannot be read by %r: %s", type(model).__name__, way, problem)
            continue
        if error <= limit:
            return way, found if way == "prompt once" else None
        logger.info("%s: by %r log-likelihoods are off by %.2g nats a token", type(model).__name__, way, error)
    return list(WAYS)[-1], None
