"""`forecast_smaller`: what a smaller model will be before it is made, its size and its time beside the dense one's.

Sizes are those of the surgery's own plan, which knows every shape. Times are those of `labutils.pruning.forecast`: work
of a block that is read off a run without data, in units that a short probe has measured on this machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import nn
from transformers import PreTrainedModel

from labutils.checkpoints.storable import Storable
from labutils.models.structure import check_finite, find_blocks
from labutils.models.wrappers import bare_model
from labutils.pruning.forecast.probe import Speed, measure_speed
from labutils.pruning.forecast.request import build_on_meta
from labutils.pruning.forecast.trace import BlockCosts, trace_block
from labutils.structured.anatomy import Anatomy, read_anatomies
from labutils.structured.depth import DEPTH, DepthOptions
from labutils.structured.dropping import check_blocks
from labutils.structured.evopress import read_width_options
from labutils.structured.experts import EXPERT_SCORES, check_mixtures
from labutils.structured.removal import Removal
from labutils.structured.report import count_all, count_blocks
from labutils.structured.shrinking import check_architecture, read_recipe
from labutils.structured.surgery import Plan, plan_surgery
from labutils.structured.unit_allocation import uniform
from labutils.structured.views import Activations, make_view
from labutils.structured.width import as_removal, check_any, check_budget, check_request, padded_groups

KINDS_OF_REQUEST = {
    "drop_blocks": ("n_blocks", "blocks"),
    "shrink": ("share",),
    "drop_experts": ("n_experts",),
}


@dataclass(frozen=True)
class SmallerForecast:
    """What a smaller model will be.

    Attributes:
        parameters, parameters_before: of the whole model, tied ones once.
        bytes, bytes_before: of the weights on disk, without the header of their file.
        prefill, decoding: time of a prompt that is read at once, and of one token written after it, as shares of what
            the dense model takes on this machine when it does nothing else.
        exact: whether the size is that of whatever is chosen; otherwise blocks lose unequally much, and what is told
            is the size where all lose equally many units, or of the deepest blocks.
    """

    parameters: int
    parameters_before: int
    bytes: int
    bytes_before: int
    prefill: float
    decoding: float
    exact: bool

    def __str__(self) -> str:
        size = f"{self.parameters:,} of {self.parameters_before:,} parameters, {self.bytes / 1e6:,.1f} MB on disk"
        about = "" if self.exact else " (blocks lose unequally much: about)"
        return f"{size}{about}; prefill in {self.prefill:.0%} of the time, decoding in {self.decoding:.0%}"


def forecast_smaller(
    model: nn.Module,
    shape: Sequence[int] = (1, 64),
    *,
    n_blocks: int | None = None,
    blocks: Sequence[int] | None = None,
    share: float | None = None,
    n_experts: int | None = None,
    **options: object,
) -> SmallerForecast:
    """Size and speed of what `drop_blocks`, `shrink` or `drop_experts` would give; nothing is chosen or made.

        print(lab.forecast_smaller(model, n_blocks=4))
        # 120,354,624 of 134,515,008 parameters, 240.7 MB on disk; prefill in 90% of the time, decoding in 89%

    >>> network, _ = lab.load_model("lab-llama")
    >>> lab.forecast_smaller(network, (8, 64), share=0.2, units=["neurons"], method="flap").exact
    False

    Args:
        model: the dense one, which stays as it is.
        shape: of the prompts whose time is told: sequences and their length.
        n_blocks, blocks: of `drop_blocks`; share: of `shrink`; n_experts: of `drop_experts`. One of these is given.
        **options: what else these take, the calibration and the batch size apart.

    Raises:
        ValueError, LookupError: what these would refuse before they read a text; a shape that is no pair of positive
            integers; or a model whose work cannot be told from shapes.
        TypeError: an option that the call in question does not have.
    """
    model = bare_model(model)
    given = {"n_blocks": n_blocks, "blocks": blocks, "share": share, "n_experts": n_experts}
    asked = [call for call, names in KINDS_OF_REQUEST.items() if any(given[name] is not None for name in names)]
    if len(asked) != 1:
        raise ValueError("give one of n_blocks or blocks (drop_blocks), share (shrink) and n_experts (drop_experts).")
    if len(shape) != 2 or not all(isinstance(size, Integral) and size > 0 for size in shape):
        raise ValueError(f"shape={tuple(shape)!r} must be two positive integers: sequences and their length.")
    if asked == ["drop_blocks"]:
        plan, exact = _plan_blocks(model, n_blocks, blocks, **options)
    elif asked == ["shrink"]:
        plan, exact = _plan_units(model, share, **options)
    else:
        plan, exact = _plan_experts(model, n_experts, **options)
    state = Storable(model).state  # refuses what no folder could hold, as the surgery does
    check_finite(model)
    before, after = _times(model, shape), _times(plan.skeleton, shape)
    return SmallerForecast(
        plan.parameters, count_all(model), _bytes(plan), sum(each.nbytes for each in state.values()),
        after[0] / before[0], after[1] / before[1], exact,
    )  # fmt: skip


def _plan_blocks(
    model: PreTrainedModel, n_blocks: int | None, blocks: Sequence[int] | None, method: str | None = None,
    **options: object,
) -> tuple[Plan, bool]:  # fmt: skip
    own = find_blocks(model)[1]
    name, _ = check_blocks(len(own), n_blocks, blocks, method, options)
    if blocks is not None:
        return plan_surgery(model, Removal(blocks=tuple(sorted(blocks)))), True
    chosen_by = DEPTH["deepest"] if DEPTH[name].reads_texts else DEPTH[name]
    chosen = chosen_by.chooser(len(own), n_blocks, DepthOptions()).blocks
    alike = len({sum(parameter.numel() for parameter in block.parameters()) for block in own}) == 1
    return plan_surgery(model, Removal(blocks=chosen)), alike or not DEPTH[name].reads_texts


def _plan_units(
    model: PreTrainedModel, share: float, *, units: Sequence[str] = ("neurons",), method: str = "output",
    allocation: str | None = None, standardise: bool | None = None, repair: str | None = None, **options: object,
) -> tuple[Plan, bool]:  # fmt: skip
    _, recipe = read_recipe(method, allocation, standardise, repair)
    read_width_options(recipe.allocation, options)
    check_request(share, units)
    anatomies = read_anatomies(model)
    kinds, biases, groups = check_architecture(model, anatomies, units, method, recipe)
    counts, costs = _count_units(model, anatomies, kinds)
    budget = share * count_blocks(model)
    check_budget(counts, costs, budget, share)
    may_go = {"groups": [groups[-1] - left for left in groups]} if groups else None
    removed = uniform({key: torch.zeros(count) for key, count in counts.items()}, costs, budget, may_go)
    check_any(removed, share, kinds, groups)
    removal = as_removal(removed)
    plan = plan_surgery(
        model, removal, anatomies, biases=biases, n_groups=padded_groups(removal, anatomies, groups)
    )  # fmt: skip
    return plan, recipe.allocation == "uniform"


def _count_units(
    model: PreTrainedModel, anatomies: Sequence[Anatomy], kinds: Sequence[str]
) -> tuple[dict[tuple[int, str], int], dict[tuple[int, str], int]]:
    """Of every block and kind the number of units, and the parameters of one."""
    views = [
        make_view(block, index, anatomies[index], kind, Activations())
        for index, block in enumerate(find_blocks(model)[1])
        for kind in kinds
    ]
    return (
        {(view.block, view.kind): view.count for view in views},
        {(view.block, view.kind): view.cost for view in views},
    )


def _plan_experts(model: PreTrainedModel, n_experts: int, *, method: str = "reap") -> tuple[Plan, bool]:
    _, anatomies = EXPERT_SCORES[method], read_anatomies(model)
    check_mixtures(model, anatomies, n_experts)
    gone = {index: tuple(range(n_experts)) for index, anatomy in enumerate(anatomies) if anatomy.experts}
    return plan_surgery(model, Removal(experts=gone), anatomies), True


def _bytes(plan: Plan) -> int:
    shapes = plan.skeleton.state_dict()
    return sum(shapes[name].nbytes for name in plan.sources)


def _times(model: PreTrainedModel, shape: Sequence[int]) -> tuple[float, float]:
    """Seconds of reading prompts, and of one more token behind each."""
    device = torch.device("cpu") if model.device.type == "meta" else model.device
    speed, n_tokens = measure_speed(device, model.dtype), shape[0] * shape[1]
    found = []
    for tokens, batch in ((n_tokens, tuple(shape)), (shape[0], (shape[0], 1))):
        costs, n_blocks = trace_block(build_on_meta(model, model.dtype), batch)
        found.append(n_blocks * _block(costs, tokens, speed, model.dtype) + _head(model, tokens, speed))
    return found[0], found[1]


def _block(costs: BlockCosts, tokens: int, speed: Speed, dtype: torch.dtype) -> float:
    """Products, or the passing of the weights, which takes longer where there are few tokens; and everything else."""
    weights = sum(matrix.rows * matrix.columns * min(1.0, matrix.share * tokens) for matrix in costs.matrices)
    products = max(speed.product * costs.products, speed.traffic * dtype.itemsize * weights)
    return (
        products
        + speed.attention * costs.attention
        + speed.traffic * costs.traffic
        + speed.operation * costs.operations
    )


def _head(model: PreTrainedModel, tokens: int, speed: Speed) -> float:
    head = model.get_output_embeddings()
    if head is None:
        return 0.0
    rows, columns = head.weight.shape
    return max(speed.product * 2 * tokens * rows * columns, speed.traffic * model.dtype.itemsize * rows * columns)
