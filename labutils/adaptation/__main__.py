"""Carry out the study of notebook 06 and store its rows.

    python -m labutils.adaptation --jobs 16

The plan is what the notebook declares, changed by a profile and by `-p name=value`; or it is read from a JSON file, as
every stored study has one beside its rows (`--plan data/adaptation_runs/origin.json` does that study once more).
Finished runs are kept in the folder named by `--runs`: the same command goes on where it was stopped.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from labutils import paths
from labutils.adaptation.plan import StudyPlan, carry_out, save_study
from labutils.progress import clock

NOTEBOOK = "06_biomedical_adaptation"


def main(words: list[str]) -> int:
    """Run the command; returns the exit status, 2 for what was refused."""
    options = _parser().parse_args(words)
    started = time.monotonic()
    try:
        plan = _read_plan(options)
        if options.show:
            print(json.dumps(plan.described(), indent=2))
            return 0
        about = save_study(carry_out(plan, folder=options.runs, n_jobs=options.jobs), plan, options.out)
    except (ValueError, LookupError) as error:
        print(f"labutils: {error.args[0] if error.args else error}", file=sys.stderr)
        return 2
    print(f"{about['rows']['runs']} runs in {options.out}, {clock(time.monotonic() - started)} on {about['machine']}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m labutils.adaptation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", default="full", help="profile of the notebook's parameters (default: %(default)s)")
    parser.add_argument("-p", dest="parameters", action="append", default=[], metavar="name=value", help="one of them")
    parser.add_argument("--plan", type=Path, help="JSON file with a plan, in place of the notebook's parameters")
    parser.add_argument("--show", action="store_true", help="print the plan as JSON and stop")
    parser.add_argument("--runs", type=Path, default=Path("results/adaptation"), help="where finished runs are kept")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=paths.DATA / "adaptation_runs", help="folder of the stored rows")
    return parser


def _read_plan(options: argparse.Namespace) -> StudyPlan:
    if options.plan is not None:
        content = json.loads(options.plan.read_text(encoding="utf-8"))
        return StudyPlan.of(content.get("plan", content))
    # Imported here: with a plan at hand the study needs nothing that reads notebooks.
    from labutils.studies.parameters import parse_assignment
    from labutils.studies.planning import plan_studies

    overrides = dict(parse_assignment(text) for text in options.parameters)
    (study,), _ = plan_studies([NOTEBOOK], profile=options.profile, overrides=overrides, folder=paths.NOTEBOOKS)
    return StudyPlan.of(study.parameters)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
