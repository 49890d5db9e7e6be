"""Sentences about recoveries say what the tables hold, also where they hold nothing."""

import numpy as np
import pandas as pd

from labutils.recovery import tell_cells, tell_rates, tell_ways

TABLE = pd.DataFrame(
    [("one", "a", 0.2, 0.1, 0.3, 4.0), ("one", "b", 0.8, 0.7, 0.9, 9.0), ("two", "a", 0.6, 0.5, 0.7, 6.0),
     ("two", "b", np.nan, np.nan, np.nan, 9.0)],
    columns=["model", "way", "estimate", "low", "high", "seconds"],
)  # fmt: skip


def test_ways_are_told_with_their_seconds() -> None:
    told = "a brings back 40% in 5 seconds; b brings back 80% in 9 seconds. The fastest to one half is b."
    assert tell_ways(TABLE) == told
    lost = TABLE.assign(estimate=[-0.004, -0.2, -0.004, np.nan])
    assert tell_ways(lost).startswith("a brings back 0% in 5 seconds; b brings back −20% in")
    assert tell_ways(TABLE[TABLE["way"] == "a"]).endswith("No way brings half of it back.")
    assert tell_ways(TABLE.assign(estimate=np.nan)) == "Pruning lost nothing clear that could come back."


def test_cells_are_told_one_by_one() -> None:
    assert tell_cells(TABLE, "way") == "a on one 20% [10%, 30%]; b on one 80% [70%, 90%]; a on two 60% [50%, 70%]"
    assert tell_cells(TABLE.assign(estimate=np.nan), "way") == "nothing clear was lost"


def test_rates_at_the_ends_of_the_grid_are_named() -> None:
    tried = pd.DataFrame(
        [("one", "lora", rate, loss, rate == 0.1) for rate, loss in ((0.1, 1.0), (0.2, 2.0), (0.3, 3.0))]
        + [("one", "all", rate, loss, rate == 0.2) for rate, loss in ((0.1, 2.0), (0.2, 1.0), (0.3, 3.0))],
        columns=["model", "stage", "rate", "loss", "chosen"],
    )
    assert tell_rates(tried) == "1 of 2 choices lie at an end of the grid: lora on one."
    assert tell_rates(tried[tried["stage"] == "all"]) == "0 of 1 choices lie at an end of the grid: none."
    assert tell_rates(tried[tried["rate"] == 0.2].assign(loss=np.nan)) == "One rate was given, so none was tried."
