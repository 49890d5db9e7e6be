"""Pairing the arms of a sweep, item by item and draw by draw."""

import numpy as np
import pandas as pd
import pytest

from labutils.stats.bootstrap import paired_differences


def sweep_rows(losses: dict[str, np.ndarray], sparsities: tuple[float, ...] = (0.5,)) -> pd.DataFrame:
    """Rows as a sweep writes them; `losses` maps a method to values [sparsities, draws, items]."""
    rows = [
        {
            "model": "m", "architecture": "llama", "calibration": "c", "evaluation": "e", "language": "english",
            "method": method, "allocation": "uniform", "pattern": "unstructured", "sparsity": sparsities[position[0]],
            "draw": position[1], "item": position[2], "loss": float(loss),
        }
        for method, values in losses.items()
        for position, loss in np.ndenumerate(values)
    ]  # fmt: skip
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def test_paired_differences_match_items_draws_and_sparsities() -> None:
    shape = (2, 3, 4)
    wanda, ria = np.random.default_rng(0).normal(size=(2, *shape))
    rows = sweep_rows({"wanda": wanda, "ria": ria}, (0.3, 0.6))
    pairs = paired_differences(rows, {"method": "wanda"}, {"method": "ria"})
    assert pairs["value"].to_numpy() == pytest.approx((wanda - ria).ravel())
    assert list(pairs[["sparsity", "draw", "item"]].iloc[5]) == [0.3, 1, 1]


def test_paired_differences_select_by_lists_of_values() -> None:
    rows = sweep_rows({"wanda": np.ones((3, 1, 2)), "ria": np.zeros((3, 1, 2))}, (0.1, 0.3, 0.6))
    low = [0.1, 0.3]
    pairs = paired_differences(rows, {"method": "wanda", "sparsity": low}, {"method": "ria", "sparsity": low})
    assert pairs["sparsity"].tolist() == [0.1, 0.1, 0.3, 0.3]
    assert (pairs["value"] == 1).all()


def test_paired_differences_name_what_is_missing_or_duplicated() -> None:
    rows = sweep_rows({"wanda": np.ones((1, 2, 2)), "ria": np.zeros((1, 2, 2))})
    arms = {"method": "wanda"}, {"method": "ria"}
    lost = rows[~((rows["method"] == "ria") & (rows["draw"] == 1) & (rows["item"] == 0))]
    with pytest.raises(ValueError, match=r"candidate arm lacks .*draw=1, item=0"):
        paired_differences(lost, *arms)
    with pytest.raises(ValueError, match=r"reference arm .*duplicate rows, first at .*allocation"):
        paired_differences(pd.concat([rows, rows[rows["method"] == "wanda"].assign(allocation="owl")]), *arms)
    with pytest.raises(ValueError, match=r"reference: 1 values are NaN or infinite, first at .*draw=1, item=1"):
        bad = (rows["method"] == "wanda") & (rows["draw"] == 1) & (rows["item"] == 1)
        paired_differences(rows.assign(loss=rows["loss"].mask(bad)), *arms)
    with pytest.raises(ValueError, match="no rows with method in .*'wand'.*there are ria, wanda"):
        paired_differences(rows, {"method": "wand"}, {"method": "ria"})
    with pytest.raises(LookupError, match="Did you mean 'method'"):
        paired_differences(rows, {"methods": "wanda"}, {"method": "ria"})
