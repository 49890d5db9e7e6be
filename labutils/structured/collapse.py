"""Fold a run of blocks into its first one instead of deleting the rest (LaCo, Yang et al., Findings of EMNLP 2024)."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from labutils.core.options import suggest
from labutils.models.structure import find_blocks, prunable_layers
from labutils.structured.removal import Removal, check_numbers
from labutils.structured.surgery import carve

Merge = Callable[[Sequence[Float[Tensor, "..."]]], Float[Tensor, "..."]]


def sum_of_differences(weights: Sequence[Float[Tensor, "..."]]) -> Float[Tensor, "..."]:
    """W_l + Σ_k (W_{l+k} − W_l), as the paper says.

    >>> sum_of_differences([torch.tensor(1.0), torch.tensor(3.0), torch.tensor(4.0)])
    tensor(6.)
    """
    return weights[0] + sum(other - weights[0] for other in weights[1:])


def last_of_run(weights: Sequence[Float[Tensor, "..."]]) -> Float[Tensor, "..."]:
    """W_{l+m}. The authors' notebook subtracts the merged weight so far, not W_l, so that only the last one is left."""
    return weights[-1].clone()


def mean_of_run(weights: Sequence[Float[Tensor, "..."]]) -> Float[Tensor, "..."]:
    """The plain average."""
    return torch.stack(list(weights)).mean(dim=0)


MERGES: dict[str, Merge] = {
    "laco_paper": sum_of_differences,
    "laco_code": last_of_run,
    "mean": mean_of_run,
}


def collapse_blocks(model: PreTrainedModel, blocks: Sequence[int], *, how: str = "laco_paper") -> PreTrainedModel:
    """A smaller model in which a run of blocks has become one; its norms are those of the first.

    >>> smaller = lab.structured.collapse_blocks(model, [4, 5, 6])  # two blocks fewer

    Args:
        blocks: two or more consecutive ones, in their order.
        how: "laco_paper" adds to the first block's matrices and biases the differences of the others from them;
            "laco_code", what the authors' notebook computes, keeps the last block's; "mean" averages.

    Raises:
        ValueError: blocks that are not there or do not follow each other.
        LookupError: an unknown way, or blocks that are not alike.
    """
    run = list(blocks)
    check_numbers(run, len(find_blocks(model)[1]), "block", may_be_all=True)
    if len(run) < 2 or run != list(range(run[0], run[0] + len(run))):
        raise ValueError(f"blocks={run} must be two or more that follow each other, such as [4, 5, 6].")
    if how not in MERGES:
        raise LookupError(f"there is no way {how!r} to merge blocks.{suggest(how, MERGES)} Known: {', '.join(MERGES)}.")
    smaller = carve(model, Removal(blocks=tuple(run[1:])))
    dense, target = find_blocks(model)[1], find_blocks(smaller)[1][run[0]]
    with torch.no_grad():
        for name in _matrices(target):
            weights = [dense[block].get_parameter(name).detach() for block in run]
            if len({weight.shape for weight in weights}) > 1:
                raise LookupError(f"{name} has other shapes in other blocks of the run {run}; they cannot be merged.")
            merged = MERGES[how]([weight.double() for weight in weights])  # half precision would lose the differences
            target.get_parameter(name).copy_(merged)
    return smaller


def _matrices(block: torch.nn.Module) -> list[str]:
    """The parameters of a block's matrices: weights, biases, fused experts; no norms and no routers."""
    owners = {name.partition("[")[0] if "[" in name else name: layer for name, layer in prunable_layers(block).items()}
    own = dict(block.named_parameters())
    return [name for name in own if any(name == owner or name.startswith(f"{owner}.") for owner in owners)]
