"""Contrasts and regret, on rows whose answers are known by construction."""

import itertools

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


def test_a_missing_arm_is_named() -> None:
    with pytest.raises(ValueError, match="nobody"):
        lab.contrast(made_rows(paper), {"x": ("ria/uniform", "nobody")})


def test_the_share_of_a_gain_is_the_ratio_of_mean_differences() -> None:
    losses = {"ria/uniform": 1.0, "ria/owl": 0.4, "sparsegpt/uniform": 0.2}  # 0.6 of 0.8
    noise = np.random.default_rng(3)
    rows = made_rows(lambda model, arm, s: losses.get(arm, 0.0) + noise.normal(0, 0.02))
    part, whole = ("ria/uniform", "ria/owl"), ("ria/uniform", "sparsegpt/uniform")
    found = lab.sweeps.share_of_gain(rows, whole=whole, part=part)
    assert found.low < 0.75 < found.high and found.estimate == pytest.approx(0.75, abs=0.02)


def test_nothing_has_no_shares() -> None:
    noise = np.random.default_rng(4)
    rows = made_rows(lambda model, arm, s: noise.normal())
    found = lab.sweeps.share_of_gain(rows, whole=("ria/uniform", "sparsegpt/uniform"), part=("ria/uniform", "ria/owl"))
    assert not found.defined and "no shares" in str(found)


def test_contrasts_are_averaged_item_by_item_and_added_loss_is_paired_with_the_dense_model() -> None:
    losses = {"ria/uniform": 1.0, "ria/owl": 0.4, "sparsegpt/uniform": 0.5, "sparsegpt/owl": 0.3}
    rows = made_rows(lambda model, arm, s: losses.get(arm, 0.0))
    gain = lab.contrast(rows, {score: (f"{score}/uniform", f"{score}/owl") for score in ("ria", "sparsegpt")})
    mean = lab.sweeps.average_contrasts(gain)
    assert len(mean) == len(gain) / 2 and mean["value"].tolist() == pytest.approx([0.4] * len(mean))
    rows["method"] = rows["arm"].str.split("/").str[0]
    dense = rows[rows["arm"] == "dense"].assign(loss=lambda frame: 2.0 + frame["item"])
    added = lab.sweeps.added_loss(pd.concat([rows[rows["arm"] != "dense"], dense]))
    assert added["value"].tolist() == pytest.approx((added["loss"] - 2.0 - added["item"]).tolist())
