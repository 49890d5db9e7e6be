"""Figures of the study: one point per sample, one interval per sample and adaptation, labelled axes."""

import numpy as np
import pandas as pd

from labutils.adaptation.figures import (
    gain_by_configuration,
    gain_by_sample,
    sample_gains,
    sample_map,
    score_by_configuration,
)


def test_the_map_names_every_sample():
    names = [f"S{number:02d}" for number in range(6)]
    values = np.linspace(0, 1, 6)
    table = pd.DataFrame(
        {"sample": names, "complexity": values, "term_share": values[::-1] / 5, "sentence_length": values * 10}
    )
    axis = sample_map(table, title="Where the samples lie").axes[0]
    assert [text.get_text() for text in axis.texts] == names
    assert axis.collections[0].get_offsets().tolist() == [
        list(point) for point in zip(values, values[::-1] / 5, strict=True)
    ]
    assert axis.get_title(loc="left") == "Where the samples lie" and axis.get_xlabel() and axis.get_ylabel()


def test_crowded_samples_are_named_all_the_same():
    table = pd.DataFrame({"complexity": [0.0, 0.5, 0.5, 1.0, 0.52], "term_share": [0.1, 0.5, 0.51, 0.9, 0.5]})
    table = table.assign(sample=[f"S{number}" for number in range(5)], sentence_length=1.0)
    texts = sample_map(table, title="t").axes[0].texts
    assert [text.get_text() for text in texts] == list(table["sample"])
    assert len({text.xyann for text in texts[1:3]}) == 2  # two that nearly coincide are named on different sides


def test_gains_are_averaged_over_fine_tunings_and_have_intervals():
    generator = np.random.default_rng(0)
    keys = pd.MultiIndex.from_product(
        [["S01", "S02"], ["D1", "D2"], ["H1", "H2"], range(30)], names=["draw", "adaptation", "finetuning", "item"]
    )
    gains = pd.Series(generator.normal(size=len(keys)), index=keys, name="value").reset_index()
    names = {"D1": "full 3e-4, 40 steps"}
    axis = gain_by_sample(gains, title="What adaptation changes", names=names).axes[0]
    means = gains.groupby(["adaptation", "draw"])["value"].mean()
    order = list(gains.groupby("draw")["value"].mean().sort_values().index)
    for way, bars in zip(["D1", "D2"], axis.containers, strict=True):
        line, _, (segments,) = bars.lines
        np.testing.assert_allclose(line.get_xdata(), means[way].loc[order].to_numpy())
        spans = [segment[:, 0] for segment in segments.get_segments()]
        assert all(low < mean < high for (low, high), mean in zip(spans, line.get_xdata(), strict=True))
    assert [tick.get_text() for tick in axis.get_yticklabels()] == order
    assert "95% intervals over pairs and seeds" in axis.get_xlabel()
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["full 3e-4, 40 steps", "D2"]


def test_gains_by_fine_tuning_have_a_line_each():
    keys = pd.MultiIndex.from_product(
        [["S01", "S02", "S03"], ["D1", "D2"], ["H1", "H2"], range(20)],
        names=["draw", "adaptation", "finetuning", "item"],
    )
    values = np.random.default_rng(1).normal(size=len(keys))
    gains = pd.Series(values, index=keys, name="value").reset_index()
    axis = gain_by_configuration(gains, title="t").axes[0]
    means = gains.groupby(["adaptation", "finetuning"])["value"].mean()
    for way, bars in zip(["D1", "D2"], axis.containers, strict=True):
        np.testing.assert_allclose(bars.lines[0].get_xdata(), means[way].to_numpy())
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["H1", "H2"]
    assert "pairs, samples and seeds" in axis.get_xlabel()


def test_the_seeds_of_the_base_widen_the_interval_of_a_sample():
    keys = pd.MultiIndex.from_product(
        [["S01"], ["D1"], ["H1"], range(6), range(40)], names=["draw", "adaptation", "finetuning", "seed", "item"]
    )
    generator = np.random.default_rng(2)
    luck = np.repeat(generator.normal(scale=0.5, size=6), 40)  # a shift of all pairs by each seed
    gains = pd.Series(luck + generator.normal(scale=0.1, size=240), index=keys, name="value").reset_index()
    width = sample_gains(gains).eval("high - low").item()
    without = sample_gains(gains.groupby(["draw", "adaptation", "finetuning", "item"], as_index=False)["value"].mean())
    assert width > 5 * without.eval("high - low").item()


def test_scores_stand_beside_the_cosines():
    rows = [
        {"sample": sample, "adaptation": way, "finetuning": tuning, "pearson": score, "zero_shot": 0.4}
        for tuning in ("H1", "H2")
        for sample, way, score in (
            ("base", "none", 0.50), ("base", "none", 0.54), ("S01", "D1", 0.6), ("S02", "D1", 0.7)
        )
    ]  # fmt: skip
    axis = score_by_configuration(pd.DataFrame(rows), title="Scores", names={"H1": "full 1e-3, 1 epoch"}).axes[0]
    assert [tick.get_text() for tick in axis.get_yticklabels()] == [
        "no fine-tuning (cosines)",
        "full 1e-3, 1 epoch",
        "H2",
    ]
    drawn = {bars.get_label(): bars.lines[0].get_xdata() for bars in axis.containers}
    np.testing.assert_allclose(drawn["no adaptation"], [0.4, 0.52, 0.52])
    np.testing.assert_allclose(drawn["D1"], [0.4, 0.65, 0.65])
