"""Cook's distance per group: R's numbers, refits by hand, groups without which there is no fit."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from literal_models import grouped_data

from labutils.multilevel import fit_multilevel, influence


def read(real_data: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(real_data / "f_mixed_models" / f"{name}.csv")


def test_distances_agree_with_lme4(real_data: Path) -> None:
    """R 4.2.2, lme4 1.1-31, m = lmer(Reaction ~ Days + (Days|Subject), sleepstudy), tight optimiser.

    lme4: cooks.distance(influence(m, groups="Subject")); cook: e'V⁻¹e/2 of the refits `update(m, data=<without>)`, with
    V = vcov(m), which is what influence.ME's cooks.distance is; and sigma²  of those refits.
    """
    found = influence(fit_multilevel("Reaction ~ Days + (Days | Subject)", read(real_data, "sleepstudy")))
    lme4 = [
        0.08214848401349423, 0.13202202728519086, 0.09824186406572384, 0.07414694927826997, 0.05012188726921948,
        0.00561348448328162, 0.01864036375730576, 0.00552523006560399, 0.11509378403374596, 0.11199762286692597,
        0.04585147010071671, 0.06613233416269151, 0.01226211242119961, 0.03044410724838665, 0.00106454010526514,
        0.08153021610841032, 0.00112375698493790, 0.00921627119821103,
    ]  # fmt: skip
    cook = [
        0.0924170445154031, 0.148524780695839, 0.110522097073987, 0.0834153179380258, 0.0563871231777212,
        0.00631517004367257, 0.0209704092269195, 0.00621588382384326, 0.129480507037866, 0.125997325725219,
        0.051582903863323, 0.0743988759330489, 0.0137948764738525, 0.0342496206544435, 0.00119760761840407,
        0.0917214931217821, 0.00126422660805267, 0.0103683050979391,
    ]  # fmt: skip
    assert list(found.table.index[:3]) == [308, 309, 310] and found.table.index.name == "Subject"
    assert found.table["rows"].tolist() == [10] * 18
    assert found.table["lme4_distance"].to_numpy() == pytest.approx(lme4, rel=2e-4)  # lme4 refits with loose tolerances
    assert found.table["cooks_distance"].to_numpy() == pytest.approx(cook, rel=1e-5)
    sigma2 = [559.1788321986162, 688.833961081688, 684.538132262794]
    assert found.variances["residual"].to_numpy()[:3] == pytest.approx(sigma2, rel=1e-5)


def test_changes_agree_with_lme4(real_data: Path) -> None:
    """dfbeta(influence(lmer(effort ~ Type + (1|Subject), ergostool), groups="Subject")), and cooks.distance of it."""
    found = influence(fit_multilevel("effort ~ Type + (1 | Subject)", read(real_data, "ergostool")))
    expected = [
        [-0.430555555556, 0.1111111111111, 0.2777777777778, 0.333333333333],
        [-0.180555555556, -0.0138888888889, -0.0972222222222, -0.166666666667],
    ]
    assert found.changes.to_numpy()[:2] == pytest.approx(np.array(expected), abs=1e-6)
    lme4 = [0.1100923915712, 0.0563161009140, 0.1447572085748, 0.0281206122334, 0.0739450202745, 0.0474028043571]
    assert found.table["lme4_distance"].to_numpy()[:6] == pytest.approx(lme4, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "formula", "group", "weighted", "cook", "sigma2"),
    [
        ("machines", "score ~ Machine + (1 | Worker/Machine)", "Worker", True,
         [0.0354760850182686, 0.0773642302252374, 0.140310285522295, 0.0523654108698038, 0.155336163048571,
          0.739643664307103],
         [0.4954919115727189, 0.5198727329249637, 0.339921014888457, 0.4359122241335514, 0.524513575618798,
          0.389830758566800]),
        ("penicillin", "diameter ~ 1 + (1 | plate) + (1 | sample)", "sample", False,
         [0.294625488386307, 0.0628929349308254, 0.231319482951865, 0.000578298707229453, 0.0000118020144652502,
          0.555745057778761],
         [0.307246374916543, 0.3128623111023447, 0.313768115261116, 0.298369556190138, 0.2780797086282049,
          0.304166666335490]),
        ("dyestuff", "Yield ~ 1 + (1 | Batch)", None, False,
         [0.0538969930672722, 0.0000266157990452384, 0.141835593113613, 0.0926495964775531, 0.559597174932139,
          0.351993942377189],
         [2146.5, 2720.0, 2653.0, 1997.5, 2441.5, 2749.0]),
    ],
)  # fmt: skip
def test_distances_of_refits_by_r(
    real_data: Path, name: str, formula: str, group: str | None, weighted: bool, cook: list, sigma2: list
) -> None:
    """As `cook` above; machines with weights 1/(1 + i%%5), i the number of a row from 0."""
    data = read(real_data, name)
    model = fit_multilevel(formula, data, weights=1 / (1 + np.arange(len(data)) % 5) if weighted else None)
    found = influence(model, group)
    assert found.table["cooks_distance"].to_numpy() == pytest.approx(cook, rel=1e-4, abs=1e-9)
    assert found.variances["residual"].to_numpy() == pytest.approx(sigma2, rel=1e-5)


def test_refits_are_those_of_the_remaining_rows() -> None:
    data = grouped_data(7, n_groups=6)
    weights = np.random.default_rng(0).uniform(0.5, 2, len(data))
    model = fit_multilevel("y ~ x + c + (1 | g) + (1 | h)", data, weights=weights, reml=False)
    for group in ("g", "h"):
        found = influence(model, group)
        for level in model.design.groupings[["g", "h"].index(group)].levels:
            kept = data[group] != level
            rest = fit_multilevel("y ~ x + c + (1 | g) + (1 | h)", data[kept], weights=weights[kept], reml=False)
            assert found.coefficients.loc[level].to_numpy() == pytest.approx(rest.coefficients, rel=1e-5)
            change = rest.coefficients - model.coefficients
            assert found.changes.loc[level].to_numpy() == pytest.approx(change, abs=1e-6)
            distance = change @ np.linalg.solve(model.fixed_covariance.to_numpy(), change) / 4
            assert found.table.loc[level, "cooks_distance"] == pytest.approx(distance, rel=1e-4)
            assert found.variances.loc[level, "residual"] == pytest.approx(rest.residual_variance, rel=1e-4)
            assert found.variances.loc[level, "g: (Intercept)"] == pytest.approx(
                rest.random["variance"].iloc[0], abs=1e-5
            )


def test_a_group_that_alone_holds_a_level_has_a_note() -> None:
    data = grouped_data(2, n_groups=10)
    data["kind"] = np.where(data["g"] == "g3", "only", "other")
    data.loc[data.index[-1], "kind"] = "other"
    found = influence(fit_multilevel("y ~ x + kind + (1 | g)", data))
    assert np.isnan(found.table.loc["g3", "cooks_distance"]) and np.isnan(found.coefficients.loc["g3"]).all()
    assert "linear combination" in found.table.loc["g3", "note"] or "zero in every row" in found.table.loc["g3", "note"]
    rest = found.table.drop(index="g3")
    assert (rest["note"] == "").all() and rest["cooks_distance"].gt(0).all()


def test_few_groups_singular_fits_and_groups_of_one_row() -> None:
    data = grouped_data(1, sd=(0.0, 0.0))
    data["y"] -= 0.95 * data.groupby("g")["y"].transform("mean")
    data.loc[0, "g"] = "alone"
    model = fit_multilevel("y ~ x + (1 | g)", data)
    found = influence(model)
    assert model.singular and found.table.loc["alone", "rows"] == 1
    left = np.polyfit(data["x"][1:], data["y"][1:], 1)[::-1]  # no variance between groups: ordinary least squares
    assert found.coefficients.loc["alone"].tolist() == pytest.approx(left.tolist(), rel=1e-5)
    two = data[data["g"].isin(["g1", "g2"])]
    notes = influence(fit_multilevel("y ~ x + (1 | g)", two)).table["note"]
    assert notes.str.contains("has one level only").all()


def test_an_unknown_group_names_the_nearest() -> None:
    with pytest.raises(LookupError, match="no grouping factor 'gg'.*Did you mean 'g'"):
        influence(fit_multilevel("y ~ x + (1 | g)", grouped_data(1)), "gg")
