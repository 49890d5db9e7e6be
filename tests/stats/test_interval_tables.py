"""Intervals of all groups of a frame, and pruned rows beside the dense model's."""

import numpy as np
import pandas as pd
import pytest

from labutils.stats.bootstrap import crossed_bootstrap
from labutils.stats.pairing import pair_with_dense
from labutils.stats.tables import interval_table


@pytest.fixture
def frame() -> pd.DataFrame:
    keys = pd.MultiIndex.from_product(
        [["wanda", "ria"], [0.5, 0.7], range(3), range(6)], names=["method", "sparsity", "draw", "item"]
    )
    return keys.to_frame(index=False).assign(value=np.random.default_rng(0).normal(size=len(keys)))


def test_every_group_has_the_interval_of_its_rows(frame: pd.DataFrame) -> None:
    table = interval_table(frame, ["method", "sparsity"], level=0.9)
    assert table[["method", "sparsity"]].to_numpy().tolist() == [
        ["wanda", 0.5], ["wanda", 0.7], ["ria", 0.5], ["ria", 0.7],
    ]  # fmt: skip
    part = frame[(frame["method"] == "ria") & (frame["sparsity"] == 0.5)]
    expected = crossed_bootstrap(part, cells=(), level=0.9, n_resamples=2000)
    assert table.loc[2, ["estimate", "low", "high"]].tolist() == [expected.estimate, expected.low, expected.high]
    assert table.loc[2, "error"] == expected.samples.std(ddof=1)


def test_another_interval_takes_its_own_options(frame: pd.DataFrame) -> None:
    table = interval_table(frame, ["method"], crossed_bootstrap, cells=["sparsity"], seed=3)
    expected = crossed_bootstrap(frame[frame["method"] == "wanda"], cells=["sparsity"], seed=3)
    assert table.loc[0, ["low", "high"]].tolist() == [expected.low, expected.high]


def test_no_rows_have_a_table_with_its_columns(frame: pd.DataFrame) -> None:
    assert interval_table(frame.head(0), ["method"]).columns.tolist() == ["method", "estimate", "low", "high", "error"]


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
@pytest.mark.parametrize("by", [["method", "sparsity"], ["sparsity", "method"]])
def test_rows_whose_key_is_missing_are_a_group(frame: pd.DataFrame, missing: object, by: list[str]) -> None:
    """The dense model has no method, or no sparsity."""
    holed = frame.astype({"method": object}).assign(method=lambda f: f["method"].where(f["method"] != "ria", missing))
    table, whole = interval_table(holed, by, n_resamples=100), interval_table(frame, by, n_resamples=100)
    assert table[["estimate", "low", "high"]].equals(whole[["estimate", "low", "high"]])
    assert table["method"].isna().tolist() == (whole["method"] == "ria").tolist()
    with pytest.raises(LookupError, match="no column 'methods'. Did you mean 'method'"):
        interval_table(frame, ["methods"])


def test_pruned_rows_stand_beside_the_dense_row_of_their_item() -> None:
    rows = pd.DataFrame(
        {
            "method": ["dense", "dense", "ria", "ria", "wanda"],
            "item": [0, 1, 1, 0, 1],
            "loss": [1.0, 2.0, 2.5, 1.1, 3.0],
        }
    )
    pairs = pair_with_dense(rows, "loss", on=["item"])
    assert pairs[["method", "item", "dense"]].to_numpy().tolist() == [
        ["ria", 1, 2.0],
        ["ria", 0, 1.0],
        ["wanda", 1, 2.0],
    ]
    with pytest.raises(ValueError, match="many-to-one"):
        pair_with_dense(pd.concat([rows, rows.head(1)]), "loss", on=["item"])
    with pytest.raises(ValueError, match="2 pruned rows have no dense row beside them, first at item=1"):
        pair_with_dense(rows.drop(1), "loss", on=["item"])
