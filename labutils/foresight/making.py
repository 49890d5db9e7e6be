"""What it takes to make a model smaller in the ways of notebooks 13, 13b and 14: its passes, counted."""

from collections.abc import Mapping

from labutils.foresight.cost import Cost
from labutils.foresight.meter import Meter
from labutils.foresight.work import Made, Training
from labutils.pruning.level_reading import searched_tokens
from labutils.pruning.level_switching import SearchOptions
from labutils.smaller.arms import GENERATIONS

# Ways by what they read. A walk brings the calibration through all blocks once, without the head.
UNREAD = {"shallowest", "deepest", "shallow, first kept", "top", "router clusters"}
SEARCHES = {"SLEB": 1, "blocks": 1, "choose blocks": 1, "sublayers": 2}  # units per block that are tried one by one
ALIKE = {"blocks": "SLEB"}  # searches that try the same candidates, but for the two ends
GRADIENTS = {"Taylor"}
TWO_STAGES = {"2SSP", "2SSP, α 1", "2SSP, α 2"}
FITTED = {"output, least squares"}  # a second walk, with all products of neurons
USED = {"REAP", "mean norm"}  # one walk, in which the experts run a second time
PERTURBED = {"Bonsai": 4 * 32, "Bonsai, 8 masks": 4 * 8}  # masks, each of which the calibration is read with
SWITCHED = {"FLAP, EvoPress"}  # widths that are exchanged between blocks in generations
CURVED = {"Surgeon", "Surgeon, independent", "Surgeon, no update", "Surgeon, columns only"}
CURVED_PASSES = 20  # there and back, with the factors that are summed on the way


def cost_made(meter: Meter, made: Made) -> Cost:
    """Of all times that it is made, and read.

    A smaller model reads as much less as it has fewer parameters.
    """
    total = len(meter.blocks)
    sizes = range(1, total // 2 + 1) if made.n_blocks is None else [_as_number(made.n_blocks, total)]
    cost = Cost(peak=2 * meter.weight_bytes + meter.reading_memory())
    for n in sizes:
        if n in made.without:
            continue
        seconds = making_seconds(meter, made.arm, n, made.shape, made.searched)
        if made.reading is not None:
            seconds += meter.read_seconds(made.reading) * (1 - n / total)
        evaluations = made.times if made.reading is not None else 0
        cost.add(Cost(made.times * seconds, prunings=made.times, evaluations=evaluations))
    return cost


def _as_number(n_blocks: int | float, total: int) -> int | float:
    return n_blocks if n_blocks >= 1 else n_blocks * total


def making_seconds(
    meter: Meter, arm: str, n: int | float, shape: tuple[int, int], searched: Mapping[str, int | float] | None = None
) -> float:
    """Seconds until one smaller model is there.

    >>> making_seconds(meter, "SLEB", 2, (24, 128))

    An arm that is not known here counts as one walk.

    Args:
        searched: to which number of blocks an arm has searched before, whose losses are remembered; a search over
            blocks counts as having taken the same path as the other one had.
    """
    searched = searched or {}
    total, tokens = len(meter.blocks), shape[0] * shape[1]
    walk, read = tokens * meter.walk_rate, tokens * meter.reading_rate
    if arm in UNREAD:
        return 0.0
    if arm in SEARCHES:
        begin, alike = min(searched.get(arm, 0), n), min(searched.get(ALIKE.get(arm, ""), 0), n)
        steps = [round(SEARCHES[arm] * number) for number in (begin, max(begin, alike), n)]
        return _search(walk / total, read - walk, total, SEARCHES[arm] * total, *steps)
    if arm in TWO_STAGES:
        return walk + _search(walk / total, read - walk, total, total, 0, 0, 1)
    if arm == "choose neurons":
        return total * read
    if arm in SWITCHED:
        return walk + searched_tokens(*shape, GENERATIONS, SearchOptions().offspring) * meter.reading_rate
    if arm in PERTURBED:
        return PERTURBED[arm] * read
    if arm in GRADIENTS or arm in CURVED:
        there_and_back = meter.training_seconds(Training(1, *shape))
        return there_and_back * (CURVED_PASSES if arm in CURVED else 1) + walk
    return walk * (3 if arm in FITTED else 2 if arm in USED else 1)


def _search(block: float, head: float, n_blocks: int, n_units: int, begin: int, shared: int, end: int) -> float:
    """A greedy one: of each candidate the blocks behind it and the head, in every step; before them, all once.

    Args:
        begin: steps whose candidates have all been read before.
        shared: steps of whose candidates all but the first and the last one have.
    """
    seconds = 0.0
    for step in range(begin, end):
        left, candidates = n_blocks * (1 - step / n_units), n_units - step
        if step < shared:
            seconds += 2 * (block * left + head)
        else:
            seconds += block * left * (1 + candidates / 2) + head * candidates
    return seconds
