"""C13's statistic on planted gains: how often its interval holds them, and how often it is clear on the wrong side."""

import numpy as np
import pandas as pd

from labutils.adaptation.study import GAIN_UNITS
from labutils.stats.bootstrap import crossed_bootstrap

GAIN = 0.02


def planted(seed: int, *, n_pairs: int = 30, n_samples: int = 8, n_base: int = 8) -> pd.DataFrame:
    """Rows as of `adaptation_gain`: GAIN on average, with luck of pairs, of samples, and of the base's fine-tunings."""
    draws = np.random.default_rng(seed)
    of_pairs, of_samples, of_base = (
        draws.normal(scale=scale, size=n) for scale, n in ((0.04, n_pairs), (0.02, n_samples), (0.02, n_base))
    )
    keys = pd.MultiIndex.from_product(
        [["full", "lora"], ["H1"], range(n_samples), range(n_base), range(n_pairs)],
        names=["adaptation", "finetuning", "draw", "seed", "item"],
    )
    rows = keys.to_frame(index=False)
    luck = of_pairs[rows["item"]] + of_samples[rows["draw"]] + of_base[rows["seed"]]
    about = {"model": "simulated", "evaluation": "pairs"}
    return rows.assign(**about, value=GAIN + luck + draws.normal(scale=0.02, size=len(rows)))


def interval(rows: pd.DataFrame):
    cells = ["adaptation", "finetuning"]
    return crossed_bootstrap(rows, cells=cells, units=GAIN_UNITS, n_resamples=400)


def test_the_interval_holds_the_planted_gain_and_is_never_clear_on_the_wrong_side():
    found = [interval(planted(seed)) for seed in range(100)]
    held = np.mean([each.low <= GAIN <= each.high for each in found])
    assert held >= 0.9
    assert not any(each.high < 0 for each in found)


def test_the_luck_of_few_base_fine_tunings_widens_the_interval():
    width = {n: np.mean([np.ptp([i.low, i.high]) for i in map(interval, (planted(s, n_base=n) for s in range(10)))])
             for n in (3, 24)}  # fmt: skip
    assert width[3] > 1.3 * width[24]
