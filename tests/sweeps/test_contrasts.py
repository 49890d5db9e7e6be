"""Contrasts, regret and signs, on rows whose answers are known by construction."""

import itertools
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

import labutils as lab

ARMS = ["ria/uniform", "ria/owl", "sparsegpt/uniform", "sparsegpt/owl", "best"]


def made_rows(loss) -> pd.DataFrame:
    """Rows of one or two models whose loss is a function of arm and sparsity, plus noise shared by all arms."""
    noise = np.random.default_rng(0).normal(size=(2, 3, 5))
    rows = [
        {"model": model, "calibration": "a", "evaluation": "b", "arm": arm, "sparsity": s, "draw": draw, "item": item,
         "loss": 2 + loss(model, arm, s) + noise[int(model[-1]), draw, item]}
        for model, arm, s, draw, item in itertools.product(["m0", "m1"], ARMS, [0.2, 0.4, 0.6, 0.8], range(3), range(5))
    ]  # fmt: skip
    dense = [{**row, "arm": "dense", "sparsity": 0.0, "draw": -1, "loss": 2.0} for row in rows if row["arm"] == "best"]
    return pd.DataFrame(rows + dense).drop_duplicates(["model", "arm", "sparsity", "draw", "item"])


def paper(model: str, arm: str, s: float) -> float:
    """What the paper says: owl and the Hessian cost a little at low sparsity and gain at high."""
    gain = s - 0.5
    return (0.0 if arm == "best" else 0.1) - gain * arm.endswith("owl") - gain * arm.startswith("sparsegpt")


def test_a_contrast_favours_its_second_arm() -> None:
    gain = lab.contrast(made_rows(paper), {"ria": ("ria/uniform", "ria/owl")})
    assert gain.groupby("sparsity")["value"].mean().tolist() == pytest.approx([-0.3, -0.1, 0.1, 0.3])
    interval = lab.contrast_interval(gain, lab.stats.slope([0.2, 0.4, 0.6, 0.8]))
    assert (interval.low, interval.estimate, interval.high) == pytest.approx((1.0, 1.0, 1.0))


def test_regret_is_to_the_best_component_in_every_setting() -> None:
    rows = made_rows(lambda model, arm, s: {"best": 0.3, "ria/owl": 0.1 if model == "m0" else 0.5}.get(arm, 0.2))
    table = lab.sweeps.regret_table(rows, "best", ARMS[:-1])
    assert table.loc[("m0", "b")].tolist() == pytest.approx([0.1] * 4) and table.loc[
        ("m1", "b")
    ].tolist() == pytest.approx([0.05] * 4)
    absolute = lab.sweeps.regret_table(rows, "best", ARMS[:-1], relative=False)
    assert absolute.loc[("m0", "b")].tolist() == pytest.approx([0.2] * 4)


def noisy_rows(gap: float, n_items: int = 60) -> pd.DataFrame:
    """One setting, every arm with noise of its own; the arm "best" loses `gap` to all others."""
    noise = np.random.default_rng(1)
    about = {"model": "m", "evaluation": "b", "draw": 0}
    rows = [
        {**about, "arm": arm, "sparsity": s, "item": item, "loss": 2 + gap * (arm == "best") + noise.normal()}
        for arm, s, item in itertools.product(ARMS, [0.2, 0.4, 0.6, 0.8], range(n_items))
    ]
    return pd.DataFrame(
        rows + [{**about, "arm": "dense", "sparsity": 0.0, "item": i, "loss": 2.0} for i in range(n_items)]
    )


def test_cross_fitted_regret_is_free_of_the_winners_curse() -> None:
    """Among equal arms plain regret is far above zero; the cross-fitted one is not, and it finds a true gap."""
    arms = ARMS[:-1]
    equal = np.concatenate([lab.sweeps.cross_fitted_regret(noisy_rows(0.0), "best", arms).to_numpy().ravel()])
    assert lab.sweeps.regret_table(noisy_rows(0.0), "best", arms).to_numpy().mean() > 0.05
    assert abs(equal.mean()) < 0.03
    assert lab.sweeps.cross_fitted_regret(noisy_rows(1.0), "best", arms).to_numpy().mean() == pytest.approx(
        0.5, abs=0.05
    )


def test_cross_fitted_regret_without_noise_is_the_regret() -> None:
    rows = made_rows(lambda model, arm, s: {"best": 0.3, "ria/owl": 0.1 if model == "m0" else 0.5}.get(arm, 0.2))
    pd.testing.assert_frame_equal(
        lab.sweeps.cross_fitted_regret(rows, "best", ARMS[:-1]),
        lab.sweeps.regret_table(rows, "best", ARMS[:-1]),
        check_names=False,
    )
    with pytest.raises(ValueError, match="two items"):
        lab.sweeps.cross_fitted_regret(noisy_rows(0.0, n_items=1), "best", ARMS[:-1])


def test_the_smallest_advantage_is_minus_the_largest_regret() -> None:
    rows = made_rows(lambda model, arm, s: s if arm == "best" else 0.5)
    advantage = lab.sweeps.advantage_over(rows, "best", ARMS[:-1])
    interval = lab.contrast_interval(advantage, lab.sweeps.smallest_advantage(4 * 4))
    assert interval.estimate == pytest.approx(-0.3)


def test_signs_of_a_world_that_agrees_with_the_paper() -> None:
    signs = lab.sweeps.expected_signs(made_rows(paper), low=0.4, high=0.6, margin=0.01)
    means = signs.groupby("contrast")["value"].mean()
    assert (
        means["C01"] == pytest.approx(0.21)
        and means["C02"] == pytest.approx(0.2)
        and means["C03"] == pytest.approx(1.0)
    )
    assert means["C04"] == pytest.approx(0.2) and means["C05"] == pytest.approx(0.2)
    assert lab.contrast_interval(signs, lab.sweeps.expected_sign_share).estimate == pytest.approx(0.5)


def test_signs_of_a_world_that_contradicts_it() -> None:
    signs = lab.sweeps.expected_signs(made_rows(lambda m, arm, s: -paper(m, arm, s)), low=0.4, high=0.6, margin=0.01)
    assert lab.contrast_interval(signs, lab.sweeps.expected_sign_share).estimate == pytest.approx(-0.5)
    effects = lab.sweeps.stratum_estimates(signs, by=("contrast", "model"))
    assert len(effects) == 10 and (effects["estimate"] < 0).all()


def test_a_missing_arm_is_named() -> None:
    with pytest.raises(ValueError, match="nobody"):
        lab.contrast(made_rows(paper), {"x": ("ria/uniform", "nobody")})


@pytest.mark.parametrize(
    "kept",
    [
        lambda rows: rows[rows["arm"] != "ria/owl"],
        lambda rows: rows[rows["sparsity"].isin([0.0, 0.6])],
        lambda rows: rows[rows["sparsity"].isin([0.0, 0.6, 0.8])],
        lambda rows: rows[rows["sparsity"].isin([0.0, 0.2, 0.4])],
    ],
)
def test_signs_that_the_rows_cannot_tell_are_not_testable_and_stop_nothing(kept: Callable) -> None:
    """As in notebook 03 with other components or sparsities."""
    signs = lab.sweeps.expected_signs(kept(made_rows(paper)), low=0.4, high=0.6, margin=0.01)
    share = lab.contrast_interval(signs, lab.sweeps.expected_sign_share)
    verdict = lab.judge("R10", interval=share, scope={"model": "m"}, unit="share − ½")
    assert verdict.outcome == "not testable here" and "no pair of arms" in verdict.sentence()
    effects = lab.sweeps.stratum_estimates(signs, by=("contrast", "model", "evaluation"))
    effects["setting"] = effects["model"] + " · " + effects["evaluation"].map(lab.data.short_source)
    table = effects.pivot(index="setting", columns="contrast", values="estimate").loc[effects["setting"].unique()]
    assert lab.plots.value_grid(table, title="Effect", label="nats").axes[0].get_title(loc="left").endswith("to show")
    spread = {
        name: lab.stats.heterogeneity(part["estimate"], part["error"]) for name, part in effects.groupby("contrast")
    }
    agreement = pd.Series(spread, name="I²").rename_axis("contrast").reset_index()
    assert "I²" in lab.show(agreement, formats={"I²": ".0%"}, missing="needs two settings").to_html()
