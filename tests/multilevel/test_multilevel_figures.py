"""Figures show the numbers of the model beside them."""

import numpy as np
import pandas as pd
import pytest
from literal_models import grouped_data
from scipy.stats import t as student

from labutils.multilevel import (
    MultilevelModel,
    StudyTruth,
    bootstrap,
    centre_within,
    draw_features,
    figures,
    fit_multilevel,
    recovery,
)

DATA = centre_within(grouped_data(30, n_groups=12), ["x"], "g")


@pytest.fixture(scope="module")
def model() -> MultilevelModel:
    return fit_multilevel("y ~ x_within + w + (1 + x_within | g)", DATA)


def test_forest_shows_effects_and_t_intervals(model: MultilevelModel) -> None:
    other = fit_multilevel("y ~ x_within + (1 | g)", DATA)
    figure = figures.fixed_effects_forest({"full": model, "small": other}, title="t", level=0.9)
    (axis,) = figure.axes
    assert [text.get_text() for text in axis.get_yticklabels()] == ["x_within", "w"]
    first, second = axis.containers
    rows = model.fixed.loc[["x_within", "w"]]
    assert first.lines[0].get_xdata().tolist() == pytest.approx(rows["estimate"].tolist())
    left = [segment[0][0] for segment in first.lines[2][0].get_segments()]
    assert left == pytest.approx((rows["estimate"] - rows["se"] * student.ppf(0.95, rows["df"])).tolist())
    assert second.lines[0].get_xdata().tolist() == pytest.approx([other.fixed.loc["x_within", "estimate"]])
    assert "90%" in axis.get_xlabel() and "effect on y" in axis.get_xlabel()


def test_share_bars_add_up_and_intervals_stand_beside_them(model: MultilevelModel) -> None:
    intervals = bootstrap(model, n_resamples=40)
    bars, dots = figures.variance_share_bars(intervals, title="t").axes
    widths = {}
    for bar in bars.patches:
        widths.setdefault(round(bar.get_y() + bar.get_height() / 2), []).append(bar.get_width())
    assert [sum(values) for values in widths.values()] == pytest.approx([1, 1, 1])
    total = intervals.table.loc["total"].loc[["f1", "f2", "v", "m", "residual"]]
    assert widths[0] == pytest.approx(total["estimate"].tolist())
    ends, points = dots.lines[::2], dots.lines[1::2]
    assert np.array([line.get_xdata() for line in ends]) == pytest.approx(total[["low", "high"]].to_numpy())
    assert [line.get_xdata()[0] for line in points] == pytest.approx(total["estimate"].tolist())


def test_share_bars_without_the_levels() -> None:
    uncentred = fit_multilevel("y ~ x + (1 | g)", DATA)
    _, dots = figures.variance_share_bars(bootstrap(uncentred, n_resamples=40), title="t").axes
    labels = [text.get_text() for text in dots.get_yticklabels()]
    assert labels == [figures.COMPONENTS[kind][0] for kind in ("f", "v", "m", "residual")]


def test_recovery_plot_shows_coverage_and_truth() -> None:
    truth = StudyTruth({"a": 0.5}, adaptation=(0.3,), finetuning=())
    found = recovery(truth, draw_features(["a"], 8), n_studies=4)
    coverage, effects = figures.recovery_plot(found, title="t").axes
    rows = found.loc["fixed"].drop(index="(Intercept)")
    assert [text.get_text() for text in coverage.get_yticklabels()] == ["a", "adaptation_2"]
    assert coverage.containers[0].lines[0].get_xdata().tolist() == rows["coverage"].tolist()
    assert effects.lines[0].get_xdata().tolist() == [0.5, 0.3]
    assert effects.containers[0].lines[0].get_xdata().tolist() == pytest.approx(rows["mean"].tolist())


def test_caterpillar_is_sorted(model: MultilevelModel) -> None:
    figure = figures.caterpillar(model, title="t", term="x_within")
    expected = model.blups.xs("x_within", level="term")["estimate"].sort_values()
    (axis,) = figure.axes
    assert axis.containers[0].lines[0].get_xdata().tolist() == pytest.approx(expected.tolist())
    assert [text.get_text() for text in axis.get_yticklabels()] == list(expected.index.get_level_values("level"))
    with pytest.raises(LookupError, match="no term varying over 'g' 'x_withn'.*Did you mean 'x_within'"):
        figures.caterpillar(model, title="t", term="x_withn")
    with pytest.raises(LookupError, match="no grouping factor 'school'"):
        figures.caterpillar(model, title="t", group="school")


def test_residual_plots_have_a_panel_per_normality_assumption(model: MultilevelModel) -> None:
    figure = figures.residual_plots(model, title="t")
    titles = [axis.get_title() for axis in figure.axes if axis.get_visible()]
    assert titles == ["residuals", "residuals / σ", "(Intercept) over g", "x_within over g"]
    shown = figure.axes[0].collections[0].get_offsets()
    assert np.asarray(shown) == pytest.approx(np.column_stack([model.fitted, model.residuals]))


def test_power_curves_show_the_rows() -> None:
    rows = pd.DataFrame(
        {
            "n_samples": [10, 20],
            "feature": "a",
            "effect": 0.3,
            "power": [0.4, 0.7],
            "low": [0.3, 0.6],
            "high": [0.5, 0.8],
        }
    )
    (axis,) = figures.power_curves(rows, title="t").axes
    assert axis.containers[0].lines[0].get_ydata().tolist() == [0.4, 0.7]
    assert axis.get_legend().get_texts()[0].get_text() == "a"
