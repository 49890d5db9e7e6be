"""Every figure draws what its rows say."""

import numpy as np
import pandas as pd

from labutils.attribution.figures import (
    ablation_chart,
    agreement_bars,
    component_bars,
    drop_scatter,
    precision_curves,
)


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


def test_the_scatter_the_bars_and_the_shares():
    frame = pd.DataFrame({"method": ["wanda", "ria"], "sparsity": [0.5, 0.7], "a": [0.1, 0.2], "b": [0.3, 0.4]})
    axis = drop_scatter(frame, x="a", y="b", x_label="x", y_label="y", title="t").axes[0]
    np.testing.assert_allclose(sorted(axis.collections[0].get_offsets().tolist()), [[0.1, 0.3], [0.2, 0.4]])
    agreement = pd.DataFrame({"block": [0, 1], "rho": [0.4, -0.2], "null_low": -0.1, "null_high": 0.1})
    assert [bar.get_height() for bar in agreement_bars(agreement, title="t").axes[0].patches] == [0.4, -0.2]
    shares = pd.DataFrame({"group": ["m", "m"], "component": ["set", "item"], "share": [0.25, 0.75]})
    bars = component_bars(shares, title="t").axes[0].patches
    assert [(bar.get_x(), bar.get_width()) for bar in bars] == [(0, 0.25), (0.25, 0.75)]
