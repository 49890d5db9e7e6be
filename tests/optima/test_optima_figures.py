"""Figures of notebook 12: a panel per case, a mark per method, and what the bars begin and end at."""

import pandas as pd
import pytest

from labutils.optima import figures

CASES = [("unstructured", 0.5), ("unstructured", 0.7), ("2:4", 0.5)]
METHODS = ["magnitude", "wanda", "magnitude+ls", "wanda+ls", "sparsegpt", "wanda+swaps+ls"]


def test_bars_are_ratios() -> None:
    rows = [{"method": name, "case": case, "ratio": 6.0, "of_mask": 2.0, "of_reconstruction": 3.0, "low": 5, "high": 7}
            for case in ("50% zeros", "2:4") for name in METHODS]  # fmt: skip
    figure = figures.ratio_bars(pd.DataFrame(rows), title="t")
    assert [axis.get_title() for axis in figure.axes] == ["50% zeros", "2:4"]
    bars = figure.axes[0].patches
    assert len(bars) == 2 * len(METHODS)
    assert (bars[0].get_x(), bars[0].get_width()) == (1, 1) and bars[len(METHODS)].get_width() == 4
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == METHODS


def test_shares_stand_at_their_sparsities() -> None:
    rows = [{"model": model, "pattern": pattern, "sparsity": sparsity, "part": part, "estimate": 0.3, "low": 0.2,
             "high": 0.5} for model in ("a", "b") for pattern, sparsity in CASES
            for part in ("mask", "reconstruction", "both together")]  # fmt: skip
    figure = figures.share_curves(pd.DataFrame(rows), title="t")
    assert [axis.get_title() for axis in figure.axes] == ["a", "b"]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["50%", "70%", "2:4"]


def test_masks_have_colours_and_steps_have_shapes() -> None:
    points = pd.DataFrame([
        {"model": model, "pattern": pattern, "sparsity": sparsity, "method": name, "added": 0.1, "error": 0.01}
        for model in ("a", "b") for pattern, sparsity in CASES for name in METHODS
    ])  # fmt: skip
    figure = figures.error_scatter(points, unit="nats", title="t")
    assert len(figure.axes) == 6 and figure.axes[0].get_title() == "a, 50%"
    shown = {text.get_text() for text in figure.legends[0].get_texts()}
    assert shown == {"mask: magnitude", "mask: wanda", "then: none", "then: ls", "sparsegpt", "wanda+swaps+ls"}
    marks = figures._Marks(METHODS)
    assert marks.of("wanda")["color"] == marks.of("wanda+ls")["color"] != marks.of("magnitude+ls")["color"]
    assert marks.of("wanda+ls")["marker"] == marks.of("magnitude+ls")["marker"] != marks.of("wanda")["marker"]
    costs = pd.DataFrame({"method": METHODS, "seconds": range(1, 7), "estimate": 0.2, "low": 0.1, "high": 0.3})
    axis = figures.cost_scatter(costs, unit="nats", title="t").axes[0]
    assert axis.get_xscale() == "log" and len(axis.containers) == len(METHODS)
    assert axis.get_yscale() == "linear"
    costs.loc[0, ["estimate", "high"]] = 9.0  # one far above the others
    axis = figures.cost_scatter(costs, unit="nats", title="t").axes[0]
    assert axis.get_yscale() == "symlog" and list(axis.get_yticks()) == [0, 0.1, 0.2, 0.5, 1, 2, 5, 10]


@pytest.mark.parametrize("counts", [[2], [2, 8, 32]])
def test_two_curves_a_method(counts: list[int]) -> None:
    rows = [{"method": name, "tokens_per_input": float(count), "error": 0.1, "held_out": 0.2}
            for name in METHODS for count in counts]  # fmt: skip
    axis = figures.size_curves(pd.DataFrame(rows), title="t").axes[0]
    assert len(axis.lines) == 2 * len(METHODS)
    assert [label.get_text() for label in axis.get_xticklabels()] == [f"{count:.2g}" for count in counts]


def test_optima_over_the_size_of_parts() -> None:
    rows = [{"chosen": way, "n_inputs": size, "method": method, "ratio": 1 + size / 100 + 0.1 * (way == "alike")}
            for way in ("spaced", "alike") for size in (8, 12) for method in ("wanda+ls", "wanda+swaps+ls")
            for _ in range(3)]  # fmt: skip
    figure = figures.optimum_curves(pd.DataFrame(rows), title="t")
    assert [axis.get_title() for axis in figure.axes] == ["inputs that are spaced", "inputs that are alike"]
    line = figure.axes[1].lines[0]
    assert line.get_xdata().tolist() == [8, 12] and line.get_ydata().tolist() == pytest.approx([1.18, 1.22])
    assert line.get_label() == "wanda+ls" and line.get_linestyle() == "--"


def test_searches_and_other_methods_each_have_a_look_of_their_own() -> None:
    methods = ["wanda+ls", "wanda+swaps+ls", "wanda+swaps-ls+ls"]
    rows = [{"chosen": "spaced", "n_inputs": n, "method": method, "ratio": 1.0} for n in (8, 10) for method in methods]
    axis = figures.optimum_curves(pd.DataFrame(rows), title="t").axes[0]
    looks = {(line.get_marker(), line.get_linestyle()) for line in axis.lines if line.get_label() in methods}
    assert len(looks) == len(methods)
    others = ["magnitude", "ria", "gblm", "sparsegpt", "rose", "admm", "alps", "d-pruner"]
    marks = figures._Marks([*others, "wanda", "wanda+ls", "new", "new+ls"])
    of_others = [tuple(map(str, marks.of(name).values())) for name in others]
    assert len(set(of_others)) == len(others)
    assert not {shape for _, shape in of_others} & set(figures.SHAPES)
    assert str(marks.of("new")["color"]) not in {colour for colour, _ in of_others}
