"""Effects by model and over models; cells that must all hold; curves that cross."""

import numpy as np
import pandas as pd
import pytest
from made_sweeps import GRID, made_sweep
from scipy.stats import t

import labutils as lab
from labutils.sweeps.over_models import Crossing

PAIR = {"ria": ("ria/uniform", "ria/owl")}


def gain_of(by_model: dict[str, float], **options: object) -> pd.DataFrame:
    """OWL gains so much over uniform sparsity in each model, at every sparsity."""
    rows = made_sweep(lambda m, arm, s: -by_model[m] * arm.endswith("owl"), models=list(by_model), **options)
    return lab.contrast(rows, PAIR)


def test_over_models_is_students_t_of_their_estimates() -> None:
    found = lab.sweeps.effects_over_models(gain_of({"a": 0.3, "b": -0.4, "c": -0.5}))
    values = np.array([each.estimate for each in found.by_model.values()])
    assert values == pytest.approx([0.3, -0.4, -0.5], abs=0.01)
    half = t.ppf(0.975, 2) * values.std(ddof=1) / 3**0.5
    ends = (found.overall.low, found.overall.high)
    assert ends == pytest.approx((values.mean() - half, values.mean() + half), rel=5e-3)
    assert found.overall.units == ("item", "model") and found.overall.n_draws == 3
    # every model by itself is as clear as can be; over models nothing is
    assert found.by_model["a"].low > 0.2 and found.overall.low < 0 < found.overall.high


def test_of_one_model_it_is_the_models_own_interval() -> None:
    found = lab.sweeps.effects_over_models(gain_of({"a": 0.3}))
    assert found.overall == found.by_model["a"] and found.overall.units == ("item", "calibration draw")


def test_a_slope_is_taken_in_every_model() -> None:
    rows = made_sweep(lambda m, arm, s: -s * {"a": 1.0, "b": 3.0}[m] * arm.endswith("owl"), models=["a", "b"])
    found = lab.sweeps.effects_over_models(lab.contrast(rows, PAIR), lab.stats.slope(GRID))
    assert [each.estimate for each in found.by_model.values()] == pytest.approx([1.0, 3.0], abs=0.02)
    assert found.overall.estimate == pytest.approx(2.0, abs=0.02)


def test_the_lowest_cell_decides_and_a_mean_does_not_hide_it() -> None:
    """Nothing is lost at 0.2 and much at 0.4: the mean over both lies half-way."""
    lost = {"a": 0.30, "b": 0.32, "c": 0.31}
    rows = made_sweep(lambda m, arm, s: lost[m] * (s == 0.4) * arm.endswith("owl"), models=list(lost))
    gain = lab.contrast(rows, PAIR)
    gain = gain[gain["sparsity"] <= 0.4]
    found = lab.sweeps.lowest_over_models(gain)
    assert [each.estimate for each in found.by_model.values()] == pytest.approx([-0.3, -0.32, -0.31], abs=0.01)
    cells = gain.groupby(["sparsity", "model"])["value"].mean().unstack()
    own = [lab.stats.interval_over_units(part.rename("estimate").reset_index()) for _, part in cells.iterrows()]
    assert found.overall.low == pytest.approx(min(each.low for each in own))
    assert found.overall.estimate == pytest.approx(cells.mean(axis=1).min())
    assert found.overall.low < -0.31 < found.overall.high and found.overall.high > own[1].high  # holds at once
    assert "the lowest of 2 cells" in found.overall.note and "over 3 models" in found.overall.note


def test_the_ends_over_models_cover_the_lowest_true_mean() -> None:
    """Means of three cells over 4 models: the lowest is at −0.1; both ends together miss at most one in twenty."""
    generator, missed, studies = np.random.default_rng(2), 0, 60
    truth = np.array([-0.1, -0.08, 0.1])
    for _ in range(studies):
        values = truth + generator.normal(0, 0.05, (4, 3))
        rows = [
            {"model": f"m{m}", "contrast": f"c{c}", "sparsity": 0.5, "draw": d, "item": i, "value": values[m, c]}
            for m in range(4) for c in range(3) for d in range(2) for i in range(2)
        ]  # fmt: skip
        found = lab.sweeps.lowest_over_models(pd.DataFrame(rows)).overall
        missed += not found.low <= -0.1 <= found.high
    assert missed / studies <= 0.05


def test_without_rows_nothing_is_testable() -> None:
    empty = gain_of({"a": 0.3}).iloc[:0]
    for found in (lab.sweeps.effects_over_models(empty), lab.sweeps.lowest_over_models(empty)):
        assert not found.overall.defined
        assert lab.judge("C02", interval=found.overall, scope={"model": "m"}).outcome == "not testable here"


def crossing(at: float, *, noise: float = 0.01) -> Crossing:
    rows = made_sweep(lambda m, arm, s: -(s - at) * arm.endswith("owl"), noise=noise)
    return lab.sweeps.find_crossing(lab.contrast(rows, PAIR))


def test_curves_cross_where_both_ends_are_clear() -> None:
    found = crossing(0.45)
    assert found.crosses and found.turn.low < 0.45 < found.turn.high
    assert "cross at a sparsity of 0.4" in found.sentence()


@pytest.mark.parametrize(("at", "noise"), [(0.2, 0.5), (0.0, 0.01), (1.0, 0.01)])
def test_a_slope_alone_is_no_crossing(at: float, noise: float) -> None:
    found = crossing(at, noise=noise)
    assert not found.crosses and found.sentence().startswith("no crossing is shown")


def test_the_table_has_a_row_for_every_model_and_one_over_them() -> None:
    found = lab.sweeps.effects_over_models(gain_of({"a": 0.3, "b": -0.4}))
    table = lab.sweeps.model_table(found, rule="owl")
    assert table["model"].tolist() == ["a", "b", "over models"] and set(table["rule"]) == {"owl"}
    assert table["estimate"].tolist() == pytest.approx([0.3, -0.4, -0.05], abs=0.01)
    alone = lab.sweeps.model_table(lab.sweeps.effects_over_models(gain_of({"a": 0.3})))
    assert alone["model"].tolist() == ["a"]


def test_effects_of_a_rule_are_signed_as_the_claims_say() -> None:
    rows = made_sweep(lambda m, arm, s: -(s - 0.3) * arm.endswith("owl"), models=["m0", "m1"])
    found = lab.sweeps.allocation_effects(rows, "owl", ["ria", "sparsegpt"], low=0.4, high=0.6)
    own = {claim: effects.by_model["m0"].estimate for claim, effects in found.items()}
    assert own["C01"] == pytest.approx(-0.1, abs=0.01)  # at 0.4 owl gains 0.1, at 0.2 it loses 0.1: the worse counts
    assert own["C02"] == pytest.approx(0.4, abs=0.01) and own["C03"] == pytest.approx(1.0, abs=0.03)
    table = lab.sweeps.rule_table({"owl": found}, {"m0": 2.0, "m1": 4.0}, margin=0.01)
    assert len(table) == 9 and table["margin"].tolist() == pytest.approx([0.02, 0.04, 0.03] * 3)


def test_one_sparsity_has_no_slope() -> None:
    rows = made_sweep(lambda m, arm, s: 0.0, grid=[0.6])
    found = lab.sweeps.allocation_effects(rows, "owl", ["ria"], low=0.4, high=0.6)
    assert not found["C03"].overall.defined and not found["C01"].overall.defined and found["C02"].overall.defined
