"""What the bars of the figures resample, and figures of nothing."""

import pandas as pd
import pytest

from labutils.smaller.mixtures import experts_first_gains
from labutils.smaller.path_figures import experts_first_figure, lost_figure
from labutils.stats.bootstrap import crossed_bootstrap


def test_bars_of_lost_tasks_resample_data_sets_and_models() -> None:
    lost = pd.DataFrame([
        {"model": model, "method": "top", "sparsity": 0.5, "task": task, "family": "f", "group": "all",
         "value": away + 0.1 * place}
        for model, away in (("m", 0.0), ("n", 0.5), ("o", 0.9)) for place, task in enumerate("abcd")
    ])  # fmt: skip
    axis = lost_figure(lost, title="t").axes[0]
    bar = axis.containers[0].lines[2][0].get_segments()[0][:, 1]
    expected = crossed_bootstrap(lost.drop(columns="family"), item="task", draw="model", strata=[], n_resamples=2000)
    assert sorted(bar) == pytest.approx([expected.low, expected.high], abs=1e-9)
    assert expected.high - expected.low > 0.9  # three models tell little of further ones


def test_without_a_mixture_the_figure_says_so() -> None:
    rows = pd.DataFrame({"arm": ["dense"], "model": ["m"]})
    figure = experts_first_figure(experts_first_gains(rows), margin=0.0, title="t")
    assert figure.axes[0].get_title() == "nothing to show: no mixture of experts"
