"""Figures show the numbers of the rows beside them."""

import pandas as pd
import pytest
from matplotlib.figure import Figure

import labutils as lab
from labutils.plots import figures as plots


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    setting = lab.sweeps.SweepSizes(n_calibration=2, n_items=4, seq_len=16)
    arms = ["magnitude/uniform", "wanda/uniform", "wanda/owl"]
    return lab.sweep(
        "lab-llama", ["lab:review", "lab:narrative"], arms=arms, sparsities=[0.5, 0.8], n_draws=2, sizes=setting
    )


def curves(figure: Figure) -> dict[str, list[float]]:
    """Heights of the error-bar curves of the first panel, by label."""
    found = {}
    for container in figure.axes[0].containers:
        found[container.get_label()] = [float(y) for y in container.lines[0].get_ydata()]
    return found


def test_loss_curves_show_the_added_loss(rows: pd.DataFrame) -> None:
    figure = plots.loss_curves(rows, title="t")
    shown = curves(figure)
    here = rows[rows["evaluation"] == "lab:review"]
    dense = here.loc[here["arm"] == "dense", "loss"].mean()
    for arm in ("magnitude/uniform", "wanda/uniform", "wanda/owl"):
        expected = here[here["arm"] == arm].groupby("sparsity")["loss"].mean() - dense
        assert shown[arm] == pytest.approx(expected.tolist(), abs=1e-6)
    assert [axis.get_title() for axis in figure.axes] == ["review", "narrative"]


def test_difference_curves_show_the_mean_difference(rows: pd.DataFrame) -> None:
    gain = lab.contrast(rows, {"wanda": ("wanda/uniform", "wanda/owl")})
    figure = plots.difference_curves(
        {"wanda": gain}, title="t", better="owl", worse="uniform", margin=0.02, unit="nats"
    )
    assert curves(figure)["wanda"] == pytest.approx(gain.groupby("sparsity")["value"].mean().tolist(), abs=1e-6)


def test_one_method_has_one_colour(rows: pd.DataFrame) -> None:
    figure = plots.loss_curves(rows, title="t")
    colours = {c.get_label(): c.lines[0].get_color() for c in figure.axes[0].containers}
    assert colours["wanda/uniform"] == colours["wanda/owl"] == plots.PALETTE["wanda"] != colours["magnitude/uniform"]
    assert len(set(plots.PALETTE.values())) == len(plots.PALETTE)


def test_value_grid_writes_every_number() -> None:
    table = pd.DataFrame({0.1: [0.25, -1.5]}, index=["a", "b"])
    figure = plots.value_grid(table, title="t", label="l", digits=".2f")
    assert {text.get_text() for text in figure.axes[0].texts} == {"0.25", "-1.50"}


def test_settings_are_named_for_readers(rows: pd.DataFrame) -> None:
    regret = lab.sweeps.regret_table(rows, "wanda/owl", ["wanda/uniform", "magnitude/uniform"])
    assert list(regret.index) == [("lab-llama", "lab:review"), ("lab-llama", "lab:narrative")]  # keys stay as they are
    labels = plots.value_grid(regret, title="t", label="l").axes[0].get_yticklabels()
    assert [text.get_text() for text in labels] == ["lab-llama, review", "lab-llama, narrative"]
    assert plots.setting_name(("m", "file:a/b.txt#all")) == "m, b.txt" and plots.setting_name(0.5) == "0.5"


def test_block_sparsities_and_layer_errors(rows: pd.DataFrame) -> None:
    model, tokenizer = lab.load_model("lab-llama")
    tokens = lab.load_tokens("lab:review", tokenizer, n_sequences=2, seq_len=16)
    report = lab.prune(model, tokens, method="wanda", sparsity=0.5)
    figure = plots.block_sparsity_bars({"uniform": report.block_sparsity}, title="t")
    assert list(figure.axes[0].lines[0].get_ydata()) == pytest.approx(report.block_sparsity.tolist())
    grid = plots.layer_errors(report, title="t")
    assert len(grid.axes[0].texts) == len(report.layers)


def test_differences_have_a_panel_for_every_model_and_no_bar_is_cut(rows: pd.DataFrame) -> None:
    both = pd.concat([rows, rows.assign(model="other", loss=rows["loss"] * 3)], ignore_index=True)
    gain = lab.contrast(both, {"owl": ("wanda/uniform", "wanda/owl")})
    figure = plots.difference_curves(
        {"owl": gain}, title="t", better="owl", worse="uniform", margin=0.02, unit="nats", panels="model"
    )
    assert [axis.get_title() for axis in figure.axes] == ["lab-llama", "other"]
    for axis in figure.axes:
        (bars,) = axis.containers[0].lines[2]
        heights = [y for segment in bars.get_segments() for _, y in segment]
        assert axis.get_ylim()[0] < min(heights) and max(heights) < axis.get_ylim()[1]


def test_allocations_that_agree_stand_side_by_side() -> None:
    values = pd.Series([0.5, 0.5])
    lines = plots.block_sparsity_bars({"uniform": values, "global": values}, title="t").axes[0].lines
    assert (lines[0].get_xdata() != lines[1].get_xdata()).all() and lines[0].get_color() != lines[1].get_color()
