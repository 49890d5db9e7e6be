"""Ways of making a model smaller by the same share of its blocks' parameters, by name."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from jaxtyping import Int64
from torch import Tensor
from transformers import PreTrainedModel

from labutils.core.options import suggest
from labutils.models.structure import find_blocks
from labutils.pruning.calibration import BlockWalk
from labutils.structured import drop_blocks, drop_sublayers, shrink, shrink_by_curvature, shrink_by_losses
from labutils.structured.anatomy import count_weights, read_anatomies
from labutils.structured.collapse import collapse_blocks
from labutils.structured.report import Smaller, count_all, count_blocks
from labutils.structured.similarity import angular_distances, read_profile


class Made(NamedTuple):
    """A smaller model, and the share of its blocks' parameters that does nothing any more."""

    model: PreTrainedModel
    removed_share: float


GENERATIONS = 20
Arm = Callable[[PreTrainedModel, Tensor, int | float], Made]  # a number of blocks, whole where blocks or sublayers go


def _blocks(method: str, **options: object) -> Arm:
    return lambda model, tokens, n: _made(drop_blocks(model, tokens, n_blocks=n, method=method, **options))


def _neurons(method: str, **options: object) -> Arm:
    def make(model: PreTrainedModel, tokens: Tensor, n: int | float) -> Made:
        return _made(shrink(model, tokens, share=n / len(find_blocks(model)[1]), method=method, **options))

    return make


def _searched(method: str) -> Arm:
    """A search in 20 generations, where the default has 50: on lab-llama they reached 89 % or more of what 60 did."""
    return _neurons(method, allocation="evopress", generations=GENERATIONS)


def _by_losses(masks: int) -> Arm:
    """Bonsai with so many masks in each of four rounds; the paper has 400, in rounds of a twentieth of the units."""
    return lambda model, tokens, n: _made(
        shrink_by_losses(model, tokens, share=n / len(find_blocks(model)[1]), rounds=4, masks=masks)
    )


def _by_curvature(**options: object) -> Arm:
    return lambda model, tokens, n: _made(
        shrink_by_curvature(model, tokens, share=n / len(find_blocks(model)[1]), **options)
    )


def _made(smaller: Smaller) -> Made:
    return Made(smaller.model, smaller.report.removed_share)


def _first_kept(model: PreTrainedModel, tokens: Tensor, n: int) -> Made:
    return _made(drop_blocks(model, blocks=range(1, n + 1)))


def _sublayers(model: PreTrainedModel, tokens: Tensor, n: int) -> Made:
    return _made(drop_sublayers(model, tokens, share=n / len(find_blocks(model)[1])))


def _collapse(how: str | None) -> Arm:
    """The run that turns the last token's state least, deleted or folded into the block before it.

    Block 0 is neither deleted nor folded into: without it these models lose nine nats, which would say nothing of
    folding. (A first run of the study let it take part, and showed that.)
    """

    def make(model: PreTrainedModel, tokens: Tensor, n: int) -> Made:
        total = len(find_blocks(model)[1])
        if n > total - 2:
            raise LookupError(f"a run of {n} of {total} blocks has no two blocks before it, as folding needs.")
        distances = angular_distances(read_profile(BlockWalk(model, tokens)).last, n)
        first = 2 + int(distances[2:].argmin())
        run = list(range(first, first + n))
        smaller = drop_blocks(model, blocks=run).model if how is None else None
        if smaller is None:
            smaller = collapse_blocks(model, [first - 1, *run], how=how)
        return Made(smaller, (count_all(model) - count_all(smaller)) / count_blocks(model))

    return make


def attentions_of_two_stages(n_blocks: int, share: float, ratio: float, alpha: float = 1.5) -> int:
    """How many attentions 2SSP removes: L · S^((P_mlp/P_attention)/α), rounded (arXiv 2501.17771).

    >>> attentions_of_two_stages(30, 0.25, 3.0)
    2
    """
    return round(n_blocks * share ** (ratio / alpha))


def _two_stages(alpha: float) -> Arm:
    """2SSP: neurons first by its own score, equally many in every block, then attentions one by one by the loss.

    Where the formula gives no attention, the first stage is all. The paper's second stage reads one sequence of 2,048
    tokens; here it reads the whole calibration, as the other searches do.
    """

    def make(model: PreTrainedModel, tokens: Tensor, n: int) -> Made:
        anatomies, blocks = read_anatomies(model), find_blocks(model)[1]
        attention, mlp = (count_weights(blocks[0], anatomies[0], part) for part in ("attention", "mlp"))
        if not attention or not mlp:
            raise LookupError(f"a block of a {type(model).__name__} has no attention and neurons that can be told.")
        whole, share = count_blocks(model), n / len(blocks)
        number = attentions_of_two_stages(len(blocks), share, mlp / attention, alpha)
        narrow, report = shrink(model, tokens, share=share - number * attention / whole, method="2ssp")
        if number == 0:
            return Made(narrow, report.removed_share)
        limit = (number + 0.5) * attention / count_blocks(narrow)
        silenced = drop_sublayers(narrow, tokens, share=limit, parts=("attention",))
        return Made(silenced.model, report.removed_share + number * attention / whole)

    return make


ARMS: dict[str, Arm] = {
    "shallowest": _blocks("shallowest"),
    "shallow, first kept": _first_kept,
    "deepest": _blocks("deepest"),
    "angular": _blocks("angular"),
    "influence": _blocks("influence"),
    "SLEB": _blocks("greedy"),
    "blocks": _blocks("greedy", spare_ends=False),
    "sublayers": _sublayers,
    "delete": _collapse(None),
    "LaCo": _collapse("laco_paper"),
    "LaCo, as coded": _collapse("laco_code"),
    "average": _collapse("mean"),
    "neurons": _neurons("minitron"),
    "2SSP": _two_stages(1.5),
    "2SSP, α 1": _two_stages(1.0),
    "2SSP, α 2": _two_stages(2.0),
    "2SSP, stage 1": _neurons("2ssp"),
    "Wanda-sp": _neurons("wanda-sp"),
    "FLAP": _neurons("flap"),
    "FLAP, no bias": _neurons("flap", repair="none"),
    "FLAP, no z-scores": _neurons("flap", standardise=False),
    "FLAP, uniform": _neurons("flap", allocation="uniform"),
    "FLAP, EvoPress": _searched("flap"),
    "Taylor": _neurons("taylor"),
    "Bonsai": _by_losses(32),
    "Bonsai, 8 masks": _by_losses(8),
    "Surgeon": _by_curvature(),
    "Surgeon, independent": _by_curvature(update="independent"),
    "Surgeon, no update": _by_curvature(update="none"),
    "Surgeon, columns only": _by_curvature(matrices="columns"),
    "Surgeon, one shot": _by_curvature(update="none", shots=1),
    "output": _neurons("output", repair="none"),
    "output, global": _neurons("output", repair="none", allocation="global"),
    "output, least squares": _neurons("output"),
}


def make_smaller(arm: str, model: PreTrainedModel, tokens: Int64[Tensor, "n seq_len"], n_blocks: int | float) -> Made:
    """A model that is smaller by as many parameters as `n_blocks` of its blocks have, made in the way of an arm.

    >>> make_smaller("FLAP", model, tokens, 2).removed_share

    Where neurons go, the number need not be whole: 1.5 of six blocks is a quarter of their parameters.

    Raises:
        LookupError: an unknown arm, or one that this architecture, or this number of its blocks, cannot express.
    """
    check_arms([arm])
    return ARMS[arm](model, tokens, n_blocks)


def check_arms(arms: Sequence[str]) -> None:
    """LookupError for an arm that there is not."""
    for arm in arms:
        if arm not in ARMS:
            raise LookupError(f"there is no arm {arm!r}.{suggest(arm, ARMS)} Known: {', '.join(ARMS)}.")
