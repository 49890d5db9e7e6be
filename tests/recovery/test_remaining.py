"""Gains that remain after tuning, on rows whose gains are known."""

import numpy as np
import pandas as pd
import pytest

from labutils.recovery import if_gained, remaining_share
from labutils.recovery.stages import parse_arm, way_of
from labutils.stats import Interval
from labutils.stats.bootstrap import crossed_bootstrap, paired_differences

BEFORE, AFTER = ("wanda", "rgs+regional"), ("wanda → lora", "rgs+regional → lora")
LEFT = {"one": 0.25, "two": 0.75, "three": 1.25}  # of the gain, after tuning
GAINS = {0.5: 0.2, 0.7: 0.8}  # before it


def make_rows(gains: dict[float, float], left: dict[str, float] = LEFT, noise: float = 0.01) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    made = []
    for model, share in left.items():
        for item in range(40):
            base = generator.normal(2, 0.5)
            for sparsity, gain in gains.items():
                for draw in (0, 1):
                    shift = generator.normal(0, 0.1)  # of the pair: it drops out of a paired difference
                    for arm, loss in zip((*BEFORE, *AFTER), (gain, 0, gain * share - 1, -1), strict=True):
                        loss += base + shift + generator.normal(0, noise)
                        made.append((model, "text", "text", arm, sparsity, draw, item, loss))
    return pd.DataFrame(made, columns=["model", "calibration", "evaluation", "arm", "sparsity", "draw", "item", "loss"])


def test_a_known_share_of_a_gain_is_found() -> None:
    rows = make_rows(GAINS)
    found = remaining_share(rows, before=BEFORE, after=AFTER)
    for model, share in LEFT.items():
        own = found.by_model[model]
        assert own.low < share < own.high and own.high - own.low < 0.3
    assert found.overall.estimate == pytest.approx(0.75, abs=0.02)
    assert found.overall.low < 0 and found.overall.high > 1.5  # three models that differ: Student's t
    assert found.overall.evidence.recompute() == found.overall


def test_gains_are_divided_at_every_sparsity_and_then_averaged() -> None:
    """A ratio of means over sparsities would be 0.4 / 1.0."""
    rows = make_rows({0.5: 0.2, 0.7: 0.8}, {"one": 0.0}, noise=0.0)
    late = (rows["arm"] == AFTER[0]) & (rows["sparsity"] == 0.7)
    rows.loc[late, "loss"] += 0.4  # half of the gain at 70 %, nothing at 50 %
    found = remaining_share(rows, before=BEFORE, after=AFTER).overall
    assert found.estimate == pytest.approx(0.25)


def test_without_a_gain_there_is_no_share_of_it() -> None:
    nothing = make_rows({0.5: 0.0}, {"one": 0.0})
    found = remaining_share(nothing, before=BEFORE, after=AFTER).overall
    assert not found.defined and "nothing clear was gained before tuning" in found.note
    mixed = pd.concat([nothing, make_rows({0.5: 0.5}, {"two": 0.5})])
    assert "1 of 2 models" in remaining_share(mixed, before=BEFORE, after=AFTER).overall.note


def test_a_gain_after_tuning_counts_where_there_was_one_before() -> None:
    def gains(rows: pd.DataFrame) -> list[Interval]:
        each = [paired_differences(rows, {"arm": first}, {"arm": second}) for first, second in (AFTER, BEFORE)]
        return [crossed_bootstrap(one, cells=("sparsity",), n_resamples=500) for one in each]

    after, before = gains(make_rows(GAINS))
    assert if_gained(after, before, "Wanda++") is after
    after, before = gains(make_rows({0.5: 0.0}, {"one": 0.0}))
    told = if_gained(after, before, "Wanda++")
    assert not told.defined and "Wanda++ gains nothing clear before tuning" in told.note
    lost = if_gained(after, gains(make_rows({0.5: -0.3}, {"one": 0.0}))[1], "Wanda++")
    assert not lost.defined  # it loses clearly: no gain either
    missing = Interval.undefined("no draws")
    assert if_gained(missing, before, "Wanda++") is missing
    assert "no draws" in if_gained(after, missing, "Wanda++").note


def test_wanda_plus_plus_is_an_arm_with_a_rate_of_its_own() -> None:
    prune, train = parse_arm("rgs+regional → lora")
    assert (prune.kind, prune.name, train.kind, train.name) == ("prune", "rgs+regional", "train", "lora")
    assert way_of("rgs+regional → lora") not in (way_of("wanda → lora"), way_of("rgs → lora"))
