"""Every figure draws what its rows say."""

import numpy as np
import pandas as pd

from labutils.attribution.figures import (
    ablation_chart,
    agreement_dots,
    mean_rank_scatter,
    precision_curves,
    recovery_curve,
)
from labutils.stats.bootstrap import Interval
from labutils.sweeps.figures import component_dots, drop_scatter, interval_dots, task_overview


def test_precision_curves_draw_the_means_of_both_kinds():
    rows = [
        {"concept": c, "kind": kind, "draw": draw, "k": k, "precision": (0.9 if kind == "concept" else 0.1) / k}
        for c in "abc" for kind, draws in (("concept", 1), ("random", 4)) for draw in range(draws) for k in (1, 2)
    ]  # fmt: skip
    axis = precision_curves(pd.DataFrame(rows), title="t").axes[0]
    lines = {line.get_label(): line.get_ydata() for line in axis.lines}
    np.testing.assert_allclose(lines["concept words"], [0.9, 0.45])
    np.testing.assert_allclose(lines["random words"], [0.1, 0.05])


def test_the_ablation_chart_has_a_mark_per_concept_and_choice():
    generator = np.random.default_rng(0)
    rows = [
        {"concept": c, "by": by, "item": i, "draw": d, "value": m + generator.normal() * 0.01}
        for c, m in (("low", 0.1), ("high", 0.5)) for by in ("matching", "conductance") for i in range(4)
        for d in range(3)
    ]  # fmt: skip
    axis = ablation_chart(pd.DataFrame(rows), title="t", unit="nats").axes[0]
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["low", "high"] and len(axis.containers) == 2
    assert "nats" in axis.get_xlabel()
    pooled = {"matching": Interval.from_samples(0.3, np.linspace(0.2, 0.4, 101), level=0.95, n_items=4)}
    axis = ablation_chart(pd.DataFrame(rows), title="t", unit="nats", pooled=pooled).axes[0]
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["all concepts", "low", "high"]
    assert 0.3 in axis.containers[0].lines[0].get_xdata()


def test_tasks_stand_at_their_mean_ranks_within_cells():
    rows = [(c, t, 10 * c + x, y) for c in (0, 1) for t, x, y in (("lab:qa/a", 1, 5), ("lab:qa/b_c", 2, 4))]
    frame = pd.DataFrame(rows, columns=["cell", "task", "x", "y"])
    options = {"x_label": "x", "y_label": "y", "title": "t"}
    axis = mean_rank_scatter(frame, x="x", y="y", unit="task", cells=["cell"], **options).axes[0]
    assert [each.lines[0].get_xydata().tolist() for each in axis.containers] == [[[1.0, 2.0]], [[2.0, 1.0]]]
    assert [text.get_text() for text in axis.texts] == ["a", "b c"]


def test_the_scatter_the_bars_and_the_shares():
    frame = pd.DataFrame({"method": ["wanda", "ria"], "sparsity": [0.5, 0.7], "a": [0.1, 0.2], "b": [0.3, 0.4]})
    axis = drop_scatter(frame, x="a", y="b", x_label="x", y_label="y", title="t").axes[0]
    np.testing.assert_allclose(sorted(axis.collections[0].get_offsets().tolist()), [[0.1, 0.3], [0.2, 0.4]])
    agreement = pd.DataFrame({"block": [0, 1] * 2, "rho": [0.4, -0.2, 0.2, 0.0], "null_low": -0.1, "null_high": 0.1})
    axis = agreement_dots(agreement.assign(concept=["a", "a", "b", "b"]), title="t").axes[0]
    assert [(bar.get_y(), bar.get_height()) for bar in axis.patches] == [(-0.1, 0.2)] * 2
    assert axis.collections[0].get_offsets()[:, 1].tolist() == [0.4, -0.2, 0.2, 0.0]
    np.testing.assert_allclose(axis.collections[1].get_offsets()[:, 1], [0.3, -0.1])
    shares = pd.DataFrame({"group": "m", "component": ["set", "draw", "item"], "variance": [0.25, 0.0, 9.0]})
    found, hollow = component_dots(shares, unit="points", title="t").axes[0].collections
    assert found.get_offsets().tolist() == [[0.5, 0], [3.0, 2]] and hollow.get_offsets().tolist() == [[0.1, 1]]
    assert hollow.get_facecolors().size == 0


def test_dots_stand_at_their_estimates_one_panel_and_line_each():
    rows = [("p", "x", "m", 1.0), ("p", "y", "n", 2.0), ("q", "x", "n", 3.0), ("q", "y", "m", 4.0)]
    table = pd.DataFrame(rows, columns=["panel", "row", "hue", "estimate"])
    table = table.assign(low=table["estimate"] - 0.5, high=table["estimate"] + 1)
    left, right = interval_dots(table, row="row", hue="hue", panel="panel", x_label="x", title="t").axes
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["x", "y"]
    assert [line.lines[0].get_xdata().tolist() for line in right.containers] == [[4.0], [3.0]]
    (bar,) = right.containers[0].lines[2][0].get_segments()
    assert bar[:, 0].tolist() == [3.5, 5.0]


def test_the_recovery_curve_is_drawn_beside_chance():
    shares = pd.DataFrame({"k": [1, 10], "recovered": [0.5, 1.0], "chance": [0.1, 0.4]})
    lines = recovery_curve(shares, title="t").axes[0].lines
    assert [line.get_ydata().tolist() for line in lines] == [[0.5, 1.0], [0.1, 0.4]]


def test_the_overview_shows_every_data_set_and_brackets_those_at_chance():
    generator = np.random.default_rng(0)
    solved = {"lab:qa/easy": 0.9, "lab:qa/hard": 0.5, "file:folder/own.jsonl": 0.8}
    rows = []
    for task, share in solved.items():
        family = "qa" if task.startswith("lab") else "topic"
        about = {"model": "m", "task": task, "family": family, "item": range(40), "chance": 0.5, "majority": 0.5}
        dense = (np.arange(40) < share * 40).astype(float)
        arms = {("dense", 0.0, -1): dense}
        arms |= {("wanda", s, d): dense * (generator.random(40) < 1 - s) for s in (0.3, 0.6) for d in range(3)}
        rows += [
            pd.DataFrame({**about, "method": method, "sparsity": s, "draw": draw, "score": score, "calibration": "c"})
            for (method, s, draw), score in arms.items()
        ]
    frame = pd.concat(rows, ignore_index=True)
    qa, topic = task_overview(frame, sparsity=0.6, title="t").axes
    assert [tick.get_text() for tick in qa.get_yticklabels()] == ["easy 0.90", "(hard 0.50)"]
    assert [tick.get_text() for tick in topic.get_yticklabels()] == ["own.jsonl 0.80"]
    drawn = qa.containers[0].lines[0].get_xdata()
    kept = frame[(frame["family"] == "qa") & (frame["sparsity"] == 0.6)].groupby("task")["score"].mean()
    wanted = 100 * (np.array([0.9, 0.5]) - kept.loc[["lab:qa/easy", "lab:qa/hard"]])
    np.testing.assert_allclose(np.asarray(drawn, dtype=float), wanted, atol=1e-12)
