"""Figures of the distillation study: everything that was measured is drawn."""

import numpy as np
import pandas as pd

from labutils.distillation import figures


def test_the_forest_has_a_panel_per_task_and_a_row_per_comparison() -> None:
    gains = pd.DataFrame(
        [
            {"evaluation": task, "comparison": name, "estimate": 0.01, "low": -0.02, "high": 0.04}
            for task in ("lab:a/b", "lab:a/c")
            for name in ("ild", "loraild")
        ]
    )
    figure = figures.gain_forest(gains, title="t", margin=0.01, reference="kd")
    assert [axis.get_title() for axis in figure.axes] == ["a/b", "a/c"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["ild", "loraild"]
    assert sum(len(line.get_xdata()) == 2 and line.get_linewidth() == 2 for line in figure.axes[0].lines) == 2


def test_gains_are_drawn_against_what_was_varied() -> None:
    gains = pd.DataFrame(
        [
            {"comparison": name, "rank": rank, "estimate": 0.0, "low": -0.01, "high": 0.01}
            for name in ("ild", "loraild")
            for rank in (128, 8, 32)
        ]
    )
    axis = figures.gain_curves(gains, x="rank", label="rank", title="t", margin=0.01, reference="kd").axes[0]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["8", "32", "128"]
    assert {text.get_text() for text in axis.get_legend().get_texts()} >= {"ild", "loraild"}


def test_layers_are_drawn_by_depth() -> None:
    draws = np.random.default_rng(0)
    probes = pd.DataFrame(
        [
            {
                "evaluation": "a", "arm": arm, "seed": seed, "blocks": blocks, "block": block, "item": item,
                "loss": draws.random(),
            }
            for arm, blocks in (("kd", 2), ("teacher", 4))
            for seed in range(2)
            for block in range(blocks)
            for item in range(5)
        ]
    )  # fmt: skip
    clusters = probes.groupby(["evaluation", "arm", "seed", "blocks", "block"], as_index=False)["loss"].mean()
    clusters = clusters.rename(columns={"loss": "value"}).assign(measure="ARI")
    values = figures.layer_values(probes, clusters)
    assert set(values["measure"]) == {"probe score", "ARI"}
    assert np.allclose(values.loc[values["measure"] == "probe score", "value"], 1 - clusters["value"])
    figure = figures.layer_curves(values, measures=["probe score", "ARI"], title="t")
    assert [axis.get_ylabel() for axis in figure.axes] == ["probe score", "ARI"]
    assert len(figures.layer_values(probes, pd.DataFrame())) == len(clusters)


def test_many_tasks_stand_in_several_rows() -> None:
    rows = [
        {"evaluation": f"t{number}", "comparison": "ild", "estimate": 0.1, "low": 0.0, "high": 0.2}
        for number in range(6)
    ]
    figure = figures.gain_forest(pd.DataFrame(rows), title="Gains", margin=0.01, reference="kd")
    assert [axis.get_title() for axis in figure.axes] == [f"t{number}" for number in range(6)]
    heights = {round(axis.get_position().y0, 2) for axis in figure.axes}
    assert len(heights) == 2 and all(axis.get_xlabel() for axis in figure.axes)


def test_the_teacher_has_a_line_without_bars() -> None:
    rows = [
        {"evaluation": task, "arm": arm, "seed": 0, "blocks": 2, "block": block, "measure": "AMI", "value": value}
        for task, high in (("a", 1.0), ("b", 0.5))
        for arm, value in (("kd", 0.2), ("teacher", high))
        for block in (0, 1)
    ]
    (axis,) = figures.layer_curves(pd.DataFrame(rows), measures=["AMI"], title="t").axes
    lines = {line.get_label(): line.get_ydata() for line in axis.lines}
    assert lines["teacher"].tolist() == [0.75, 0.75]
    assert {text.get_text() for text in axis.get_legend().get_texts()} == {"kd", "teacher"}
