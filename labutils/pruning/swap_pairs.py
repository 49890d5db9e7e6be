"""Which pairs of a kept and a dropped weight are looked at by the search that exchanges them.

All of this is in coordinates in which the Hessian has a unit diagonal, so that it holds correlations.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

LIST = 32  # kept, and as many dropped weights, of a row that are exchanged without a look at the others
LEVELS = 12  # slopes at which a bound is computed
CHUNK_BYTES = 32 * 2**20  # of the pairs that are looked at together


class Pairs(NamedTuple):
    """Inputs whose weights may be exchanged: of every row as many."""

    kept: Int[Tensor, "rows kept"]
    dropped: Int[Tensor, "rows dropped"]

    def only(self, chosen: Tensor) -> "Pairs":
        return Pairs(*(field[chosen] for field in self))


class Costs(NamedTuple):
    """What dropping a kept weight costs, a, and restoring a dropped one, b; infinite for the others."""

    drop: Float[Tensor, "rows in"]
    restore: Float[Tensor, "rows in"]

    @classmethod
    def of(cls, weight: Tensor, mask: Tensor, pull: Tensor) -> "Costs":
        own, crossed = weight.square(), weight * pull * 2
        # 1 / m − 1 is nothing for one and infinite for zero, and several times as quick as to fill by a mask
        left, gone = (each.to(weight.dtype).reciprocal_().sub_(1) for each in (mask, ~mask))
        return cls(left.add_(own).add_(crossed), gone.add_(own).sub_(crossed))

    def only(self, chosen: Tensor) -> "Costs":
        return Costs(*(field[chosen] for field in self))


def entries(matrix: Float[Tensor, "in in"], rows: Int[Tensor, "*many"], columns: Int[Tensor, "*same"]) -> Tensor:
    """`matrix[rows, columns]` of a contiguous matrix, in a third of the time on a processor."""
    places = rows * matrix.shape[1] + columns
    return matrix.view(-1).index_select(0, places.flatten()).view(places.shape)


def cheapest_pairs(costs: Costs) -> Pairs:
    """The cheapest weights of every row; its own order is kept, so that ties go to the lowest input."""
    size = min(LIST, costs.drop.shape[1])
    return Pairs(*(of.topk(size, largest=False, sorted=False).indices.sort(dim=1).values for of in costs))


def helpful_pairs(
    weight: Float[Tensor, "rows in"], costs: Costs, hessian: Float[Tensor, "in in"], largest: Float[Tensor, " in"],
    least: Float[Tensor, " rows"],
) -> tuple[Pairs, Bool[Tensor, " rows"]]:  # fmt: skip
    """The weights with the best exchanges among all pairs of the rows, and whether a row has one that helps."""
    size, best = weight.abs(), Costs(torch.full_like(weight, torch.inf), torch.full_like(weight, torch.inf))
    masks = (_bounds(size, largest, *costs) < -least[:, None], _bounds(size, largest, *costs[::-1]) < -least[:, None])
    masks = Costs(*(mask & other.any(dim=1, keepdim=True) for mask, other in zip(masks, masks[::-1], strict=True)))
    kept, dropped = (_by_row(mask, weight, of) for mask, of in zip(masks, costs, strict=True))
    found: list[tuple[Tensor, Tensor]] = []
    # of each row a part of the Hessian of its own, which is fetched by whole rows of it
    for (inputs, own, drop), (others, theirs, restore) in zip(kept, dropped, strict=True):
        if len(inputs):
            change = hessian.index_select(0, inputs).index_select(1, others).mul_(theirs.mul(-2))
            change.mul_(own[:, None]).add_(drop[:, None]).add_(restore)
            found.append((change.amin(dim=1), change.amin(dim=0)))
    if found:
        for mask, of, values in zip(masks, best, zip(*found, strict=True), strict=True):
            of.masked_scatter_(mask, torch.cat(values))
    return cheapest_pairs(best), best.drop.amin(dim=1) < -least


def _by_row(mask: Bool[Tensor, "rows in"], *of: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Of every row the inputs where the mask is true, and what some tensors hold there."""
    counts = mask.count_nonzero(dim=1).tolist()
    inputs = mask.nonzero()[:, 1]
    return zip(inputs.split(counts), *(values[mask].split(counts) for values in of), strict=True)


def pairs_in_groups(
    weight: Float[Tensor, "rows in"], costs: Costs, hessian: Float[Tensor, "in in"], group_m: int,
    least: Float[Tensor, " rows"],
) -> tuple[Pairs, Bool[Tensor, " rows"]]:  # fmt: skip
    """The same where a pair must be of one group of `group_m` inputs: few enough to look at all of them."""
    grouped = hessian.reshape(len(hessian) // group_m, group_m, -1, group_m)
    blocks = torch.stack([grouped[i, :, i] for i in range(len(grouped))])
    step = max(1, CHUNK_BYTES // (weight.element_size() * 2 * weight.shape[1] * group_m))
    found = []
    for part in torch.arange(len(weight), device=weight.device).split(step):
        own, drop, restore = (of[part].reshape(len(part), -1, group_m) for of in (weight, *costs))
        change = blocks * (-2 * own[..., :, None] * own[..., None, :])
        change.add_(drop[..., :, None]).add_(restore[..., None, :])
        found.append(Costs(change.amin(dim=3).flatten(1), change.amin(dim=2).flatten(1)))
    best = Costs(torch.cat([of.drop for of in found]), torch.cat([of.restore for of in found]))
    return cheapest_pairs(best), best.drop.amin(dim=1) < -least


def _bounds(size: Tensor, largest: Tensor, costs: Tensor, others: Tensor) -> Float[Tensor, "rows in"]:
    """What no pair of a weight is below; min over q of (b_q − t s_q) falls with t, so a larger t will do.

    The levels of t are closer to each other where they are small: there are the weights that might be exchanged.
    """
    slope = (2 * largest * size).masked_fill_(costs == torch.inf, 0.0)
    steepest = slope.amax(dim=1, keepdim=True).clamp(min=torch.finfo(slope.dtype).tiny)
    shares = [(level / LEVELS) ** 2 for level in range(LEVELS + 1)]
    levels = [torch.addcmul(others, size, steepest, value=-share).amin(dim=1) for share in shares]
    level = (slope / steepest).sqrt_().mul_(LEVELS).ceil_().long()
    return torch.stack(levels, dim=1).gather(1, level).add_(costs)
