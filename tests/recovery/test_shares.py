"""Shares of a loss that came back, on rows whose shares are known."""

import numpy as np
import pandas as pd
import pytest

from labutils.recovery import recovered_share, recovered_shares, share_over_models
from labutils.recovery.figures import selection_bars, share_by_time

SHARES = {"one": 0.5, "two": 0.8, "three": 0.2}
PAIRS = [("wanda", "wanda → lora")]


def clock(seconds: float) -> dict[str, float]:
    return {"seconds": seconds, "wall_seconds": 2 * seconds}


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Pruning adds s nats at sparsity s; LoRA brings back the model's share of it; items differ, draws a little."""
    generator = np.random.default_rng(0)
    made = []
    for model, share in SHARES.items():
        base = generator.normal(2, 0.5, 40)
        for item in range(40):
            common = {"model": model, "calibration": "text", "evaluation": "text", "item": item, "trained": 5}
            made.append({**common, "arm": "dense", "sparsity": 0.0, "draw": -1, "loss": base[item], **clock(0.0)})
            for sparsity in (0.5, 0.7):
                for draw in (0, 1):
                    for arm, left, took in (("wanda", 1.0, 1.0), ("wanda → lora", 1 - share, 4.0)):
                        loss = base[item] + sparsity * (left + generator.normal(0, 0.02))
                        place = {"arm": arm, "sparsity": sparsity, "draw": draw, "loss": loss, **clock(took)}
                        made.append({**common, **place})
    return pd.DataFrame(made).assign(method=lambda frame: frame["arm"].str.split(" ").str[0])


def test_a_known_share_is_found(rows: pd.DataFrame) -> None:
    found = share_over_models(rows, PAIRS, below=0.5)
    for model, share in SHARES.items():
        own = found.by_model[model]
        assert own.estimate == pytest.approx(share - 0.5, abs=0.02) and own.low < share - 0.5 < own.high
    assert found.overall.estimate == pytest.approx(0.0, abs=0.02)
    assert found.overall.high - found.overall.low > 1.0  # three models: Student's t with two degrees of freedom
    alone = share_over_models(rows[rows["model"] == "two"], PAIRS)
    assert alone.overall == alone.by_model["two"]


def test_every_cell_by_itself(rows: pd.DataFrame) -> None:
    table = recovered_shares(rows, PAIRS)
    assert (
        len(table) == 6
        and (table["seconds"] == 3.0).all()
        and (table["wall_seconds"] == 6.0).all()
        and (table["trained"] == 5).all()
    )
    for row in table.itertuples():
        assert row.estimate == pytest.approx(SHARES[row.model], abs=0.02)
    figure = share_by_time(table.assign(way="lora"), title="t")
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["50% removed", "70% removed"]


def test_several_pairs_are_averaged_each_as_a_ratio_of_its_own() -> None:
    """Two pairs at two sparsities with shares and damages that all differ, on exact rows."""
    damages = {("a", 0.5): 1.0, ("a", 0.7): 4.0, ("b", 0.5): 0.5, ("b", 0.7): 2.0}
    shares = {("a", 0.5): 0.1, ("a", 0.7): 0.4, ("b", 0.5): 0.9, ("b", 0.7): 0.6}
    made = []
    for item in range(30):
        common = {"model": "one", "calibration": "text", "evaluation": "text", "item": item, "trained": 5, **clock(1.0)}
        dense = 2 + 0.01 * item
        made.append({**common, "arm": "dense", "sparsity": 0.0, "draw": -1, "loss": dense})
        for (kind, sparsity), lost in damages.items():
            for arm, left in ((kind, 1.0), (f"{kind} → lora", 1 - shares[kind, sparsity])):
                made += [
                    {**common, "arm": arm, "sparsity": sparsity, "draw": draw, "loss": dense + lost * left}
                    for draw in (0, 1)
                ]
    rows = pd.DataFrame(made).assign(method=lambda frame: frame["arm"].str.split(" ").str[0])
    pairs = [("a", "a → lora"), ("b", "b → lora")]
    assert recovered_share(rows, pairs, below=0.5).estimate == pytest.approx(0.0)
    assert recovered_share(rows, pairs).estimate == pytest.approx(0.5)
    assert recovered_share(rows, pairs[1:]).estimate == pytest.approx(0.75)
    table = recovered_shares(rows, pairs).set_index(["arm", "sparsity"])["estimate"]
    assert {(arm[0], at): value for (arm, at), value in table.items()} == pytest.approx(shares)


def test_a_share_can_be_computed_once_more_from_what_is_kept(rows: pd.DataFrame) -> None:
    alone = share_over_models(rows[rows["model"] == "two"], PAIRS, below=0.5).overall
    assert alone.evidence.recompute() == alone
    over = share_over_models(rows, PAIRS, below=0.5).overall
    assert over.evidence.recompute() == over and len(over.evidence.frame) == len(rows)


def test_nothing_lost_has_no_share(rows: pd.DataFrame) -> None:
    harmless = rows[rows["model"] == "one"].copy()
    dense = harmless[harmless["arm"] == "dense"].set_index("item")["loss"]
    pruned = harmless["arm"] == "wanda"
    harmless.loc[pruned, "loss"] = harmless.loc[pruned, "item"].map(dense)
    found = recovered_share(harmless, PAIRS)
    assert not found.defined and "nothing clear" in found.note
    assert recovered_shares(harmless, PAIRS)["estimate"].isna().all()
    mixed = pd.concat([harmless, rows[rows["model"] == "two"]])
    assert not share_over_models(mixed, PAIRS).overall.defined


def test_bars_of_a_selection_fill_the_whole() -> None:
    table = pd.DataFrame(
        [(0, "all", "lab:review", 0.5), (0, "all", "task:lab:qa/trials", 0.5), (0, "low", "lab:review", 1.0),
         (0, "low", "task:lab:qa/trials", 0.0)],
        columns=["draw", "selection", "source", "share"],
    )  # fmt: skip
    figure = selection_bars(table, title="t")
    ends = {}
    for patch in figure.axes[0].patches:
        ends[patch.get_y()] = max(ends.get(patch.get_y(), 0), patch.get_x() + patch.get_width())
    assert list(ends.values()) == pytest.approx([1.0, 1.0])
