"""Sentences about recoveries say what the tables hold, also where they hold nothing."""

import numpy as np
import pandas as pd

from labutils.recovery import tell_cells, tell_rates, tell_ways

TABLE = pd.DataFrame(
    [("one", "a", 0.2, 0.1, 0.3, 4.0), ("one", "b", 0.8, 0.7, 0.9, 9.0), ("two", "a", 0.6, 0.5, 0.7, 6.0),
     ("two", "b", np.nan, np.nan, np.nan, 9.0)],
    columns=["model", "way", "estimate", "low", "high", "seconds"],
).assign(wall_seconds=lambda table: 2 * table["seconds"])  # fmt: skip


def test_ways_are_told_with_their_seconds() -> None:
    told = (
        "a brings back 40% in 10 seconds (5.0 of the processor); b brings back 80% in 18 seconds (9.0 of the processor)"
    )
    assert tell_ways(TABLE) == f"{told}. The fastest to one half is b."
    lost = TABLE.assign(estimate=[-0.004, -0.2, -0.004, np.nan])
    assert tell_ways(lost).startswith("a brings back 0% in 10 seconds (5.0 of the processor); b brings back −20% in")
    assert tell_ways(TABLE[TABLE["way"] == "a"]).endswith("No way brings half of it back.")
    assert tell_ways(TABLE.assign(estimate=np.nan)) == "Pruning lost nothing clear that could come back."


def test_cells_are_told_one_by_one() -> None:
    assert tell_cells(TABLE, "way") == "a on one 20% [10%, 30%]; b on one 80% [70%, 90%]; a on two 60% [50%, 70%]"
    assert tell_cells(TABLE.assign(estimate=np.nan), "way") == "nothing clear was lost"


def test_rates_that_are_not_settled_are_named() -> None:
    tried = pd.DataFrame(
        [("one", "wanda → lora", 0.7, rate, rate == 0.1, False, 3.0) for rate in (0.1, 0.2, 0.3)]
        + [("one", "wanda → all", 0.7, rate, rate == 0.2, True, 1.0) for rate in (0.1, 0.2, 0.3)],
        columns=["model", "way", "sparsity", "rate", "chosen", "settled", "wall_seconds"],
    )
    told = tell_rates(tried)
    assert told.startswith("1 of 2 choices lie between values that do worse; ")
    assert "not known to be the best: wanda → lora at 0.7 on one." in told
    assert told.endswith("Finding one took 6 seconds (3.0 trainings) on average.")
    assert "not known to be the best: all of them." in tell_rates(tried[~tried["settled"]])
    assert "not known to be the best: none." in tell_rates(tried[tried["settled"]])
