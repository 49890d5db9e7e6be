"""Intervals and pairings of tidy rows; knows nothing of models."""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "bootstrap": ["Interval", "crossed_bootstrap", "paired_differences", "slope", "crossover", "heterogeneity"],
        "tables": ["interval_table"],
    },
)
