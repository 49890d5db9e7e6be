"""The advice on methods follows the rows: the least costly arm that is no worse than the best by the margin."""

import numpy as np
import pandas as pd
import pytest

from labutils.sweeps.which_method import Source, advise, which_method_page

DENSE = 2.0
ADDED = {
    "magnitude/uniform": {0.2: 0.011, 0.6: 0.80},
    "wanda/uniform": {0.2: 0.010, 0.6: 0.51},
    "ria/owl": {0.2: 0.010, 0.6: 0.70},
    "sparsegpt/uniform": {0.2: 0.012, 0.6: 0.50},
}


@pytest.fixture
def rows() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    items = DENSE + generator.normal(0, 0.3, 20)
    items += DENSE - items.mean()
    about = {"model": "tiny", "calibration": "a", "evaluation": "b", "pattern": "unstructured"}
    found = [
        {**about, "arm": "dense", "sparsity": 0.0, "draw": -1, "item": item, "loss": loss}
        for item, loss in enumerate(items)
    ]
    for arm, added in ADDED.items():
        for sparsity, more in added.items():
            for draw in range(3):
                noise = generator.normal(0, 0.001, 20)
                found += [
                    {**about, "arm": arm, "sparsity": sparsity, "draw": draw, "item": item, "loss": loss}
                    for item, loss in enumerate(items + more + noise)
                ]
    return pd.DataFrame(found)


def test_the_least_costly_of_those_that_are_as_good_is_taken(rows: pd.DataFrame) -> None:
    low, high = advise(rows).to_dict("records")
    assert low["take"] == "magnitude/uniform" and set(low["as_good"]) == set(ADDED)
    assert low["loses"] == pytest.approx(0.011, abs=1e-3) and low["percent"] == pytest.approx(0.55, abs=0.05)
    assert high["best"] == "sparsegpt/uniform"
    assert high["take"] == "wanda/uniform" and high["as_good"] == ["wanda/uniform", "sparsegpt/uniform"]
    assert high["worst"] == "magnitude/uniform" and high["worst_loses"] == pytest.approx(0.8, abs=1e-3)
    assert high["low"] < high["loses"] < high["high"]


def test_a_narrower_margin_asks_for_the_best(rows: pd.DataFrame) -> None:
    assert list(advise(rows, margin=0.001)["take"])[1] == "sparsegpt/uniform"


def test_the_page_says_so(rows: pd.DataFrame) -> None:
    rows["evaluation"] = "file:texts/b.txt"
    table = Source("../notebooks/02_pruning_strategy.ipynb", rows, "Of an earlier state.")
    page = which_method_page({"02_pruning_strategy": table})
    assert "\nRead on b.txt. Calibrated on a. Of an earlier state.\n" in page
    assert "## tiny, in [02_pruning_strategy](../notebooks/02_pruning_strategy.ipynb)" in page
    line = next(line for line in page.splitlines() if line.startswith("| 60%"))
    assert line.startswith("| 60% | `wanda/uniform` | +0.51") and line.endswith("| `magnitude/uniform` (+0.8) |")
