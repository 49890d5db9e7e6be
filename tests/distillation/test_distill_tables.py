"""Tables and sentences, against numbers worked out by hand."""

import pandas as pd
import pytest

from labutils.distillation import tables
from labutils.distillation.sweep import DistillSweep

LOSSES = {"teacher": [0, 0], "kd": [1, 0], "kd/share=2": [0, 0], "ild": [1, 0]}


@pytest.fixture
def sweep() -> DistillSweep:
    """Two tasks, four seeds, four items; the losses of an arm are those above, in turn."""
    rows, runs = [], []
    for task in ("lab:a", "lab:b"):
        for arm, losses in LOSSES.items():
            for seed in range(4):
                about = {"model": "m", "calibration": task, "evaluation": task, "arm": arm, "seed": seed}
                rows += [about | {"item": item, "loss": float(losses[(item + seed) % 2])} for item in range(4)]
                sizes = {"student": 100, "merged": 0, "thrown away": 7 if arm == "ild" else 0}
                test = 1 - sum(losses) / 2
                runs.append(about | {"method": arm.split("/")[0], "rate": 0.01, "test": test, "chance": 0.25} | sizes)
    return DistillSweep(pd.DataFrame(rows), pd.DataFrame(runs), pd.DataFrame(), pd.DataFrame(), pd.DataFrame())


def test_scores_are_means_beside_guessing(sweep: DistillSweep) -> None:
    table = tables.score_table(sweep, ["teacher", "kd", "unknown", "kd/share=2"])
    assert table.index.tolist() == ["teacher", "kd", "kd/share=2", "guessing"] and table.columns.tolist() == [
        "a",
        "b",
        "mean",
    ]
    assert table["mean"].tolist() == [1.0, 0.5, 1.0, 0.25]


def test_rates_and_sizes(sweep: DistillSweep) -> None:
    assert tables.rate_table(sweep.runs).loc["a", "ild"] == 0.01
    assert tables.describe_rates(sweep.runs, [0.01, 0.1]) == (
        "Of 6 choices 6 fall on the lowest rate (0.01) and 0 on the highest (0.1)."
    )
    assert "learning rate 0.01" in tables.describe_rates(sweep.runs, [0.01])
    sizes = tables.mapping_sizes(sweep.runs, ["kd", "ild"]).set_index("method")
    assert sizes["thrown away"].to_dict() == {"kd": 0, "ild": 7} and sizes.loc["ild", "share"] == pytest.approx(0.07)


def test_a_control_that_gains_is_seen_and_one_that_does_not_is_not(sweep: DistillSweep) -> None:
    pairs = {"kd/share=2": ("kd", "kd/share=2"), "ild": ("kd", "ild")}
    table = tables.control_table(sweep, pairs, margin=0.01)
    rows = table.set_index("comparison")
    assert rows.loc["kd/share=2", "estimate"] == pytest.approx(0.5) and rows.loc["ild", "estimate"] == 0
    seen = table.assign(low=[0.4, -0.1])
    told = tables.describe_controls(seen, table.assign(detectable=0.004), margin=0.01)
    assert told.startswith("1 of 2 controls are seen to gain (kd/share=2 +0.500).") and "is below the margin" in told
    told = tables.describe_controls(seen.assign(low=-1.0), table.assign(detectable=0.03), margin=0.01)
    assert tables.describe_controls(seen.head(0), table, margin=0.01).startswith("No control was run.")
    assert told.startswith("0 of 2 controls") and "0.030" in told and "is not below the margin" in told


def test_where_a_method_helps_is_told_with_its_numbers() -> None:
    gains = pd.DataFrame(
        {
            "comparison": ["loraild", "loraild", "ild"], "rank": [8, 32, 8], "estimate": [0.02, 0.01, 0.5],
            "low": [0.01, -0.01, 0.4], "high": [0.03, 0.03, 0.6],
        }
    )  # fmt: skip
    told = tables.describe_gains(gains, "loraild", "rank")
    assert told.endswith("at 1 of 2 values of the rank: rank 8: +0.020 [0.010, 0.030].")
    assert tables.describe_gains(gains.assign(low=-1.0), "ild", "rank").endswith("at 0 of 1 values of the rank.")
