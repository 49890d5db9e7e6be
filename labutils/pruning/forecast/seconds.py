"""The time of each stage of a pruning: the work of all blocks, in units whose rates were measured on the machine."""

from labutils.pruning.dual_importance import EPOCHS as DUAL_EPOCHS
from labutils.pruning.forecast.plan import Plan
from labutils.pruning.forecast.probe import PruningSpeed, Speed
from labutils.pruning.statistics import SAMPLE_TOKENS
from labutils.pruning.symmetric import strip_width

FLOAT = 4  # bytes of the float32 in which scores are kept
BACKWARD = 2.0  # passes forward that take as long as one backward


def stage_seconds(plan: Plan, speed: Speed, pruning: PruningSpeed, *, errors: bool = True) -> dict[str, float]:
    """Seconds of every stage that the plan has; without `errors`, as in a grid, no layer's output error is found."""
    dense_path = plan.options.output_target == "dense"  # both models' blocks run once more, before they are pruned
    found = {
        "allocate": _allocate(plan, speed),
        "search": _search(plan, speed, pruning),
        "collect": _collect(plan, speed),
        "factorise": _factorise(plan, speed),
        "prune": _prune(plan, speed, pruning, errors) + _descend(plan, speed),
        "advance": _run(plan, speed) * (plan.n_blocks - 1 + 2 * plan.n_blocks * dense_path),
    }
    return {stage: found[stage] for stage in plan.stages}


def beginning_seconds(plan: Plan, speed: Speed, copied: int) -> float:
    """Weights are checked, `copied` bytes of them copied; the first block runs on one batch; sequences are embedded."""
    embedded = 2 * plan.costs.hidden * plan.n_batches
    traffic = speed.traffic * (plan.parameter_bytes + 2 * copied + embedded)
    return traffic + _run(plan, speed) / plan.n_batches


def _run(plan: Plan, speed: Speed) -> float:
    """One block over all batches."""
    costs = plan.costs
    once = speed.product * costs.products + speed.attention * costs.attention + speed.traffic * costs.traffic
    return plan.n_batches * (once + speed.operation * costs.operations)


def _sum_inputs(plan: Plan, speed: Speed, hessian: bool) -> float:
    """Running sums over what one block's matrices read."""
    seconds = 0.0
    for width, share in plan.costs.inputs.values():
        tokens = plan.n_tokens * share
        seconds += speed.product * tokens * _symmetric_operations(width) if hessian else speed.norms * tokens * width
    return seconds


def _collect(plan: Plan, speed: Speed) -> float:
    """A block runs up to its last matrix, which most often need not be multiplied by; else it also hands on."""
    last = plan.costs.matrices[-1]
    spared = 0 if last.share < 1 else speed.product * 2 * plan.n_tokens * last.rows * last.columns
    once = _run(plan, speed) + _sum_inputs(plan, speed, plan.method.needs_hessian)
    once += BACKWARD * _run(plan, speed) * _gradient_passes(plan)
    return once * plan.n_blocks - spared * (plan.n_blocks if plan.options.sequential else 1)


def _gradient_passes(plan: Plan) -> float:
    """Passes with gradients over the calibration: a block goes back through a whole batch for each sequence of it."""
    backward = {None: 0.0, "model": 1.0, "absolute": 1.0, "mixture": 2.0, "dual": float(DUAL_EPOCHS)}
    backward["block"] = float(plan.options.batch_size)
    return backward[plan.method.gradients]


def _descend(plan: Plan, speed: Speed) -> float:
    """A reconstruction of whole blocks: its steps, each with gradients of one batch, and its own products."""
    if plan.method.of_block is None:
        return 0.0
    steps = (1 + BACKWARD) * _run(plan, speed) / plan.n_batches * plan.method.of_block.block_steps
    shapes = [(matrix.rows, matrix.columns) for matrix in plan.costs.matrices]
    return plan.n_blocks * (steps + speed.product * plan.method.of_block.block_operations(shapes, plan.n_tokens))


def _allocate(plan: Plan, speed: Speed) -> float:
    """One pass over the dense model, and its scores."""
    hessian = plan.request.allocation.reads_hessians(plan.method)
    scores = speed.traffic * 6 * FLOAT * plan.costs.weights
    once = _run(plan, speed) + _sum_inputs(plan, speed, hessian) + scores
    return plan.n_blocks * once + (_factorise(plan, speed) if hessian else 0.0)


def _factorise(plan: Plan, speed: Speed) -> float:
    if not plan.method.needs_factor:
        return 0.0
    share = plan.method.precision.itemsize / FLOAT  # double precision takes twice as long
    return share * speed.factor * sum(width**3 for width, _ in plan.costs.inputs.values()) * plan.n_blocks


def _prune(plan: Plan, speed: Speed, pruning: PruningSpeed, errors: bool) -> float:
    seconds = 0.0
    for rows, columns in ((matrix.rows, matrix.columns) for matrix in plan.costs.matrices):
        seconds += pruning.column * columns + pruning.weight * rows * columns
        seconds += speed.product * (plan.method.operations(rows, columns) + errors * _error(plan, rows, columns))
    return seconds * plan.n_blocks


def _error(plan: Plan, rows: int, columns: int) -> int:
    """Products in a matrix's output error: with the Hessian, or with a sample of tokens."""
    sampled = 2 * columns * min(SAMPLE_TOKENS, plan.n_tokens)
    return 2 * rows * (_symmetric_operations(columns) if plan.method.needs_hessian else sampled)


def _read_output(plan: Plan, speed: Speed) -> float:
    """The output at one token, compared with another."""
    product = speed.product * 2 * plan.width * plan.vocabulary
    return product + speed.traffic * 10 * FLOAT * max(plan.vocabulary, plan.width)


def _search(plan: Plan, speed: Speed, pruning: PruningSpeed) -> float:
    """All matrices are pruned at all levels; what is tried runs blocks, all of them at most, and is read."""
    if (read := plan.readings) is None:
        return 0.0
    levels = _prune(plan, speed, pruning, False) * plan.request.allocation.n_levels
    runs = _run(plan, speed) * plan.n_blocks * read.share * read.tokens / plan.n_tokens
    return levels + runs + read.tokens * _read_output(plan, speed)


def _symmetric_operations(width: int) -> int:
    """Of one row with a symmetric matrix of this width, on and below the diagonal, strip by strip."""
    return width * (width + min(strip_width(width), width))
