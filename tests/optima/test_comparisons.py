"""Shares of variance of planted tables; errors beside losses; one calibration against another."""

import numpy as np
import pandas as pd
import pytest

import labutils as lab
from labutils.optima.comparisons import (
    between_calibrations,
    dispersion_gain,
    loss_and_error,
    order_agreement,
    size_table,
)
from labutils.optima.shares import named_shares, two_way_shares
from labutils.stats.two_way import PARTS, two_way_share
from labutils.sweeps import SweepSizes, load_calibration, sweep


@pytest.mark.parametrize(
    ("rows", "columns", "both", "expected"),
    [(1.0, 0.0, 0.0, (1, 0, 0)), (0.0, 2.0, 0.0, (0, 1, 0)), (0.0, 0.0, 1.0, (0, 0, 1)), (0.0, 0.0, 0.0, (0, 0, 0))],
)
def test_shares_of_a_planted_table(rows: float, columns: float, both: float, expected: tuple) -> None:
    a, b = np.array([-1.0, 0, 1]), np.array([-1.0, 1])
    table = 7 + rows * a[:, None] + columns * b + both * np.outer(a, b)
    found = [float(two_way_share(part, (3, 2))(table.reshape(1, -1))[0]) for part in PARTS]
    assert found == pytest.approx(expected, abs=1e-12)
    twice = np.concatenate([table, 7 + a[:, None] + 0 * b]).reshape(1, -1)  # a second stratum, of rows alone
    assert two_way_share("rows", (3, 2))(twice)[0] == pytest.approx((expected[0] + 1) / 2)


def test_shares_add_up_and_are_those_of_an_analysis_of_variance() -> None:
    table = np.random.default_rng(0).normal(size=(4, 5))
    shares = [float(two_way_share(part, (4, 5))(table.reshape(1, -1))[0]) for part in PARTS]
    total = np.square(table - table.mean()).sum()
    by_rows = 5 * np.square(table.mean(axis=1) - table.mean()).sum() / total
    by_columns = 4 * np.square(table.mean(axis=0) - table.mean()).sum() / total
    assert shares == pytest.approx([by_rows, by_columns, 1 - by_rows - by_columns])
    for part, shape in (("mask", (2, 2)), ("rows", (1, 4))):
        with pytest.raises(ValueError, match="must be one of rows, columns, interaction"):
            two_way_share(part, shape)


def planted_rows(mask: float, step: float) -> pd.DataFrame:
    generator, rows = np.random.default_rng(0), []
    for m, name in enumerate(["magnitude", "wanda"]):
        for s, after in enumerate(["", "+ls", "+obs"]):
            for draw in range(3):
                for item in range(12):
                    loss = 1 + mask * m + step * s + 0.001 * generator.normal() + 0.1 * item
                    rows.append({"model": "m", "method": name + after, "pattern": "unstructured", "sparsity": 0.5,
                                 "draw": draw, "item": item, "loss": loss})  # fmt: skip
    return pd.DataFrame(rows)


def test_shares_of_mask_and_reconstruction() -> None:
    for mask, step, largest in ((0.0, 1.0, "reconstruction"), (1.0, 0.0, "mask")):
        shares = two_way_shares(planted_rows(mask, step), ["magnitude", "wanda"], ["none", "ls", "obs"])
        own = shares.set_index("part")
        assert own["estimate"].sum() == pytest.approx(1) and own["estimate"].idxmax() == largest
        assert own.loc[largest, "low"] > 0.99 and own.loc[largest, "spread"] == pytest.approx(2 * step + mask, abs=0.01)
        assert named_shares(shares, largest) == "100%"
    with pytest.raises(LookupError, match=r"magnitude\+admm"):
        two_way_shares(planted_rows(0, 1), ["magnitude", "wanda"], ["none", "admm"])


def test_dispersion_of_two_masks() -> None:
    rows = [
        {"model": "m", "draw": draw, "layer": str(layer), "sparsity": 0.5, "pattern": "unstructured", "method": method,
         "dispersion": value}
        for draw in range(2) for layer in range(3) for method, value in (("wanda", 1.0), ("gblm", 2.0))
    ]  # fmt: skip
    gain = dispersion_gain(pd.DataFrame(rows), "wanda", "gblm")
    assert len(gain) == 6 and gain["value"].to_numpy() == pytest.approx(np.log(2))
    interval = lab.sweeps.effects_over_models(gain).overall
    assert interval.estimate == pytest.approx(np.log(2))
    with pytest.raises(LookupError, match="no ria"):
        dispersion_gain(pd.DataFrame(rows), "ria", "gblm")


def test_errors_beside_losses() -> None:
    losses = [{"model": "m", "method": "dense", "pattern": "unstructured", "sparsity": 0.0, "loss": 1.0}]
    errors = []
    for number, method in enumerate(["a", "b", "c"]):
        losses.append(
            {"model": "m", "method": method, "pattern": "unstructured", "sparsity": 0.5, "loss": 1.5 + number}
        )
        for layer in range(2):
            errors.append({"model": "m", "draw": 0, "block": 0, "layer": str(layer), "pattern": "unstructured",
                           "sparsity": 0.5, "method": method, "error": 0.1 * 4**layer * (3 - number),
                           "solved": 0.1 * 4**layer})  # fmt: skip
    points = loss_and_error(pd.DataFrame(losses), pd.DataFrame(errors)).set_index("method")
    assert points.loc["a", "added"] == pytest.approx(0.5) and points.loc["a", "error"] == pytest.approx(0.6)
    assert points.loc["a", "ratio"] == pytest.approx(3)
    agreement = order_agreement(points.reset_index()).iloc[0]
    assert agreement["rho"] == pytest.approx(-1) and agreement["methods"] == 3  # planted: the worst layers win
    assert (agreement["best_layer"], agreement["best_model"]) == ("c", "a")
    assert np.isnan(order_agreement(points.reset_index()[:2])["rho"].iloc[0])


def test_errors_by_the_amount_of_text() -> None:
    rows = pd.DataFrame({"method": ["a"] * 4, "n_sequences": [2, 2, 8, 8], "tokens_per_input": [4.0, 2, 16, 8],
                         "error": [0.1, 0.4, 0.2, 0.8], "held_out": [0.4, 1.6, 0.2, 0.8]})  # fmt: skip
    table = size_table(rows).set_index("n_sequences")
    assert table["error"].to_numpy() == pytest.approx([0.2, 0.4]) and table["gap"].to_numpy() == pytest.approx([4, 1])
    assert table["tokens_per_input"].tolist() == [2, 8]


def test_a_sweep_takes_a_mixture_and_one_calibration_is_held_against_another() -> None:
    domain, general = "lab:biomedical", "lab:encyclopedic"
    both, sizes = f"{domain} + {general}", SweepSizes(n_calibration=4, n_items=4, seq_len=32)
    texts = [f"{source} → {domain}" for source in (general, both)]
    model, tokenizer = lab.load_model("lab-llama")
    rows = sweep(
        "lab-llama", texts, arms=["wanda"], sparsities=[0.6], n_draws=2, sizes=sizes, loaded=(model, tokenizer)
    )
    assert set(rows["calibration"]) == {general, both}
    gain = between_calibrations(rows, {"domain": (general, both, domain)}, "wanda")
    means = rows[rows["arm"] == "wanda"].groupby("calibration")["loss"].mean()
    assert gain["value"].mean() == pytest.approx(means[general] - means[both]) and set(gain["contrast"]) == {"domain"}
    lab.prune(model, load_calibration(both, tokenizer, n_sequences=4, seq_len=32, seed=1), method="wanda", sparsity=0.6)
    read = lab.load_evaluation(domain, model, tokenizer, n_items=4, seq_len=32)
    own = rows[(rows["calibration"] == both) & (rows["draw"] == 1) & (rows["arm"] == "wanda")]
    assert own["loss"].to_numpy() == pytest.approx(lab.item_losses(model, tokenizer, read).numpy(), rel=1e-5)
