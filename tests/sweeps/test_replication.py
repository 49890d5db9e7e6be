"""C01 to C05 in every setting: the worst one decides, however many agree."""

import pandas as pd
import pytest
from made_sweeps import made_sweep, paper

import labutils as lab


def effects_of(loss, **options):
    rows = made_sweep(loss, **options)
    return lab.sweeps.claim_effects(rows, low=0.4, high=0.6, margin=0.01)


def judged(effects):
    return lab.judge("R10", interval=lab.sweeps.worst_claim(effects), scope={"model": "m"}, unit="margins")


def test_a_world_that_agrees_with_the_paper_supports_it() -> None:
    effects = effects_of(paper, models=["m0", "m1"], texts=["a", "b"])
    means = effects.groupby("cell")["value"].mean()  # in margins of 0.02
    assert means["C01, ria at 20%"] == pytest.approx(15, abs=0.5) and means["C01, ria at 40%"] == pytest.approx(
        5, abs=0.5
    )
    assert means["C02"] == pytest.approx(10, abs=0.5) and means["C03"] == pytest.approx(50, abs=1)
    assert means["C04"] == pytest.approx(10, abs=0.5) and means["C05"] == pytest.approx(10, abs=0.5)
    verdict = judged(effects)
    assert verdict.outcome == "supported" and 5.5 < verdict.estimate < 6.5  # C01 at 40 %, and one margin


def test_one_setting_of_eight_that_reverses_a_claim_decides() -> None:
    """Seven settings agree with every claim; a majority would be 39 of 40."""

    def one_differs(model, arm, s):
        sign = -1 if model == "m1" else 1
        return paper(model, arm, s) if sign > 0 else 0.1 + (s - 0.5) * arm.startswith("sparsegpt")

    effects = effects_of(one_differs, models=["m0", "m1"], texts=["a"])
    more = effects_of(paper, models=["m2"], texts=list("abcdef"))
    both = pd.concat([effects, more], ignore_index=True)
    assert judged(both).outcome == "contradicted"
    table = lab.sweeps.effect_table(both)
    assert (table["holds"] == "no").sum() >= 2 and (table["holds"] == "yes").sum() > 30
    assert len(table) == 5 * 8


def test_no_worse_holds_within_a_margin() -> None:
    """The rule is better by half a margin everywhere at low sparsity: C01 holds."""
    effects = effects_of(lambda m, arm, s: -0.01 * arm.endswith("owl"), noise=0.001)
    table = lab.sweeps.effect_table(effects).set_index("claim")
    assert table.loc["C01", "holds"] == "yes" and table.loc["C01", "estimate"] == pytest.approx(-0.5, abs=0.05)
    worst = lab.sweeps.worst_effect(effects)
    assert worst.loc[worst["contrast"] == "C01", "value"].mean() == pytest.approx(0.5, abs=0.05)


def test_margins_are_those_of_each_setting() -> None:
    effects = effects_of(paper, dense=4.0)
    assert effects.groupby("cell")["value"].mean()["C02"] == pytest.approx(5, abs=0.3)


def test_the_summary_takes_models_as_units() -> None:
    def by_model(model, arm, s):
        return -{"m0": 0.3, "m1": -0.4, "m2": -0.5}[model] * arm.endswith("owl")

    effects = effects_of(by_model, models=["m0", "m1", "m2"])
    found = lab.sweeps.claim_summary(effects).set_index("claim")
    assert found.loc["C02", ["settings", "holds", "fails"]].tolist() == [3, 1, 2]
    assert found.loc["C02", "estimate"] == pytest.approx(-10, abs=0.5)
    assert found.loc["C02", "low"] < -30 and found.loc["C02", "high"] > 10 and found.loc["C02", "I²"] > 0.9
    alone = lab.sweeps.claim_summary(effects[effects["model"] == "m0"])
    assert alone["estimate"].isna().all() and alone["I²"].isna().all()


@pytest.mark.parametrize(
    "kept",
    [
        lambda rows: rows[rows["arm"] != "ria/owl"],
        lambda rows: rows[rows["sparsity"].isin([0.0, 0.6])],
        lambda rows: rows[rows["sparsity"].isin([0.0, 0.6, 0.8])],
        lambda rows: rows[rows["sparsity"].isin([0.0, 0.2, 0.4])],
    ],
)
def test_what_the_rows_cannot_tell_is_not_testable_and_stops_nothing(kept) -> None:
    """As in notebook 03 with other components or sparsities."""
    effects = lab.sweeps.claim_effects(kept(made_sweep(paper)), low=0.4, high=0.6, margin=0.01)
    assert effects.empty and lab.sweeps.effect_table(effects).empty and lab.sweeps.claim_summary(effects).empty
    assert judged(effects).outcome == "not testable here"
    figure = lab.sweeps.effect_figures.effect_panels(
        lab.sweeps.effect_table(effects), panel="claim", row="model", title="t", x_label="x"
    )
    assert "nothing to show" in figure.axes[0].get_title(loc="left")
