"""Carry out the study of notebook 08 and store its rows: `python -m labutils.distillation --jobs 16`.

The parameters are those that the notebook declares, changed by a profile and by `-p name=value`, or a plan in a file.
Finished runs are kept in the folder named by `--runs`: the same command goes on where it was stopped.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from labutils import paths
from labutils.distillation.plan import DistillPlan, carry_out, save_study
from labutils.progress import clock

NOTEBOOK = "08_layer_distillation"


def main(words: list[str]) -> int:
    """Run the command; returns the exit status, 2 for what was refused."""
    parser = argparse.ArgumentParser(prog="python -m labutils.distillation", description=__doc__)
    parser.add_argument("--profile", default="full", help="profile of the notebook's parameters (default: %(default)s)")
    parser.add_argument("-p", dest="parameters", action="append", default=[], metavar="name=value", help="one of them")
    parser.add_argument("--plan", type=Path, help="a plan as JSON, in the place of the notebook's parameters")
    parser.add_argument("--runs", type=Path, default=Path("results/distillation"), help="where finished runs are kept")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=paths.DATA / "distillation_runs", help="folder of the stored rows")
    options = parser.parse_args(words)
    started = time.monotonic()
    try:
        plan = _read_plan(options)
        origin = save_study(carry_out(plan, folder=options.runs, n_jobs=options.jobs), plan, options.out)
    except (ValueError, LookupError) as error:
        print(f"labutils: {error}", file=sys.stderr)
        return 2
    print(f"{origin['rows']['runs']} runs in {options.out}, {clock(time.monotonic() - started)} on {origin['machine']}")
    return 0


def _read_plan(options: argparse.Namespace) -> DistillPlan:
    if options.plan:
        return DistillPlan.of(json.loads(options.plan.read_text(encoding="utf-8")))
    # Imported for this case alone: a machine that only trains may lack what reads notebooks.
    from labutils.studies.parameters import parse_assignment
    from labutils.studies.planning import plan_studies

    overrides = dict(parse_assignment(text) for text in options.parameters)
    (study,), _ = plan_studies([NOTEBOOK], profile=options.profile, overrides=overrides, folder=paths.NOTEBOOKS)
    return DistillPlan.of(study.parameters)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
