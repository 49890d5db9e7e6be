"""The same question asked in other ways: planted studies in which the outcome does, and does not, depend on the way."""

import numpy as np
import pandas as pd
import pytest

from labutils.claims.conditions import judge_under
from labutils.multilevel.fork_figures import ratio_forest, specification_plot
from labutils.multilevel.forks import SCORES, SMALLEST, ratio_over_ranges, specification_curve
from labutils.multilevel.sentences import describe_curve, describe_ranges

SIGNS = {"complexity": -1, "term_share": 1}
SCOPE = {"model": "simulated"}


def planted(seed: int, *, wide: float = 0.5, density: float = 0.3, length: float = 0.0) -> pd.DataFrame:
    """Runs of 24 samples: readability −0.3, term share and abstract length as told, a wide and a narrow fine-tuning.

    The length of abstracts follows the term share (r = 0.8). H2 lies `wide` above H1, H3 only 0.02 above it.
    """
    generator, rows = np.random.default_rng(seed), []
    for number in range(24):
        complexity, term_share = generator.normal(size=2)
        abstract_length = 0.8 * term_share + 0.6 * generator.normal()
        text = {"complexity": complexity, "term_share": term_share, "abstract_length": abstract_length}
        level = -0.3 * complexity + density * term_share + length * abstract_length + 0.1 * generator.normal()
        for tuning, gain in (("H1", 0.0), ("H2", wide), ("H3", 0.02)):
            for way in ("D1", "D2"):
                score = 0.1 * (level + gain + 0.1 * generator.normal())
                name = {"sample": f"S{number:02d}", "adaptation": way, "finetuning": tuning}
                rows.append(name | text | {"pearson": score, "spearman": score + 0.001 * generator.normal()})
    return pd.DataFrame(rows)


def ranges_of(runs: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {"all": runs, "narrow": runs[runs["finetuning"] != "H2"]}


def test_the_curve_holds_the_planted_effects_under_every_specification():
    curve = specification_curve(planted(0), SIGNS, ["abstract_length"])
    assert len(curve) == len(SCORES) * 2 * 3
    found = curve[curve["score"] == "Pearson's r"].set_index(["covariates", "effect"])
    runs = planted(0)
    expected = 0.3 * runs.groupby("sample")["complexity"].first().std() / (runs["pearson"].std() / 0.1)
    assert found.loc[("none", "complexity"), "estimate"] == pytest.approx(expected, abs=0.1)
    assert (found["low"].xs("complexity", level="effect") > 0).all()
    least = found.xs(SMALLEST, level="effect")["estimate"]
    assert least.equals(found.drop(SMALLEST, level="effect").groupby(level="covariates")["estimate"].min()[least.index])
    told = describe_curve(curve, {"complexity": "minus complexity"})
    assert told.startswith("Of 6 specifications, minus complexity is clearly positive in 6 and clearly negative in 0")


def test_a_covariate_that_carries_the_effect_takes_it():
    """Planted: the length of abstracts acts, the term share does not; only the model without length sees the share."""
    curve = specification_curve(
        planted(1, density=0.0, length=0.4), SIGNS, ["abstract_length"], scores={"r": ("pearson", False)}
    )
    share = curve[curve["effect"] == "term_share"].set_index("covariates")
    assert share.loc["none", "low"] > 0 > share.loc["abstract_length", "low"]


def test_a_ratio_that_is_the_lists_own_is_not_judged():
    """Planted: H2 makes the hyperparameters matter; without it they explain next to nothing."""
    found = ratio_over_ranges(ranges_of(planted(2, wide=2.0)), list(SIGNS), n_resamples=100)
    assert found["all"].ratio.low > 0.405 and found["narrow"].ratio.high < -0.405
    assert [one.finetunings for one in found.values()] == [3, 2] and found["all"].runs == 24 * 6
    assert found["all"].f1 / found["all"].f2 == pytest.approx(np.exp(found["all"].ratio.estimate))
    # both contradict equality, but from opposite sides: still one outcome, so `judge_under` alone would let it pass
    ratios = {name: one.ratio for name, one in found.items()}
    verdict, outcomes = judge_under("C12", ratios, what="range of hyperparameters", scope=SCOPE)
    assert set(outcomes.values()) == {"contradicted"}
    assert verdict.outcome == "not testable here" and "opposite sides" in verdict.note
    assert "The ratio goes from" in describe_ranges(found, outcomes)


def test_a_ratio_that_every_range_gives_is_judged():
    runs = planted(3, wide=0.02, density=0.5)
    ratios = {name: one.ratio for name, one in ratio_over_ranges(ranges_of(runs), list(SIGNS), n_resamples=60).items()}
    verdict, outcomes = judge_under("C12", ratios, what="range of hyperparameters", scope=SCOPE)
    assert verdict.outcome == "contradicted" and set(outcomes) == {"all", "narrow"} and verdict.high < 0


def test_ranges_without_a_ratio_say_why():
    runs = planted(4)
    noise = runs.assign(pearson=np.random.default_rng(4).normal(size=len(runs)))
    one_way = runs[(runs["adaptation"] == "D1") & (runs["finetuning"] == "H1")]
    found = ratio_over_ranges({"one": one_way, "none": runs.head(0), "noise": noise}, list(SIGNS), n_resamples=60)
    assert not any(one.ratio.defined for one in found.values())
    assert "holds 1 fine-tunings" in found["one"].ratio.note and "holds 0 fine-tunings" in found["none"].ratio.note
    assert "neither hyperparameters nor text features explain anything" in found["noise"].ratio.note
    assert describe_ranges(found, dict.fromkeys(found, "not testable here")).startswith("No range has a ratio")


def test_figures_show_every_specification_and_range():
    runs = planted(5)
    curve = specification_curve(runs, SIGNS, ["abstract_length"], scores={"r": ("pearson", False)})
    names = {"complexity": "minus complexity", "abstract_length": "length"}
    figure = specification_plot(curve, title="Curve", names=names, judged=("r", "none"))
    above, below = figure.axes
    assert [len(bars.lines[0].get_xdata()) for bars in above.containers] == [2, 2, 2]
    assert [tick.get_text() for tick in below.get_yticklabels()] == ["r", "no covariate", "with length"]
    assert [text.get_text() for text in above.get_legend().get_texts()][0] == "minus complexity"
    found = ratio_over_ranges(ranges_of(runs) | {"none": runs.head(0)}, list(SIGNS), n_resamples=60)
    axis = ratio_forest(found, title="Ratio", margin=0.405).axes[0]
    labels = [tick.get_text() for tick in axis.get_yticklabels()]
    assert labels == ["all (3 fine-tunings)", "narrow (2 fine-tunings)", "none (0 fine-tunings)"]
    marks = [line.get_xdata() for line in axis.lines if line.get_marker() == "o"]
    assert np.ravel(marks) == pytest.approx([np.exp(found[name].ratio.estimate) for name in ("all", "narrow")])
