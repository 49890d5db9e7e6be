"""Does what one pruning gains over another survive tuning? Wanda++ asks so (Yang et al. 2025, arXiv:2503.04992).

Both prunings are tuned alike: on the same sequences, for the same number of steps, each at a rate of its own. Where
the better pruning is not clearly better before any tuning, there is no gain that could remain.
"""

import pandas as pd

from labutils.recovery.shares import ShareEffects, over_models, ratio_of_gains
from labutils.stats.bootstrap import Interval, paired_differences
from labutils.stats.evidence import keeps_evidence

Arms = tuple[str, str]  # the reference, and what is to be better
NOTHING = "nothing clear was gained before tuning that could remain"


@keeps_evidence("overall")
def remaining_share(rows: pd.DataFrame, *, before: Arms, after: Arms) -> ShareEffects:
    """The share of a gain that is left after tuning: gain of `after` over gain of `before`, per model and over them.

    >>> remaining_share(rows, before=("wanda", "rgs+regional"), after=("wanda → lora", "rgs+regional → lora")).overall

    A gain is the loss of the first arm minus that of the second; 1 is all of it, 0 none. In a model it is the ratio of
    mean gains, averaged over sparsities, items and draws of both resampled together; over models Student's t.

    Args:
        rows: of `recovery_sweep`, of one or more models.

    Returns:
        undefined intervals where a model's gain before tuning is not clearly above zero at some sparsity.

    Raises:
        ValueError: an arm is missing, or was not run on the same items, draws and sparsities as its partner.
    """
    own = {}
    for model, part in rows.groupby("model", sort=False):
        early, late = (paired_differences(part, {"arm": one}, {"arm": other}) for one, other in (before, after))
        own[str(model)] = ratio_of_gains([(late, early)], [before[1]], NOTHING)
    return ShareEffects(own, over_models(own, "gained something clear before tuning"))


def if_gained(interval: Interval, before: Interval, name: str) -> Interval:
    """The interval of a gain after tuning, if there was a clear one before; else an undefined one that says so.

    >>> if_gained(after.overall, before.overall, "rgs+regional")

    Args:
        before: of the same gain before tuning, over the same models.
        name: of what gains.
    """
    if not interval.defined:
        return interval
    if before.defined and before.low > 0:
        return interval
    found = str(before) if before.defined else before.note
    return Interval.undefined(f"{name} gains nothing clear before tuning that could remain: {found}")
