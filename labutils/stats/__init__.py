"""Intervals, tests and pairings of tidy rows: from the rows of a sweep to a number with its uncertainty.

`paired_differences` sets two arms against each other item by item; `crossed_bootstrap` gives a statistic of such
differences (a mean, a `slope`, a `crossover`) its interval, and `interval_table` does so for every group of a frame.

Imports `core` only, and knows nothing of models. A new statistic is a function from cell means to one number per
resample, beside `slope` in `bootstrap`; a new way to pair rows belongs into `pairing`; the random weights of the
resampling are in `pigeonhole`, and nowhere else.
"""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "bootstrap": [
            "Interval",
            "crossed_bootstrap",
            "crossover",
            "heterogeneity",
            "paired_differences",
            "slope",
            "write_interval",
        ],
        "extremes": ["lowest_cell"],
        "few_units": ["interval_over_units", "lowest_over_units"],
        "paired_outcomes": ["mcnemar", "score_interval", "smallest_visible_share"],
        "rivals": ["mean_over_least"],
        "tables": ["interval_table"],
        "unit_means": ["weighted_mean_interval"],
        "writing": ["write_number"],
    },
)
