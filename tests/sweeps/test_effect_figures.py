"""Figures show the numbers of their tables, and hide none of them."""

import pandas as pd
import pytest
from made_sweeps import ARMS, GRID, made_sweep, paper

import labutils as lab
from labutils.sweeps import effect_figures as figures

TABLE = pd.DataFrame(
    {
        "claim": ["C01", "C01", "C02", "C02"],
        "rule": ["owl", "alpha", "owl", "alpha"],
        "model": ["m0"] * 4,
        "estimate": [1.0, -400.0, 3.0, float("nan")],
        "low": [0.5, -500.0, 2.0, float("nan")],
        "high": [1.5, -300.0, 4.0, float("nan")],
    }
)


def test_panels_show_every_estimate_inside_the_frame() -> None:
    figure = figures.effect_panels(TABLE, panel="claim", row="rule", hue="model", title="t", x_label="margins")
    first, second = figure.axes
    shown = [x for container in first.containers for x in container.lines[0].get_xdata()]
    assert shown == [1.0, -400.0] and first.get_xlim()[0] <= -500
    assert [text.get_text() for text in first.get_yticklabels()] == ["owl", "alpha"]
    assert [x for container in second.containers for x in container.lines[0].get_xdata()] == [3.0]


def test_a_table_without_rows_says_so() -> None:
    figure = figures.effect_panels(TABLE.iloc[:0], panel="claim", row="rule", title="t", x_label="margins")
    assert figure.axes[0].get_title(loc="left") == "t: nothing to show"


def test_gaps_are_to_the_best_component_and_equal_arms_stand_side_by_side() -> None:
    def loss(model: str, arm: str, s: float) -> float:
        return paper(model, "ria/uniform", s) if arm == "mine" else paper(model, arm, s)

    rows = made_sweep(loss, arms=[*ARMS, "mine"], noise=0.0, models=["m0", "m1"])
    figure = figures.gap_curves(rows, [*ARMS, "mine"], ARMS, title="t")
    assert [axis.get_title() for axis in figure.axes] == ["m0, a", "m1, a"]
    curves = {each.get_label(): each.lines[0] for each in figure.axes[0].containers}
    expected = {s: 100 * (paper("m0", "ria/uniform", s) - min(paper("m0", arm, s) for arm in ARMS)) / 2 for s in GRID}
    for arm in ("ria/uniform", "mine"):
        assert list(curves[arm].get_ydata()) == pytest.approx(list(expected.values()), abs=1e-9)
    places = [curves[arm].get_xdata() for arm in ("ria/uniform", "mine")]
    assert (places[0] != places[1]).all()
    lows = [min(curves[arm].get_ydata()[number] for arm in ARMS) for number in range(len(GRID))]
    assert lows == pytest.approx([0.0] * len(GRID), abs=1e-9)  # the best component is the line at zero
    assert figure.axes[0].get_ylim()[1] > max(expected.values())


def test_a_method_and_an_allocation_have_their_own_colours() -> None:
    methods, rules = lab.plots.PALETTE, lab.plots.ALLOCATION_PALETTE
    assert not {tuple(each) for each in methods.values()} & {tuple(each) for each in rules.values()}
    assert len({tuple(each) for each in rules.values()}) == len(rules)
    assert lab.plots.colour_of("sparsegpt/owl") == methods["sparsegpt"] and lab.plots.colour_of("owl") == rules["owl"]
    others = [lab.plots.colour_of(name, number) for number, name in enumerate(["lab-llama", "lab-gpt2"])]
    assert others[0] != others[1] and not {tuple(each) for each in others} & {tuple(each) for each in rules.values()}
