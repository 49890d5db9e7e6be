"""The ledger in a few sentences, and its effects on one scale."""

from dataclasses import replace

import pandas as pd
import pytest

from labutils.claims.ledger import correct
from labutils.claims.ledger_summary import effects_in_margins, ledger_answer
from labutils.claims.outcomes import NEGLIGIBLE, OUTCOMES
from labutils.claims.registry import not_testable
from labutils.claims.verdicts import Verdict


def found(claim: str, outcome: str, estimate: float, margin: float | None = 0.01) -> Verdict:
    return Verdict(
        claim=claim, statement="s", outcome=outcome, first_outcome=outcome, scope={"model": "m"}, estimate=estimate,
        low=estimate - 0.01, high=estimate + 0.02, unit="nats", p_value=1e-5, margin=margin,
    )  # fmt: skip


def frame(*verdicts: Verdict) -> pd.DataFrame:
    return pd.DataFrame([{"run": "r"} | verdict.as_row() for verdict in correct(verdicts)])


LEDGER = frame(
    found("R12", "contradicted", 0.06), found("C02", "supported", 0.3), found("C05", "supported", 0.4),
    found("C16", "supported", 0.1), found("C03", "supported", 0.7), found("C14", "contradicted", 0.05),
    found("C01", NEGLIGIBLE, -0.002, 0.1), found("C09", "inconclusive", 0.4, None), found("C48", "supported", 9.0),
    not_testable("C07", "at chance", scope={"model": "m"}),
)  # fmt: skip


def test_the_answer_tells_counts_effects_and_failures_in_words():
    """C48 is exploratory and R12 the fact of C14: eight are counted. C03's slope has no place among the effects."""
    assert ledger_answer(LEDGER) == (
        "Of eight claims looked at, four held, one did not hold, one showed an effect too small to matter, one stayed "
        "open and one could not be tested. The clearest that held: Hessian reconstruction beats relative importance "
        "when many weights are removed (+0.400 nats [0.390, 0.420]); varying the sparsity from layer to layer is "
        "better when many weights are removed (+0.300 nats [0.290, 0.320]). What did not hold here: imitating layers "
        "is no better than plain distillation."
    )


def test_short_answers_are_sentences_too():
    assert ledger_answer(frame(found("C11", "supported", 0.3, None))) == "Of one claim looked at, one held."
    assert ledger_answer(LEDGER.iloc[:0]) == "Of no claims looked at, none."


def test_every_outcome_is_counted():
    for outcome in OUTCOMES:
        one = replace(found("C02", outcome, 0.3), p_value=None)
        assert ", one " in ledger_answer(frame(one))


def test_effects_point_to_the_right_where_they_speak_for_the_claim():
    shown = effects_in_margins(LEDGER).set_index("claim")
    assert list(shown.index) == ["C01", "C02", "C03", "C05", "C07", "C09", "C14", "R12", "C16", "C48"]
    assert shown.loc["C02", ["low", "estimate", "high"]].tolist() == pytest.approx([29, 30, 32])
    # "No better" is spoken against by a gain: −0.05 in margins of 0.01, the ends changed about.
    assert shown.loc["C14", ["low", "estimate", "high"]].tolist() == pytest.approx([-7, -5, -4])
    reasons = {"C03": "a slope over sparsity", "C07": "no estimate", "C09": "no margin"}
    assert shown.loc[shown["absent"] != "", "absent"].to_dict() == reasons
    assert shown.loc[list(reasons), "estimate"].isna().all()
    alike = effects_in_margins(frame(found("C12", "contradicted", 0.81, 0.405))).iloc[0]
    assert (alike["low"], alike["estimate"], alike["high"]) == pytest.approx((-0.83 / 0.405, -2, -0.8 / 0.405))
    assert shown.loc["R12", "name"].endswith("(as C14)") and shown.loc["C48", "name"].endswith("(exploratory)")
