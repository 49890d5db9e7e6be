"""One verdict on a claim that was examined under several conditions, of which none is more right than another."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from labutils.claims.registry import judge, not_testable
from labutils.claims.verdicts import Verdict
from labutils.stats.bootstrap import Interval


def judge_under(
    claim_id: str, intervals: Mapping[str, Interval], *, what: str, scope: Mapping[str, Any], **about: Any
) -> tuple[Verdict, dict[str, str]]:
    """Judge a claim under every condition, and take as its verdict only what holds under all of them.

    >>> judge_under("C12", {"all": wide, "usual": narrow}, what="range of hyperparameters", scope=scope)

    A claim that names no condition speaks of all of them, so an outcome that changes with the condition is a finding
    about the condition and not about the claim; so is one that contradicts from the other side of zero. Conditions that
    all must agree need no correction for their number: the verdict errs at most as often as that under any one of them
    (intersection–union test, Berger 1982).

    Args:
        intervals: condition → its interval, signed as the claim's `quantity` says; the first is shown in the verdict.
        what: of what kind the conditions are, in the singular.
        **about: further arguments of `judge`, the same for all conditions.

    Returns:
        the verdict, which is "not testable here" where outcomes differ; and the outcome under each condition.

    Raises:
        ValueError: no condition; and as `judge`.
    """
    if not intervals:
        raise ValueError(f"{claim_id} needs at least one {what} to be judged under")
    verdicts = {name: judge(claim_id, interval=found, scope=scope, **about) for name, found in intervals.items()}
    outcomes = {name: verdict.outcome for name, verdict in verdicts.items()}
    first = next(iter(verdicts.values()))
    told = "; ".join(f"{name}: {outcome} ({verdicts[name].effect()})" for name, outcome in outcomes.items())
    if len(set(outcomes.values())) > 1:
        return not_testable(claim_id, f"the outcome depends on the {what}: {told}", scope=scope), outcomes
    if first.outcome == "contradicted" and len({verdict.estimate > 0 for verdict in verdicts.values()}) > 1:
        return not_testable(claim_id, f"the {what} decides from which of opposite sides: {told}", scope=scope), outcomes
    if len(outcomes) == 1:
        return first, outcomes
    same = f"the same outcome in each {what} examined: {', '.join(outcomes)}; the numbers are those of the first"
    # The rows of one condition would not lead to this verdict again, so it keeps none.
    largest = max((each.p_value for each in verdicts.values() if each.p_value is not None), default=None)
    note = "; ".join(filter(None, [first.note, f"{same}, p is the largest"]))
    return replace(first, note=note, p_value=largest, judged=None), outcomes
