"""Figures of the study: one point per sample, one interval per sample and adaptation, labelled axes."""

import numpy as np
import pandas as pd

from labutils.adaptation.figures import gain_by_configuration, gain_by_sample, sample_map


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


def test_the_map_leaves_names_out_where_they_would_cover_each_other():
    table = pd.DataFrame(
        {"complexity": [0.0, 0.5, 0.5, 1.0] + [0.5] * 12, "term_share": [0.1, 0.5, 0.5, 0.9] + [0.5] * 12}
    )
    table = table.assign(sample=[f"S{number}" for number in range(16)], sentence_length=1.0)
    names = [text.get_text() for text in sample_map(table, title="t").axes[0].texts]
    assert {"S0", "S3"} <= set(names) and len(names) < 10


def test_gains_are_averaged_over_fine_tunings_and_have_intervals():
    generator = np.random.default_rng(0)
    keys = pd.MultiIndex.from_product(
        [["S01", "S02"], ["D1", "D2"], ["H1", "H2"], range(30)], names=["draw", "adaptation", "finetuning", "item"]
    )
    gains = pd.Series(generator.normal(size=len(keys)), index=keys, name="value").reset_index()
    axis = gain_by_sample(gains, title="What adaptation changes").axes[0]
    means = gains.groupby(["adaptation", "draw"])["value"].mean()
    for way, bars in zip(["D1", "D2"], axis.containers, strict=True):
        line, _, (segments,) = bars.lines
        np.testing.assert_allclose(line.get_xdata(), means[way].to_numpy())
        spans = [segment[:, 0] for segment in segments.get_segments()]
        assert all(low < mean < high for (low, high), mean in zip(spans, line.get_xdata(), strict=True))
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["S01", "S02"]
    assert "95% intervals over pairs" in axis.get_xlabel()


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
