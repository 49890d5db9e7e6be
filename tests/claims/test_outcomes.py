"""The truth table of outcomes: every kind of claim against every place that an interval can take."""

import numpy as np
import pytest

from labutils.claims import registry
from labutils.claims.outcomes import KINDS, NEGLIGIBLE, OUTCOMES, boundaries, decide, without_evidence
from labutils.stats.bootstrap import Interval

MARGIN = 0.01
# Places of an interval on the line −margin … 0 … margin, from left to right.
PLACES = {
    "below the margin": (-0.05, -0.02),
    "across the lower margin": (-0.02, -0.002),
    "inside, below zero": (-0.008, -0.002),
    "inside, touching zero from below": (-0.008, 0.0),
    "inside, across zero": (-0.005, 0.008),
    "exactly zero": (0.0, 0.0),
    "inside, touching zero from above": (0.0, 0.008),
    "inside, above zero": (0.002, 0.008),
    "the whole margin": (-0.01, 0.01),
    "across the upper margin": (0.002, 0.02),
    "above the margin": (0.02, 0.05),
    "across zero and the lower margin": (-0.02, 0.005),
    "across zero and the upper margin": (-0.005, 0.02),
    "across everything": (-0.02, 0.02),
}
S, C, N, E, I = "supported", "contradicted", NEGLIGIBLE, "equivalent", "inconclusive"  # noqa: E741
TABLE = {  # positive, no_worse, negative_result, equivalence
    "below the margin": (C, C, S, C),
    "across the lower margin": (C, I, S, I),
    "inside, below zero": (N, N, S, S),
    "inside, touching zero from below": (E, S, S, S),
    "inside, across zero": (E, S, S, S),
    "exactly zero": (E, S, S, S),
    "inside, touching zero from above": (E, S, S, S),
    "inside, above zero": (N, S, N, S),
    "the whole margin": (E, S, S, S),
    "across the upper margin": (S, S, I, I),
    "above the margin": (S, S, C, C),
    "across zero and the lower margin": (I, I, S, I),
    "across zero and the upper margin": (I, S, I, I),
    "across everything": (I, I, I, I),
}
CASES = [(kind, place, outcome) for place, row in TABLE.items() for kind, outcome in zip(KINDS, row, strict=True)]
CLAIMS = {"positive": "C02", "no_worse": "C01", "negative_result": "C14", "equivalence": "C12"}
MIRROR = {"no_worse": "negative_result", "negative_result": "no_worse", "equivalence": "equivalence"}


def test_the_table_is_whole():
    assert KINDS == ("positive", "no_worse", "negative_result", "equivalence") and set(TABLE) == set(PLACES)
    assert {outcome for *_, outcome in CASES} == set(OUTCOMES) - {"not testable here"}


@pytest.mark.parametrize(("kind", "place", "outcome"), CASES)
def test_outcome(kind, place, outcome):
    assert decide(kind, *PLACES[place], MARGIN) == outcome


@pytest.mark.parametrize(("kind", "place", "outcome"), CASES)
def test_judge_follows_the_table_in_the_margins_own_unit(kind, place, outcome):
    one = registry.claim(CLAIMS[kind])
    assert one.kind == kind
    low, high = (value / MARGIN * one.margin.value for value in PLACES[place])
    samples = np.linspace(low, high, 1001)
    found = Interval((low + high) / 2, low, high, 0.95, 40, 5, 1001, samples)
    assert registry.judge(one.id, interval=found, dense_loss=1.0, scope={"model": "m"}).outcome == outcome


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", MIRROR)
def test_the_rule_is_the_same_in_both_directions(kind, place):
    """`no_worse` of an effect is `negative_result` of the effect with the other sign."""
    low, high = PLACES[place]
    assert decide(kind, low, high, MARGIN) == decide(MIRROR[kind], -high, -low, MARGIN)


@pytest.mark.parametrize("place", PLACES)
def test_a_negligible_effect_of_either_sign_says_the_same_of_a_positive_claim(place):
    low, high = PLACES[place]
    found = {decide("positive", low, high, MARGIN), decide("positive", -high, -low, MARGIN)}
    assert found in ({N}, {E}, {I}, {S, C})


def test_without_a_margin_nothing_is_negligible():
    assert decide("positive", 1e-9, 2e-9, None) == S and decide("positive", -2e-9, -1e-9, None) == C


def test_the_p_value_of_a_negligible_effect_is_the_larger_of_two():
    """Within the margin with certainty, away from zero by 39 of 1000 resamples: p = 2 · 40 / 1001; and the reverse."""
    for near_zero in (True, False):
        samples = np.where(np.arange(1000) < 39, 0.0 if near_zero else 0.01, 0.005)
        found = Interval(0.005, 0.002, 0.009, 0.95, 40, 5, 1000, samples)
        verdict = registry.judge("C02", interval=found, dense_loss=1.0, scope={"model": "m"})
        assert verdict.outcome == N and verdict.p_value == pytest.approx(2 * 40 / 1001)


def test_boundaries_are_those_that_the_outcome_excludes():
    assert boundaries("positive", S, MARGIN) == boundaries("positive", C, None) == (0.0,)
    assert boundaries("no_worse", S, MARGIN) == (-0.01,) and boundaries("negative_result", C, MARGIN) == (0.01,)
    assert boundaries("equivalence", I, MARGIN) == (-0.01, 0.01)
    assert boundaries("no_worse", N, MARGIN) == (-0.01, 0.0, 0.01)


def test_what_is_left_without_evidence():
    left = {(kind, outcome): without_evidence(kind, outcome) for kind in KINDS for outcome in OUTCOMES}
    assert {key for key, outcome in left.items() if outcome == E} == {("positive", N), *((kind, E) for kind in KINDS)}
    assert all(left[kind, outcome] == I for kind in KINDS for outcome in (S, C, I))
    assert all(left[kind, N] == I for kind in KINDS if kind != "positive")
