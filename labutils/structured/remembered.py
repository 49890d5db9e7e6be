"""Losses that searches on one model and one calibration have in common, kept while a study makes several of them.

A greedy search for six blocks begins as one for three does, and one that spares the ends tries nearly what one that
does not tries. What a model loses on a batch with some units off does not depend on who asks.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from labutils.models.wrappers import bare_model

Off = frozenset[tuple[int, str]]  # units, as in `labutils.structured.paths`
Losses = dict[tuple[int, Off], Tensor]  # by the batch and by what is off


class _Remembered(NamedTuple):
    model: PreTrainedModel
    tokens: Tensor
    losses: dict[int, Losses]  # by the batch size


_remembered: ContextVar[_Remembered | None] = ContextVar("remembered", default=None)


@contextmanager
def losses_remembered(model: PreTrainedModel, tokens: Tensor) -> Iterator[None]:
    """Inside, no search on this model and this calibration reads a path that another one has read.

    >>> with losses_remembered(model, tokens):
    ...     for n in (1, 2, 3):
    ...         lab.drop_blocks(model, tokens, n_blocks=n, method="greedy")

    The model must stay as it is. Searches find what they would find otherwise; they count fewer runs.
    """
    before = _remembered.set(_Remembered(bare_model(model), tokens, {}))
    try:
        yield
    finally:
        _remembered.reset(before)


def known_losses(model: PreTrainedModel, inputs: Mapping[str, Tensor], batch_size: int) -> Losses:
    """What is remembered of such a search, to be read and filled; where nothing may be, a memory of its own."""
    kept = _remembered.get()
    if kept is None or kept.model is not model or set(inputs) != {"input_ids"}:
        return {}
    if not torch.equal(inputs["input_ids"].cpu(), kept.tokens.cpu()):
        return {}
    return kept.losses.setdefault(batch_size, {})
