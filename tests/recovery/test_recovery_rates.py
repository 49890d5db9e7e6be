"""Learning rates of recoveries: chosen on other text, sought until the best lies inside, settled before a verdict."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_recoveries import SIZES

from labutils.recovery import Recipe, chosen_recipes, if_settled, recovery_sweep, try_rates
from labutils.recovery import rates as rates_module
from labutils.stats.bootstrap import Interval

pytest.importorskip("peft")


def test_the_best_rate_is_chosen_on_other_text(asked: dict, tmp_path: Path) -> None:
    given = {"text": asked["text"], "held_out": asked["readings"][0], "sizes": SIZES, "loaded": asked["loaded"]}
    arms = {"wanda → norms": [0.5], "wanda → norms@own": [0.5], "wanda → lora": [0.5], "wanda": [0.5], "lora": [0.5]}
    tried = try_rates("lab-llama", arms=arms, rates=[1e-3, 1e15], n_more=0, **given, folder=tmp_path)
    chosen = chosen_recipes(tried)
    assert chosen == {
        (way, s): Recipe(1e-3) for way, s in (("wanda → norms", 0.5), ("wanda → lora", 0.5), ("lora", 0.0))
    }
    assert tried.loc[tried["rate"] == 1e15, "loss"].isna().any() and not tried["settled"].any()
    again = try_rates("lab-llama", arms=arms, rates=[1e-3, 1e15], n_more=0, **given, folder=tmp_path)
    pd.testing.assert_frame_equal(tried, again)
    rows = recovery_sweep("lab-llama", **{**asked, "arms": ["wanda → norms"], "draws": [10_000]})
    same = rows[(rows["arm"] == "wanda → norms") & (rows["evaluation"] == asked["text"])]
    first = tried.query("way == 'wanda → norms' and rate == 0.001")["loss"].item()
    assert same["loss"].mean() == pytest.approx(first)
    alone = try_rates("lab-llama", arms={"wanda → norms": [0.5]}, rates=[1e-2], **given)
    assert chosen_recipes(alone) == {("wanda → norms", 0.5): Recipe(1e-2)} and alone["loss"].isna().all()
    assert not alone["settled"].any()
    with pytest.raises(ValueError, match="above 0"):
        try_rates("lab-llama", arms={"wanda → norms": [0.5]}, rates=[], **given)


def curve(best: float, *, ends: float = float("inf")):
    """Trials whose loss is least at a rate, and has no value from another on."""

    def trial(recipe: Recipe) -> tuple[float, float, float]:
        loss = abs(math.log(recipe.rate / best))
        return (float("nan") if recipe.rate >= ends else loss), 1.0, 2.0

    return trial


@pytest.mark.parametrize(
    ("trial", "chosen", "settled", "count"),
    [
        (curve(3.0), 3.0, True, 3),
        (curve(90.0), 81.0, True, 6),  # the grid goes on to 243
        (curve(0.1), 1 / 9, True, 6),
        (curve(1e6), 729.0, False, 7),  # it stops after four more
        (curve(1e6, ends=9.0), 3.0, True, 3),  # what diverges is worse
        (curve(0.3, ends=2.0), 1 / 3, True, 5),
    ],
)
def test_a_grid_goes_on_until_its_best_lies_inside(trial, chosen, settled, count) -> None:
    table = rates_module._try_way(trial, "wanda → lora", [1.0, 3.0, 9.0], [1.0], 4)
    assert table.loc[table["chosen"], "rate"].item() == pytest.approx(chosen)
    assert table["settled"].unique().tolist() == [settled] and len(table) == count


def test_a_penalty_has_rates_tried_at_every_strength() -> None:
    """The best rate grows with the strength, so that no search of one after the other would find both."""

    def trial(recipe: Recipe) -> tuple[float, float, float]:
        loss = abs(math.log(recipe.rate / recipe.strength)) * 2 + abs(math.log(recipe.strength / 9.0))
        return loss, 1.0, 2.0

    given = ("penalty → neurons", [1.0, 3.0, 9.0])
    table = rates_module._try_way(trial, *given, [1.0, 3.0, 9.0], 4)
    best = table[table["chosen"]].iloc[0]
    assert best["rate"] == best["strength"] == 9.0 and best["settled"]
    assert set(table["strength"]) == {1.0, 3.0, 9.0, 27.0}  # one beyond the end
    assert set(table.loc[table["strength"] == 9.0, "rate"]) == {1.0, 3.0, 9.0, 27.0}
    one = rates_module._try_way(trial, *given, [3.0], 4)
    assert one.loc[one["chosen"], "rate"].item() == 3.0 and not one["settled"].any()  # of one strength nothing is known
    with pytest.raises(ValueError, match="diverges at every rate from 0.111111 to 9"):
        rates_module._try_way(curve(3.0, ends=1e-9), "wanda → lora", [1.0, 3.0, 9.0], [1.0], 2)


def test_an_effect_is_judged_only_where_its_rates_are_settled() -> None:
    interval = Interval.from_samples(1.0, np.linspace(0, 2, 200), level=0.95, n_items=3)
    tried = pd.DataFrame(
        [("one", "wanda → lora", 0.7, True, True), ("one", "wanda → all", 0.7, True, False),
         ("one", "wanda → all", 0.5, True, True), ("one", "wanda → all", 0.7, False, False)],
        columns=["model", "way", "sparsity", "chosen", "settled"],
    )  # fmt: skip
    assert if_settled(interval, tried, ["wanda → lora@own", "wanda"], [0.7]) is interval
    assert if_settled(interval, tried, ["wanda → all"], [0.5]) is interval
    loose = if_settled(interval, tried, ["wanda → lora", "wanda → all"], [0.5, 0.7])
    assert not loose.defined and "wanda → all at 0.7 on one" in loose.note
    with pytest.raises(LookupError, match="no rate was tried for blocks → lora"):
        if_settled(interval, tried, ["blocks → lora"], [0.7])
