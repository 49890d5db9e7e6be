"""The calibration as a model reads it: token ids and what stands beside them, checked."""

import inspect
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor
from transformers import PreTrainedModel

from labutils.models.positions import context_length, has_learned_positions
from labutils.models.structure import check_token_ids

Tokens = Tensor | Mapping[str, Tensor]

LOGGER = logging.getLogger("labutils")


@dataclass(frozen=True)
class CalibrationTexts:
    """A calibration of several texts, taken wherever a calibration is; each part token ids or a mapping, as there.

    >>> lab.prune(model, lab.pruning.CalibrationTexts(domain, general=general), method="d-pruner", sparsity=0.5)

    Attributes:
        text: what inputs are read on: the domain's text, for scores that mix two.
        general: general text beside the domain's, for such scores (`d-pruner`, `gaprune`); others pass it over.
        gradients: what gradients of the model's loss are taken on, where that is not `text` (`gblm`, `pruner-zero` …).
    """

    text: Tokens
    general: Tokens | None = None
    gradients: Tokens | None = None


Calibration = Tokens | CalibrationTexts


def main_text(calibration: Calibration | Sequence[int]) -> Tokens | Sequence[int]:
    """What a calibration's inputs are read on; what is no `CalibrationTexts`, such as a shape, as it is."""
    return calibration.text if isinstance(calibration, CalibrationTexts) else calibration


def check_calibration(calibration: Calibration, model: PreTrainedModel) -> dict[str, Int64[Tensor, "n seq_len"]]:
    """The calibration as a dictionary of tensors on the CPU, or a ValueError that says what is wrong with it.

    Of `CalibrationTexts` the text on which inputs are read.

    Sequences beyond the length that a model with rotary positions was trained on are told of, by the logger.
    """
    calibration = main_text(calibration)
    inputs = dict(calibration) if isinstance(calibration, Mapping) else {"input_ids": calibration}
    ids = inputs.get("input_ids")
    if not isinstance(ids, Tensor) or ids.dim() != 2 or ids.dtype != torch.int64:
        raise ValueError(
            "The calibration must be an int64 tensor [sequences, length], or a mapping with such `input_ids`."
        )
    check_token_ids(model, ids, "the calibration")
    _check_beside(inputs, model)
    _check_length(ids.shape[1], model)
    return {key: value.cpu() for key, value in inputs.items()}


def _check_beside(inputs: dict[str, Tensor], model: PreTrainedModel) -> None:
    """What stands beside the token ids: tensors with one row a sequence, which the model takes, and a usable mask."""
    shape = inputs["input_ids"].shape
    takes = inspect.signature(model.forward).parameters
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values())
    for name, value in inputs.items():
        if not isinstance(value, Tensor) or value.dim() == 0 or len(value) != shape[0]:
            given = f"shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"the calibration's {name!r} must be a tensor with {shape[0]} rows; it is {given}.")
        if name not in takes and not takes_all:
            raise ValueError(f"{type(model).__name__} takes no {name!r}; leave it out of the calibration.")
    mask = inputs.get("attention_mask")
    if mask is None:
        return
    if mask.shape != shape or not ((mask == 0) | (mask == 1)).all():
        raise ValueError(
            f"the calibration's attention_mask must be 1 for a token and 0 for padding, of the shape {list(shape)} of "
            f"its input_ids; it has the shape {list(mask.shape)} and values from {mask.min():g} to {mask.max():g}."
        )
    if not mask.any():
        raise ValueError("the calibration's attention_mask leaves no token: it is 0 everywhere.")


def _check_length(length: int, model: PreTrainedModel) -> None:
    limit = context_length(model)
    if limit is None or length <= limit:
        return
    if has_learned_positions(model):
        raise ValueError(
            f"the calibration's sequences have {length} tokens, and {type(model).__name__} has positions for {limit}; "
            f"cut them to at most {limit}."
        )
    LOGGER.warning(
        "the calibration's sequences have %d tokens, more than the %d that %s was trained on; it computes with them, "
        "but what it does there is not what it does in use.", length, limit, type(model).__name__
    )  # fmt: skip
