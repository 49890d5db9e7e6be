"""`python -m labutils compare-logs A B`."""

import argparse

from labutils.core import paths
from labutils.logs.comparison import compare_logs


def carry_out(options: argparse.Namespace) -> int:
    """Print the comparison and write what is asked for; returns 0."""
    found = compare_logs(
        options.a, options.b, tasks=options.tasks, metrics=options.metrics, cluster=options.cluster,
        only_shared=options.only_shared, other_prompts=options.other_prompts, level=options.level,
    )  # fmt: skip
    print(found)
    if options.table:
        found.table.to_csv(paths.expand(options.table), index=False)
    if options.figure:
        found.figure().savefig(paths.expand(options.figure), dpi=150, bbox_inches="tight")
    return 0
