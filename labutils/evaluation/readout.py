"""Log-likelihoods of single tokens: where the model's head is run, and how its logits are read."""

import contextlib
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.evaluation.batching import pad_rows
from labutils.evaluation.choice_tokens import Row, branch_numbers, packed_mask, packed_positions
from labutils.models.modes import device_of

LOGITS_IN_CACHE = 2**19  # normalised at once: two mebibytes in float32


def log_likelihoods(
    logits: Float[Tensor, "places vocabulary"], places: Int64[Tensor, " n"], tokens: Int64[Tensor, " n"]
) -> Float32[Tensor, " n"]:
    """log p of each token by the logits of its place: the logit minus the log of the sum of all exponentials.

        log_likelihoods(logits, torch.arange(len(logits)), tokens)

    Computed in float32, some places at a time, so that no float32 copy of all logits is made. A NaN or an infinite
    logit gives a value that is not finite.
    """
    step = max(1, LOGITS_IN_CACHE // logits.shape[1])
    sums = torch.cat([part.float().logsumexp(-1) for part in logits.split(step)])
    return logits[places, tokens].float() - sums[places]


def check_finite_values(values: Sequence[float] | Float[Tensor, " n"], names: Sequence[object], what: str) -> None:
    """ValueError naming the first whose log-likelihood is NaN or infinite.

    >>> check_finite_values([-1.0, float("nan")], [3, 4], "item")  # "the logits of item 4 are NaN or infinite; …"
    """
    finite = torch.isfinite(torch.as_tensor(values)).tolist()
    if not all(finite):
        raise ValueError(
            f"the logits of {what} {names[finite.index(False)]} are NaN or infinite; check the model's weights and its "
            "precision"
        )


@contextlib.contextmanager
def narrowed_head(model: PreTrainedModel, rows: Int64[Tensor, " n"], places: Int64[Tensor, " n"]) -> Iterator[None]:
    """Within it the model's head reads the hidden states at these places alone, as one sequence of them.

    >>> with narrowed_head(model, torch.tensor([0, 1]), torch.tensor([5, 3])):
    ...     logits = model(input_ids=ids).logits  # [1, 2, vocabulary]
    """
    head = model.get_output_embeddings()

    def choose(module: torch.nn.Module, args: tuple) -> tuple:
        return (args[0][rows, places].unsqueeze(0), *args[1:])

    with head.register_forward_pre_hook(choose):
        yield


def read_rows(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
    *,
    narrow: bool,
    own_positions: bool = True,
) -> Float32[Tensor, " reads"]:
    """log p of every read of some rows, in their order, on the CPU.

        read_rows(model, tokenizer, plain_rows(candidates), narrow=False)

    Args:
        narrow: run the head at the places that are read, instead of at all.
        own_positions: each token of a packed row has the position of its own text; False counts through the row, which
            is wrong, and shows whether the model listens.

    Raises:
        ValueError: `narrow` of a model whose head does not stand apart; anything that a model says to a mask of four
            dimensions or to positions that it does not take.
    """
    device, ids = device_of(model), pad_rows([row.ids for row in rows], tokenizer)
    length = ids.shape[1]
    reads = [(batch * length + place, token) for batch, row in enumerate(rows) for place, token, _ in row.reads]
    where, tokens = torch.tensor(reads, device=device).unbind(1)
    where, order = where.unique(return_inverse=True)  # a place may be read for many choices
    batch, place = where // length, where % length
    with narrowed_head(model, batch, place) if narrow else contextlib.nullcontext():
        logits = model(input_ids=ids.to(device), **_masks(model, rows, length, own_positions), use_cache=False).logits
    if narrow and logits.shape[:2] != (1, len(where)):
        raise ValueError(f"the head of {type(model).__name__} gives logits {list(logits.shape)}, not apart by place")
    return log_likelihoods(logits[0] if narrow else logits[batch, place], order, tokens).cpu()


def _masks(model: PreTrainedModel, rows: Sequence[Row], length: int, own_positions: bool) -> dict[str, Tensor]:
    """What tells the model which tokens see which: padding alone, or the branches of packed rows, added to scores."""
    numbers, device = branch_numbers(rows, length), device_of(model)
    if not any(row.branches for row in rows):
        return {"attention_mask": (numbers >= 0).long().to(device)}
    hidden = ~packed_mask(numbers).to(device)
    added = torch.zeros(hidden.shape, dtype=model.dtype, device=device)
    positions = packed_positions(rows, length) if own_positions else torch.arange(length).expand(len(rows), -1)
    return {
        "attention_mask": added.masked_fill_(hidden, torch.finfo(model.dtype).min),
        "position_ids": positions.to(device),
    }
