"""Two per-item logs of the same items against each other: what a model lost to another, and what could be seen.

`harness_files` reads the sample logs of lm-evaluation-harness, `own_tables` the tables of this collection; `pairing`
pairs them or refuses, `comparison` gives differences, intervals and tests, `figures` draws them, and `command` is the
command line's.

Imports `core`, `stats` and `plots`. A log of another program is a file here that returns the columns of `COLUMNS`.
"""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "comparison": ["compare_logs", "LogComparison"],
        "harness_files": ["read_harness_log"],
        "own_tables": ["read_own_table"],
        "figures": ["comparison_dots"],
    },
)
