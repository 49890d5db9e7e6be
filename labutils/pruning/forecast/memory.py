"""The memory of each stage of a pruning: the bytes of the tensors that are alive at its peak."""

from dataclasses import dataclass

from labutils.pruning.dual_importance import BATCH as DUAL_BATCH
from labutils.pruning.forecast.plan import Plan
from labutils.pruning.statistics import SAMPLE_TOKENS

FLOAT = 4  # bytes of the float32 in which statistics are kept
FACTOR_COPIES = 4  # of a Hessian while it is factorised: damped, turned round, its factor, and the factor's inverse
UPDATE_COPIES = 3.25  # of a matrix in float32 while it is updated: columns, result, what leaves a block, and masks
SCORE_COPIES = 3  # of a matrix in float32 while it is scored and cut
KEPT_GRADIENTS = {"model": 1, "absolute": 1, "mixture": 3, "dual": 1}  # copies of all blocks' weights, in float32


@dataclass(frozen=True)
class Memory:
    """Bytes that a pruning holds at its peak.

    Attributes:
        stages: at the peak of every stage that the plan has.
        parts: of what is alive throughout or at the peak, by name.
        copied: of the weights that come back after a failure, wherever they lie.
        streamed: what `prune_checkpoint` would hold: one block, its statistics, and the hidden states once.
    """

    stages: dict[str, int]
    parts: dict[str, int]
    copied: int
    streamed: int

    @property
    def peak(self) -> int:
        return max(self.stages.values())


def stage_memory(plan: Plan, *, on_cpu: bool) -> Memory:
    """Memory of a pruning on the device that holds the model.

    On a CPU that includes copies of weights, which are kept there for a GPU as well, and gaps: as much as one batch's
    temporary tensors.
    """
    costs = plan.costs
    copied = costs.weights * plan.n_blocks * plan.dtype.itemsize * int(plan.options.restorable)
    hidden, calls = int(costs.hidden * plan.n_batches), int(costs.captured * plan.n_batches)
    kept = min(2, plan.n_blocks - 1) * hidden  # the present ones and the first block's
    statistics, factors, gap = _statistics(plan), _factors(plan), costs.peak if on_cpu else 0
    collecting = max(costs.peak + statistics + _gradients(plan), _closing(plan))
    matching = _matching(plan) if plan.method.of_block else 0
    pruning = statistics + factors + max(_largest_matrix(plan), matching)
    working = {
        "allocate": costs.peak + _norms(plan) + _all_scores(plan),
        "search": _searching(plan, on_cpu, pruning) + 2 * hidden,
        "collect": collecting,
        "factorise": statistics + factors + _largest_factor(plan) * FACTOR_COPIES,
        "prune": pruning,
        "advance": costs.peak,
    }
    beside = copied if on_cpu else 0
    of_model = KEPT_GRADIENTS.get(plan.method.gradients, 0) * costs.weights * plan.n_blocks * FLOAT
    path = hidden + _statistics(plan) if plan.options.output_target == "dense" else 0
    throughout = plan.parameter_bytes + beside + path + calls + kept + gap + of_model
    stages = {stage: throughout + working[stage] for stage in plan.stages}
    parts = {
        "model": plan.parameter_bytes, "weights put back after a failure": beside, "hidden states": kept,
        "statistics": statistics + factors, "one batch in a block": costs.peak, "gaps": gap,
    }  # fmt: skip
    block = costs.weights * plan.dtype.itemsize
    outside = plan.parameter_bytes - block * plan.n_blocks
    streamed = gap + hidden + calls + max(block + max(collecting, pruning), outside)
    return Memory(stages, parts, copied, streamed)


def _widths(plan: Plan) -> list[int]:
    """Of the distinct inputs of a block's matrices."""
    return [width for width, _ in plan.costs.inputs.values()]


def _statistics(plan: Plan) -> int:
    return sum(_widths(plan)) * min(SAMPLE_TOKENS, plan.n_tokens) * FLOAT + _hessians(plan)


def _hessians(plan: Plan) -> int:
    return sum(width**2 for width in _widths(plan)) * FLOAT if plan.method.needs_hessian else 0


def _factors(plan: Plan) -> int:
    each = plan.method.precision.itemsize
    return sum(width**2 for width in _widths(plan)) * each if plan.method.needs_factor else 0


def _largest_factor(plan: Plan) -> int:
    return max(_widths(plan)) ** 2 * plan.method.precision.itemsize if plan.method.needs_factor else 0


def _gradients(plan: Plan) -> int:
    """While they are found: the sums over sequences, the gradients of one, and what its pass has kept."""
    if plan.method.gradients is None:
        return 0
    blocks = 1 if plan.method.gradients == "block" else plan.n_blocks
    own = blocks * (plan.costs.weights * (FLOAT + plan.dtype.itemsize) + plan.costs.peak)
    if plan.method.gradients == "mixture":  # squares and means of two texts, from which the three that stay are made
        own += blocks * plan.costs.weights * 3 * FLOAT
    if plan.method.gradients == "dual":  # all weights' copies and gradients, general importance, and a batch of 8
        own += 2 * plan.parameter_bytes + blocks * plan.costs.weights * FLOAT + (DUAL_BATCH - 1) * plan.costs.peak
    return own


def _matching(plan: Plan) -> int:
    """A block's targets for all tokens; of its weights four copies more; and what a pass over one batch has kept."""
    shapes = [(matrix.rows, matrix.columns) for matrix in plan.costs.matrices]
    own = plan.method.of_block.block_memory(shapes, plan.n_tokens)
    return int(plan.costs.hidden * plan.n_batches) + plan.costs.weights * 6 * FLOAT + plan.costs.peak + own


def _closing(plan: Plan) -> int:
    """When a block's sums become its statistics: both, and copies of the largest."""
    return _statistics(plan) * (2 if plan.method.needs_hessian else 1) + 2 * _largest_hessian(plan)


def _largest_hessian(plan: Plan) -> int:
    return max(_widths(plan)) ** 2 * FLOAT if plan.method.needs_hessian else 0


def _norms(plan: Plan) -> int:
    return sum(_widths(plan)) * plan.n_blocks * FLOAT


def _all_scores(plan: Plan) -> int:
    return plan.request.allocation.score_copies * plan.costs.weights * plan.n_blocks * FLOAT


def _searching(plan: Plan, on_cpu: bool, pruning: int) -> int:
    """Copies of all matrices in host memory, pruned to every level and dense; then a pruning, or outputs."""
    if (read := plan.readings) is None:
        return 0
    levels = plan.request.allocation.n_levels
    copies = levels + 1 if levels and on_cpu else 0
    kept = copies * plan.costs.weights * plan.n_blocks * plan.dtype.itemsize
    return kept + max(pruning if levels else 0, plan.costs.peak + _outputs(plan, read.at_once))


def _outputs(plan: Plan, n_tokens: int) -> int:
    """The output for so many tokens, and what it is compared with."""
    return int(4 * FLOAT * n_tokens * max(plan.vocabulary, plan.width))


def _largest_matrix(plan: Plan) -> int:
    copies = UPDATE_COPIES if plan.method.needs_hessian else SCORE_COPIES
    shapes = [(matrix.rows, matrix.columns) for matrix in plan.costs.matrices]
    return max(int(rows * columns * FLOAT * copies) + plan.method.memory(rows, columns) for rows, columns in shapes)


def gigabytes(count: int) -> str:
    """A number of bytes for reading, in decimal units."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
