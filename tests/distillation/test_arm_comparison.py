"""Comparisons between arms: signs, units, tests with known answers, and what a null result could have missed."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from labutils.distillation import comparison
from labutils.sweeps.contrasts import smallest_advantage


def items(effects: dict[str, float], *, n_seeds: int = 6, n_items: int = 80, blocks: int = 0) -> pd.DataFrame:
    """Rows whose arms differ by known amounts, with item and seed noise that all arms share."""
    draws = np.random.default_rng(0)
    rows = []
    for task in ("lab:a", "lab:b"):
        item_noise, seed_noise = draws.normal(size=n_items), draws.normal(scale=0.02, size=n_seeds)
        for arm, gain in effects.items():
            for seed in range(n_seeds):
                losses = 0.5 + 0.1 * item_noise + seed_noise[seed] - gain + draws.normal(scale=0.02, size=n_items)
                rows.append(
                    pd.DataFrame(
                        {
                            "model": "m", "calibration": task, "evaluation": task, "arm": arm, "seed": seed,
                            "item": range(n_items), "loss": losses,
                        }
                    )
                )  # fmt: skip
    frame = pd.concat(rows, ignore_index=True)
    if not blocks:
        return frame
    return pd.concat([frame.assign(block=block, loss=frame["loss"] / (block + 1)) for block in range(blocks)])


def runs(effects: dict[str, list[float]]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"evaluation": task, "arm": arm, "seed": seed, "test": score, "chance": 0.5}
            for task in ("a", "b")
            for arm, scores in effects.items()
            for seed, score in enumerate(scores)
        ]
    )


def test_a_gain_is_positive_and_inside_its_interval() -> None:
    differences = comparison.arm_differences(items({"kd": 0.0, "ild": 0.03}), {"ild": ("kd", "ild")})
    found = comparison.score_interval(differences)
    assert found.low < 0.03 < found.high and found.low > 0 and found.n_draws == 6 and found.n_items == 160
    assert found.units == ("test item", "seed")
    assert comparison.interval_rows(differences, ["evaluation"])["estimate"].mean() == pytest.approx(found.estimate)


def test_the_best_of_two_references_is_the_one_to_beat() -> None:
    frame = items({"kd": 0.0, "ild": 0.05, "loraild": 0.03})
    differences = comparison.arm_differences(frame, {"kd": ("kd", "loraild"), "ild": ("ild", "loraild")})
    found = comparison.score_interval(differences, smallest_advantage(2))
    assert found.estimate == pytest.approx(-0.02, abs=0.01) and found.high < 0


def test_comparisons_of_unequal_seeds_are_read_on_the_seeds_they_share() -> None:
    frame = items({"kd": 0.0, "ild": 0.05, "loraild": 0.03})
    fewer = frame[(frame["arm"] != "ild") | (frame["seed"] < 4)]
    pairs = {"kd": ("kd", "loraild"), "ild": ("ild", "loraild")}
    found = comparison.score_interval(comparison.arm_differences(fewer, pairs), smallest_advantage(2))
    same = comparison.score_interval(comparison.arm_differences(frame[frame["seed"] < 4], pairs), smallest_advantage(2))
    assert found.n_draws == 4 and (found.estimate, found.low) == (same.estimate, same.low)


def test_gains_along_a_part_compare_like_with_like() -> None:
    frame = items({"kd": 0.0, "ild": 0.02, "kd/share=2": 0.1, "ild/share=2": 0.09})
    found = comparison.gains_along(frame, ["ild"], reference="kd", part="share", values=[1, 2], default=1)
    assert found["estimate"].tolist() == pytest.approx([0.02, -0.01], abs=0.005)
    assert found["share"].tolist() == [1, 2] and (found["comparison"] == "ild").all()


def test_probes_are_paired_block_by_block() -> None:
    frame = items({"kd": 0.0, "ild": 0.04}, blocks=2)
    differences = comparison.arm_differences(frame, {"ild": ("kd", "ild")})
    assert differences["block"].nunique() == 2
    assert comparison.score_interval(differences).estimate == pytest.approx((0.04 + 0.02) / 2, abs=0.005)


def test_permutation_p_values_are_exact() -> None:
    """Five positive differences of one size: one sign pattern of 32 is as extreme."""
    table = comparison.seed_tests(
        runs({"kd": [0.5] * 5, "ild": [0.6] * 5}), {"ild": ("kd", "ild")}, margin=0.01
    ).set_index("task")
    assert table.loc["a", "p_better"] == pytest.approx(1 / 32) and table.loc["a", "difference"] == pytest.approx(0.1)
    assert table.index.tolist() == ["a", "b", "all"]


def test_permutation_p_values_equal_all_sign_patterns() -> None:
    values = np.array([0.03, -0.01, 0.02, 0.05, -0.02, 0.01])
    table = comparison.seed_tests(
        runs({"kd": [0.5] * 6, "ild": (0.5 + values).tolist()}), {"ild": ("kd", "ild")}, margin=0.01
    )
    means = [
        np.mean([x if pattern >> k & 1 else -x for k, x in enumerate(values)]) for pattern in range(2 ** len(values))
    ]
    expected = np.mean([mean >= values.mean() - 1e-12 for mean in means])
    assert table["p_better"].iloc[0] == pytest.approx(expected)


def test_equivalence_is_two_one_sided_t_tests() -> None:
    values = np.array([0.001, -0.002, 0.003, 0.000, -0.001, 0.002])
    table = comparison.seed_tests(
        runs({"kd": [0.5] * 6, "ild": (0.5 + values).tolist()}), {"ild": ("kd", "ild")}, margin=0.01
    )
    above = stats.ttest_1samp(values, -0.01, alternative="greater").pvalue
    below = stats.ttest_1samp(values, 0.01, alternative="less").pvalue
    assert table["p_equivalent"].iloc[0] == pytest.approx(max(above, below)) and table["p_equivalent"].iloc[0] < 0.01


def test_a_detectable_difference_is_found_four_times_in_five() -> None:
    draws = np.random.default_rng(3)
    values = draws.normal(size=12)
    values *= 0.02 / values.std(ddof=1)  # the spread of the study is the true one
    detectable = comparison._one_test(values, 0.01)["detectable"]
    again = draws.normal(loc=detectable, scale=0.02, size=(4000, 12))
    assert np.mean(stats.ttest_1samp(again, 0, axis=1).pvalue < 0.05) == pytest.approx(0.8, abs=0.04)


def test_identical_arms_are_equivalent_and_no_better() -> None:
    table = comparison.seed_tests(runs({"kd": [0.5, 0.6], "ild": [0.5, 0.6]}), {"ild": ("kd", "ild")}, margin=0.01)
    assert (table["p_equivalent"] == 0).all() and (table["p_better"] == 1).all()
    assert (table["difference"].abs() < 1e-12).all()


def test_missing_arms_and_single_seeds_are_told() -> None:
    with pytest.raises(ValueError, match="no runs of the arm 'ild'"):
        comparison.seed_tests(runs({"kd": [0.5, 0.6]}), {"ild": ("kd", "ild")}, margin=0.01)
    with pytest.raises(ValueError, match="at least two seeds"):
        comparison.seed_tests(runs({"kd": [0.5], "ild": [0.6]}), {"ild": ("kd", "ild")}, margin=0.01)
    with pytest.raises(ValueError, match="no rows with arm"):
        comparison.arm_differences(items({"kd": 0.0}), {"ild": ("kd", "ild")})
    with pytest.raises(ValueError, match="no rows of the arm 'none'"):
        comparison.floor_guard(items({"kd": 0.0}), runs({"kd": [0.5, 0.6]}))


def test_the_floor_is_the_mean_score_beside_chance() -> None:
    guard = comparison.floor_guard(items({"none": 0.2}), runs({"none": [0.7, 0.7]}))
    assert guard.low < 0.7 < guard.high and guard.chance == 0.5


def test_seeds_that_one_arm_has_beyond_the_other_are_left_out() -> None:
    frame = items({"kd": 0.0, "ild": 0.03})
    fewer = frame[(frame["arm"] == "kd") | (frame["seed"] < 4)]
    found = comparison.arm_differences(fewer, {"ild": ("kd", "ild")})
    expected = comparison.arm_differences(frame[frame["seed"] < 4], {"ild": ("kd", "ild")})
    pd.testing.assert_frame_equal(found, expected)
    apart = frame[((frame["arm"] == "kd") & (frame["seed"] > 0)) | ((frame["arm"] == "ild") & (frame["seed"] < 5))]
    with pytest.raises(ValueError):
        comparison.arm_differences(apart, {"ild": ("kd", "ild")})
