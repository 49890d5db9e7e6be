"""`PYTHONPATH=tests python -m conformance`: check every class of the installed transformers and write the table."""

import argparse
import sys
import time
from pathlib import Path

from conformance.sweep import candidates, read_rows, sweep
from conformance.table import PAGE, TABLE, make_table, write_all


def main() -> int:
    parser = argparse.ArgumentParser(prog="conformance", description=__doc__)
    parser.add_argument("names", nargs="*", help="classes; all when none is given")
    parser.add_argument("--results", type=Path, default=Path("results/conformance.jsonl"), help="goes on where it ends")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    options.results.parent.mkdir(parents=True, exist_ok=True)
    done = read_rows(options.results)
    known = candidates()
    todo = [one for one in known if (one.name in options.names if options.names else one.name not in done)]
    started = time.monotonic()
    for number, row in enumerate(sweep(todo, options.results, options.jobs), start=1):
        left = (time.monotonic() - started) / number * (len(todo) - number)
        if row.outcome in ("wrong", "not built") or options.names:
            print(f"{row.name}: {row.outcome}: {row.reason}")
        if number % 25 == 0 or number == len(todo):
            print(f"{number} of {len(todo)} classes, {left / 60:.1f} minutes left", flush=True)
    rows = read_rows(options.results)
    if {one.name for one in known} <= rows.keys() and not options.names:
        table = make_table(rows[one.name] for one in known)
        write_all(table)
        print(f"{dict(table['outcome'].value_counts())}; the table is in {TABLE}, the page in {PAGE}")
    return int(any(row.outcome == "wrong" for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())
