"""The ledger in brief: its order for a reader, its effects on one scale, and all of it in a few sentences."""

from math import nan

import pandas as pd

from labutils.claims.outcomes import NEGLIGIBLE
from labutils.claims.registry import PER_SPARSITY, all_claims, claim
from labutils.claims.verdicts import Verdict

NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
COUNTS = {
    "supported": "held",
    "contradicted": "did not hold",
    NEGLIGIBLE: "showed an effect too small to matter",
    "equivalent": "showed no difference beyond the margin",
    "inconclusive": "stayed open",
    "not testable here": "could not be tested",
}
CLEAREST = 2  # effects that the answer tells with their numbers


def in_reading_order(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of a ledger in the order of the registry: a restated fact behind its fact, the exploratory ones last.

    >>> in_reading_order(lab.ledger("results/full"))["claim"].tolist()
    """
    ids = [one.id for one in all_claims()]

    def place(claim_id: str) -> tuple[bool, int, int]:
        one = claim(claim_id)
        return (one.exploratory, ids.index(one.same_fact_as or one.id), ids.index(one.id))

    ranks = pd.Series([place(name) for name in frame["claim"]], index=frame.index, dtype=object)
    return frame.loc[sorted(frame.index, key=ranks.__getitem__)]


def ledger_answer(frame: pd.DataFrame) -> str:
    """The ledger in a few sentences: the counts, the clearest effects that held, and all that failed, in words.

    >>> ledger_answer(ledger("results/full"))
    'Of 21 claims looked at, six held, eight did not hold and seven stayed open. The clearest that held: …'

    Claims that restate another's fact or are exploratory are not counted. Clearest is the largest effect in units of
    its margin, among those that have one.
    """
    counted = [one for one in map(Verdict.from_row, frame.to_dict("records")) if not claim(one.claim).aside]
    found = {outcome: [one for one in counted if one.outcome == outcome] for outcome in COUNTS}
    counts = [f"{_in_words(len(some))} {COUNTS[outcome]}" for outcome, some in found.items() if some]
    listed = " and ".join(filter(None, [", ".join(counts[:-1]), *counts[-1:]])) or "none"
    sentences = [f"Of {_in_words(len(counted))} {'claim' if len(counted) == 1 else 'claims'} looked at, {listed}."]
    clearest = sorted(filter(_has_margin, found["supported"]), key=lambda one: -abs(one.estimate) / one.margin)
    if clearest:
        told = [f"{claim(one.claim).name} ({one.effect()})" for one in clearest[:CLEAREST]]
        sentences.append(f"The clearest that held: {'; '.join(told)}.")
    if found["contradicted"]:
        sentences.append(
            f"What did not hold here: {'; '.join(claim(one.claim).name for one in found['contradicted'])}."
        )
    return " ".join(sentences)


def effects_in_margins(frame: pd.DataFrame) -> pd.DataFrame:
    """The verdicts with their effects in units of their claims' margins, positive where they speak for the claim.

    >>> effects_in_margins(ledger("results/full"))[["claim", "name", "low", "estimate", "high"]]

    Returns:
        ``claim, name, outcome, low, estimate, high, absent``: one row per verdict in reading order. `absent` says why
        there is no such effect, and is "" where there is one: a claim without a margin, a slope, whose margin is one
        per unit of sparsity, or a verdict without an estimate. An equivalence is denied by effects of either sign, so
        its estimate is told as negative.
    """
    rows = []
    for row in in_reading_order(frame).to_dict("records"):
        verdict, one = Verdict.from_row(row), claim(row["claim"])
        remark = "exploratory" if one.exploratory else f"as {one.same_fact_as}" if one.same_fact_as else ""
        about = {"claim": one.id, "name": one.name + (f" ({remark})" if remark else ""), "outcome": verdict.outcome}
        absent = "" if _has_margin(verdict) else _why_without(verdict)
        against = one.kind == "negative_result" or (one.kind == "equivalence" and (verdict.estimate or 0) > 0)
        scale = nan if absent else (-1 if against else 1) / verdict.margin
        ends = (
            (nan, nan, nan) if absent else sorted(scale * end for end in (verdict.low, verdict.estimate, verdict.high))
        )
        rows.append(about | dict(zip(("low", "estimate", "high"), ends, strict=True)) | {"absent": absent})
    return pd.DataFrame(rows, columns=["claim", "name", "outcome", "low", "estimate", "high", "absent"])


def _has_margin(verdict: Verdict) -> bool:
    """Can the effect be told in units of its claim's margin?"""
    return verdict.estimate is not None and bool(verdict.margin) and claim(verdict.claim).margin.unit != PER_SPARSITY


def _why_without(verdict: Verdict) -> str:
    if verdict.estimate is None:
        return "no estimate"
    return "a slope over sparsity" if verdict.margin else "no margin"


def _in_words(number: int) -> str:
    return NUMBERS[number] if number < len(NUMBERS) else str(number)
