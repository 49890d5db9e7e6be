"""Names of a score and what follows it: "wanda+swaps+ls"."""

from labutils.pruning.importance import SCORES, STEP
from labutils.pruning.reconstructions import RECONSTRUCTIONS, SEARCHES


def parse_steps(name: str) -> tuple[str, str | None, str]:
    """The score, the mask search or None, and the reconstruction that a method's name stands for.

    >>> parse_steps("wanda+swaps+ls"), parse_steps("ria")
    (('wanda', 'swaps', 'ls'), ('ria', None, 'none'))

    Raises:
        LookupError: one of the names is unknown, or they stand in another order.
    """
    score, *steps = name.split(STEP)
    search = steps.pop(0) if steps and steps[0] in SEARCHES else None
    reconstruction = steps.pop(0) if steps and steps[0] in RECONSTRUCTIONS else "none"
    if score not in SCORES or steps:
        raise LookupError(
            f"There is no method {name!r}: after a score may stand one mask search ({', '.join(SEARCHES)}) and then "
            f"one reconstruction ({', '.join(RECONSTRUCTIONS)}), each behind a {STEP!r}. Scores: {', '.join(SCORES)}."
        )
    return score, search, reconstruction


def steps_name(score: str, search: str | None, reconstruction: str) -> str:
    """The shortest name of a score and what follows it."""
    return STEP.join([score, *([search] if search else []), *([reconstruction] if reconstruction != "none" else [])])
