"""Shares of variance of planted tables; errors beside losses; one calibration against another."""

import numpy as np
import pandas as pd
import pytest

import labutils as lab
from labutils.optima.comparisons import (
    dispersion_gain,
    loss_and_error,
    order_agreement,
    raised_errors,
    size_table,
    taken_back,
)
from labutils.optima.shares import mean_shares, named_shares, two_way_shares
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


@pytest.mark.parametrize("models", [1, 3])
def test_mean_shares_over_sparsities_and_models(models: int) -> None:
    """At one sparsity the mask explains all, at the other the reconstruction: half each, in every model."""
    masks, steps = ["magnitude", "wanda"], ["none", "ls", "obs"]
    parts = []
    for model in range(models):
        for sparsity, planted in ((0.5, (1.0 + model, 0.0)), (0.7, (0.0, 1.0))):
            parts.append(planted_rows(*planted).assign(model=f"m{model}", sparsity=sparsity))
    rows = pd.concat(parts)
    found = mean_shares(rows, masks, steps)
    assert sum(share.estimate for share in found.values()) == pytest.approx(1)
    for part in ("mask", "reconstruction"):
        assert found[part].estimate == pytest.approx(0.5, abs=0.01)
        assert found[part].low <= found[part].estimate <= found[part].high
        assert (found[part].high - found[part].low) < 0.05
    if models == 3:  # models that agree on nothing: no share lies outside 0 and 1
        apart = pd.concat([planted_rows(float(model == 0), float(model > 0)).assign(model=f"m{model}")
                           for model in range(3)])  # fmt: skip
        assert (mean_shares(apart, masks, steps)["mask"].low, mean_shares(apart, masks, steps)["mask"].high) == (0, 1)


def test_shares_of_the_logarithm_of_what_is_added() -> None:
    """Added losses that are a product of mask and step: all of their logarithms' variance is explained by the two."""
    rows = planted_rows(0, 0)
    dense = rows[rows["method"] == "magnitude"].assign(method="dense", sparsity=0.0)
    times = {"magnitude": 8.0, "wanda": 2.0}, {"none": 4.0, "ls": 1.0, "obs": 1.0}
    names = rows["method"].str.split("+", n=1)
    added = names.str[0].map(times[0]) * names.str[1].fillna("none").map(times[1])
    base = rows[rows["method"] == "magnitude"].set_index(["draw", "item"])["loss"]
    own = pd.Series(base.groupby("item").mean().loc[rows["item"]].to_numpy(), index=rows.index)
    rows = pd.concat([dense, rows.assign(loss=own + added)])
    found = mean_shares(rows, list(times[0]), list(times[1]), logs=True)
    assert found["both together"].estimate == pytest.approx(0, abs=1e-3)
    by_step = np.var(np.log([4.0, 1, 1])) / (np.var(np.log([4.0, 1, 1])) + np.var(np.log([8.0, 2])))
    assert found["reconstruction"].estimate == pytest.approx(by_step, abs=1e-3)
    assert mean_shares(rows, list(times[0]), list(times[1]))["both together"].estimate > 0.02
    none = rows.assign(loss=rows["loss"].where(rows["method"] != "wanda", rows["loss"] - 100))
    assert np.isnan(mean_shares(none, list(times[0]), list(times[1]), logs=True)["mask"].estimate)


def test_how_often_a_search_raises_the_error() -> None:
    about = {"model": "m", "draw": 0, "pattern": "unstructured", "sparsity": 0.5}
    rows = [{**about, "layer": str(layer), "method": method, "error": error, "held_out": 2 * error}
            for layer, errors in enumerate([(0.2, 0.1), (0.2, 0.4), (0.2, 0.2), (0.2, 0.1)])
            for method, error in zip(("wanda", "wanda+dsnot"), errors, strict=True)]  # fmt: skip
    found = raised_errors(pd.DataFrame(rows), [("wanda", "wanda+dsnot")]).iloc[0]
    assert (found["problems"], found["raised"]) == (4, 0.25)
    assert found["ratio"] == pytest.approx(found["held_out"]) and found["ratio"] == pytest.approx(0.5**0.25)


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


def test_a_sweep_takes_a_mixture() -> None:
    domain, general = "lab:biomedical", "lab:encyclopedic"
    both, sizes = f"{domain} + {general}", SweepSizes(n_calibration=4, n_items=4, seq_len=32)
    texts = [f"{both} → {domain}"]
    model, tokenizer = lab.load_model("lab-llama")
    rows = sweep(
        "lab-llama", texts, arms=["wanda"], sparsities=[0.6], n_draws=2, sizes=sizes, loaded=(model, tokenizer)
    )
    assert set(rows["calibration"]) == {both}
    lab.prune(model, load_calibration(both, tokenizer, n_sequences=4, seq_len=32, seed=1), method="wanda", sparsity=0.6)
    read = lab.load_evaluation(domain, model, tokenizer, n_items=4, seq_len=32)
    own = rows[(rows["calibration"] == both) & (rows["draw"] == 1) & (rows["arm"] == "wanda")]
    assert own["loss"].to_numpy() == pytest.approx(lab.item_losses(model, tokenizer, read).numpy(), rel=1e-5)


def test_what_a_further_step_takes_back() -> None:
    assert taken_back(np.e, np.e**3, np.e**2) == pytest.approx(0.5)
    assert taken_back(np.e, np.e**2, np.e) == 1 and taken_back(np.e, np.e**2, np.e**2) == 0
    for wrong in ((2.0, 2.0, 1.5), (0.5, 2.0, 1.5)):
        with pytest.raises(ValueError, match="1 < dense < pruned"):
            taken_back(*wrong)
