"""Marginal means and their contrasts: R's emmeans, averages by hand, and what is refused.

Reference numbers: R 4.2.2, emmeans 1.8.4-1, lme4 1.1-31, lmerTest 3.1-3, lmer.df="satterthwaite", tight optimiser
(xtol_rel 1e-15, ftol_rel 1e-15); p-values as summary() holds them.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from literal_models import grouped_data
from scipy.stats import t as student

from labutils.multilevel import fit_multilevel, marginal_means
from labutils.multilevel.model import MultilevelModel


def read(real_data: Path, name: str) -> pd.DataFrame:
    data = pd.read_csv(real_data / "f_mixed_models" / f"{name}.csv")
    return data.assign(sexf=np.where(data["sex"] == 1, "girl", "boy")) if name == "popular2" else data


def machines(real_data: Path, *, weighted: bool = False) -> MultilevelModel:
    data = read(real_data, "machines")
    weights = 1 / (1 + np.arange(len(data)) % 5) if weighted else None
    return fit_multilevel("score ~ Machine + (1 | Worker/Machine)", data, weights=weights)


def check(table: pd.DataFrame, **columns: list[float]) -> None:
    for name, expected in columns.items():
        rel = {"df": 1e-3, "estimate": 1e-7, "p": 1e-4}.get(name, 1e-5)
        assert table[name].to_numpy() == pytest.approx(np.array(expected), rel=rel, abs=1e-12), name


def test_means_of_one_factor_agree_with_emmeans(real_data: Path) -> None:
    """emmeans(m, "Machine"), pairs(..., adjust=), contrast(..., list(x=c(1,-.5,-.5)))."""
    means = marginal_means(machines(real_data), "Machine")
    assert list(means.table.index) == ["A", "B", "C"] and means.table.index.name == "Machine"
    check(
        means.table, estimate=[52.3555555556, 60.3222222222, 66.2722222222], se=[2.48583018334] * 3,
        df=[8.5216994] * 3, low=[46.6837350381, 54.6504017047, 60.6004017047],
        high=[58.0273760730, 65.9940427407, 71.9440427407],
    )  # fmt: skip
    pairs = means.pairs()
    assert list(pairs.index) == ["A - B", "A - C", "B - C"]
    check(
        pairs, estimate=[-7.96666666667, -13.91666666667, -5.95], se=[2.17697552953] * 3, df=[10.0] * 3,
        t=[-3.6595113, -6.3926610, -2.7331497],
    )  # fmt: skip
    assert pairs.attrs["note"] == "p by tukey for 3 pairs of 3 means"
    for adjust, p in {
        "tukey": [0.011140475586172705, 0.000211582939029564, 0.050670654281867900],
        "holm": [0.008785267754119442, 0.000237194619930846, 0.021079143585626001],
        "bonferroni": [0.013177901631179163, 0.000237194619930846, 0.063237430756878002],
        "sidak": [0.01312010069093683, 0.00023717586666272, 0.06191380597604079],
        "none": [0.004392633877059721, 0.000079064873310282, 0.021079143585626001],
    }.items():
        check(means.pairs(adjust=adjust), p=p)
    own = means.contrasts({"A against the rest": {"A": 1, "B": -0.5, "C": -0.5}})
    check(own, estimate=[-10.9416666667], se=[1.88531611199], df=[10.0], p=[0.000172107389155188])


def test_pairs_of_four_means_agree_with_emmeans(real_data: Path) -> None:
    """pairs(emmeans(lmer(effort ~ Type + (1|Subject), ergostool), "Type"))."""
    means = marginal_means(fit_multilevel("effort ~ Type + (1 | Subject)", read(real_data, "ergostool")), "Type")
    check(means.table, se=[0.576012260065] * 4, df=[15.5298082] * 4)
    p = [5.61253681974e-07, 1.37092233044e-03, 0.580750817892, 1.82036706504e-02, 1.14888771567e-05, 2.95821927552e-02]
    check(means.pairs(), p=p, df=[24.0] * 6)


def test_means_of_a_weighted_fit_agree_with_emmeans(real_data: Path) -> None:
    """weights = 1/(1 + i%%5), i the number of a row from 0."""
    means = marginal_means(machines(real_data, weighted=True), "Machine")
    check(
        means.table, estimate=[52.3916186429, 60.2366407755, 66.2341499137],
        se=[2.49675609606, 2.49712019827, 2.49770537807], df=[8.65530742, 8.66036557, 8.66848121],
    )  # fmt: skip
    check(
        means.pairs(), estimate=[-7.84502213258, -13.84253127075, -5.99750913817],
        se=[2.21743918361, 2.21808709522, 2.21850968724], df=[9.98318935, 9.99461780, 10.00255984],
        p=[0.013596101527647675, 0.000257669669277871, 0.053186389583482763],
    )  # fmt: skip


def test_numbers_are_held_at_their_mean_and_functions_follow(real_data: Path) -> None:
    """lmer(popular ~ sexf*extrav + log(texp) + (1|class)): texp at its mean; with extrav at 8; extrav | sexf."""
    model = fit_multilevel("popular ~ sexf * extrav + log(texp) + (1 | class)", read(real_data, "popular2"))
    check(
        marginal_means(model, "sexf").table, estimate=[4.56851168005, 5.82487306315],
        se=[0.0669472814788, 0.0665725788251], df=[116.06, 113.53], low=[4.43591488939, 5.69298743454],
    )  # fmt: skip
    pair = marginal_means(model, "sexf", at={"extrav": [8]}).pairs()
    check(pair, estimate=[-1.32444809614], se=[0.0921826906504], df=[1948.03])
    within = marginal_means(model, "extrav", by="sexf", at={"extrav": [2, 5, 8]})
    assert within.table.index.names == ["sexf", "extrav"]
    check(
        within.table,
        estimate=[3.14661560433, 4.47342376208, 5.80023191983, 4.32437778367, 5.72452889982, 7.12468001597],
        se=[0.0956715753523, 0.0668147621257, 0.0948025675513, 0.0955086191944, 0.0667110452754, 0.0895348996527],
        df=[443.73, 115.16, 429.38, 437.26, 114.50, 345.94],
    )  # fmt: skip
    pairs = within.pairs()
    assert list(pairs.index)[:2] == [("boy", "2 - 5"), ("boy", "2 - 8")] and len(pairs) == 6
    check(
        pairs, df=[1921.87] * 3 + [1942.78] * 3,
        estimate=[-1.32680815775, -2.65361631551, -1.32680815775, -1.40015111615, -2.80030223230, -1.40015111615],
    )  # fmt: skip


def test_numbers_with_two_values_are_held_at_both(real_data: Path) -> None:
    """lmer(popular ~ sex*extrav + log(texp) + (1|class)) with sex 0/1: emmeans(m, "extrav", at=list(extrav=c(2,5)))."""
    model = fit_multilevel("popular ~ sex * extrav + log(texp) + (1 | class)", read(real_data, "popular2"))
    means = marginal_means(model, "extrav", at={"extrav": [2, 5]})
    check(
        means.table, estimate=[3.73549669400, 5.09897633095], se=[0.0811993319885, 0.0640567904926],
        df=[244.88, 97.56],
    )  # fmt: skip
    model = fit_multilevel("popular ~ scale(extrav) * sexf + texp + (1 | class)", read(real_data, "popular2"))
    found = marginal_means(model, "extrav", by="sexf", at={"extrav": [2, 5]}).table
    check(
        found,
        estimate=[3.01895096506, 4.34361547255, 4.19628598175, 5.59358745267],
        df=[568.62, 119.69, 564.03, 121.14],
    )


def test_combinations_of_factors_agree_with_emmeans(real_data: Path) -> None:
    """lmer(mAch ~ sector*minrty + sx + ses + (1|school)): emmeans(m, c("sector","minrty"))."""
    model = fit_multilevel("mAch ~ sector * minrty + sx + ses + (1 | school)", read(real_data, "hsb82"))
    means = marginal_means(model, ["minrty", "sector"])
    assert list(means.table.index) == [("No", "Catholic"), ("No", "Public"), ("Yes", "Catholic"), ("Yes", "Public")]
    check(
        means.table, estimate=[14.51525532857086, 12.74750659994833, 12.43554588894396, 8.67128889466654],
        se=[0.228536597022326, 0.205814831842736, 0.287615833473668, 0.289670059765492],
        df=[173.163094809374, 185.751640055476, 350.524852243961, 524.507829826315],
    )  # fmt: skip
    pairs = means.pairs()
    assert pairs.index[0] == "No Catholic - No Public"
    p = [2.27716334233463e-07, 3.63079588616699e-09, 3.91242593877905e-13, 0.814145542442373, 1.76996728384893e-09, 0.0]
    assert pairs["p"].to_numpy() == pytest.approx(np.array(p), rel=1e-4, abs=1e-8)  # the accuracy of ptukey
    check(
        pairs, df=[178.224807675240, 3532.215826304483, 333.441796896640, 276.378905586177, 3460.216373767012,
                   420.424398389129],
    )  # fmt: skip
    check(marginal_means(model, "sector").table, estimate=[13.4754006088, 10.7093977473])


@pytest.mark.parametrize("formula", ["y ~ c * x + w + (1 | g)", "y ~ 0 + c + C(year) * flag + (1 | g)"])
def test_a_mean_is_the_average_of_predictions_on_the_grid(formula: str) -> None:
    data = grouped_data(3, n_groups=12)
    data["year"] = np.random.default_rng(0).integers(2000, 2003, len(data))
    data["flag"] = np.random.default_rng(1).integers(2, size=len(data)) == 1
    model = fit_multilevel(formula, data)
    means = marginal_means(model, "c", level=0.9)
    for level in "abc":
        grid = pd.DataFrame({"c": level, "year": [2000, 2001, 2002] * 2, "flag": [True] * 3 + [False] * 3})
        grid = grid.assign(x=data["x"].mean(), w=data["w"].mean())
        assert means.table.loc[level, "estimate"] == pytest.approx(model.predict(grid, groups=False).mean())
    half = means.table["se"] * student.ppf(0.95, means.table["df"])
    assert (means.table["high"] - means.table["estimate"]).tolist() == pytest.approx(half.tolist())
    difference = means.table["estimate"].diff().dropna().tolist()
    assert (-means.pairs()["estimate"]).loc[["a - b", "b - c"]].tolist() == pytest.approx(difference)


def test_one_value_and_values_given_twice() -> None:
    model = fit_multilevel("y ~ c * x + (1 | g)", grouped_data(3))
    one = marginal_means(model, "c", at={"x": 2}).table
    assert one.equals(marginal_means(model, "c", at={"x": [2, 2.0]}).table)
    pairs = marginal_means(model, "x", by="c", at={"x": np.array([0.0, 1.0, 0.0]), "c": "b"}).pairs()
    assert list(pairs.index) == [("b", "0.0 - 1.0")]
    assert pairs["estimate"].iloc[0] == pytest.approx(-model.contrast({"x": 1, "cb:x": 1})["estimate"])


def test_a_grid_that_takes_all_memory_is_refused() -> None:
    data = pd.concat([grouped_data(3, n_groups=30)] * 5, ignore_index=True)
    generator = np.random.default_rng(0)
    data = data.assign(**{f"k{i}": generator.integers(25, size=len(data)).astype(str) for i in range(5)})
    model = fit_multilevel("y ~ c + k0 + k1 + k2 + k3 + k4 + (1 | g)", data)
    with pytest.raises(ValueError, match="29,296,875 rows"):
        marginal_means(model, "c")


def test_with_two_means_every_adjustment_leaves_the_t_test() -> None:
    data = grouped_data(3, n_groups=12)
    model = fit_multilevel("y ~ two + (1 | g)", data.assign(two=data["c"].eq("a").map({True: "p", False: "q"})))
    pairs = [marginal_means(model, "two").pairs(adjust=adjust) for adjust in ("tukey", "holm", "sidak", "none")]
    assert {table["p"].iloc[0] for table in pairs} == {pairs[0]["p"].iloc[0]}
    assert pairs[0]["p"].iloc[0] == pytest.approx(model.fixed.loc["twoq", "p"])


@pytest.mark.parametrize(
    ("factors", "options", "error", "message"),
    [
        ("d", {}, LookupError, "'d' is no column of the fixed effects"),
        ("g", {}, LookupError, "'g' is no column"),
        ("c", {"by": "cc"}, LookupError, "Did you mean 'c'"),
        ("c", {"at": {"z": [1]}}, LookupError, "'z' is no column"),
        ("c", {"by": "c"}, ValueError, "each only once"),
        ([], {}, ValueError, "at least one factor"),
        ("c", {"at": {"c": ["a", "q"]}}, ValueError, "no level 'q' of 'c'.*'a', 'b', 'c'"),
        ("c", {"at": {"x": []}}, ValueError, "no value to hold 'x' at"),
        ("c", {"level": 1.0}, ValueError, "between 0 and 1"),
    ],
)
def test_means_that_are_none_are_refused(factors: object, options: dict, error: type, message: str) -> None:
    model = fit_multilevel("y ~ c + x + (1 | g)", grouped_data(3))
    with pytest.raises(error, match=message):
        marginal_means(model, factors, **options)


def test_contrasts_that_are_none_are_refused() -> None:
    model = fit_multilevel("y ~ c + x + (1 | g)", grouped_data(3))
    means = marginal_means(model, "c")
    with pytest.raises(ValueError, match="adjust='fdr'.*'tukey', 'holm'"):
        means.pairs(adjust="fdr")
    with pytest.raises(ValueError, match="'tukey' is for all pairs"):
        means.contrasts({"one": {"a": 1}, "two": {"b": 1}}, adjust="tukey")
    with pytest.raises(LookupError, match="no mean of 'd'.*'a', 'b', 'c'"):
        means.contrasts({"one": {"d": 1}})
    with pytest.raises(ValueError, match="one mean only"):
        marginal_means(model, "x").pairs()
    with pytest.raises(ValueError, match="No contrast"):
        means.contrasts({})
