"""The command that carries out a long study of a notebook and stores its rows."""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labutils.core import paths
from labutils.core.progress import clock
from labutils.runner.commands import finish_command
from labutils.runner.long_study import LongStudy
from labutils.runner.parameters import parse_assignment
from labutils.runner.planning import plan_studies
from labutils.runner.stored_rows import read_origin


def run_study(words: Sequence[str], study: type[LongStudy], *, description: str) -> int:
    """The command `python -m labutils.<room>`, which carries out a notebook's long study and stores its rows.

        run_study(["--profile", "smoke", "--show"], StudyPlan, description="Carry out the study of notebook 06.")

    Args:
        words: the command's arguments.
        description: shown by `--help`.

    Returns:
        the exit status, as `finish_command` gives it.
    """

    def command() -> int:
        options = _study_parser(study.room, description).parse_args(words)
        started = time.monotonic()
        plan = study.of(_find_parameters(options, study.notebook))
        if options.show:
            print(json.dumps(plan.described(), indent=2))
            return 0
        print(_forecast(plan, options.out))
        origin = plan.save(plan.carry_out(folder=options.runs, n_jobs=options.jobs), options.out)
        took = clock(time.monotonic() - started)
        print(f"{origin['rows']['runs']} runs in {options.out}, {took} on {origin['machine']}")
        return 0

    return finish_command(command)


def _forecast(plan: LongStudy, stored: Path) -> str:
    """What the study will take, from the rows that an earlier one left where this one's will stand."""
    try:
        origin = read_origin(stored)
    except LookupError:
        return f"{plan.count_runs():,} runs; no forecast, since {stored} holds no rows of an earlier study"
    seconds = origin["processor_seconds"] / origin["rows"]["runs"]
    return f"at most {plan.forecast(seconds)}, at the pace of the rows of {origin['date']}; finished runs are kept"


def _study_parser(name: str, description: str) -> argparse.ArgumentParser:
    path = paths.expand
    parser = argparse.ArgumentParser(
        prog=f"python -m labutils.{name}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", default="full", help="profile of parameters, or a .yaml file (default: full)")
    parser.add_argument("-p", dest="parameters", action="append", default=[], metavar="name=value", help="one of them")
    parser.add_argument("--plan", type=path, help="JSON file with a plan, in place of the notebook's parameters")
    parser.add_argument("--show", action="store_true", help="print the plan as JSON and stop")
    parser.add_argument("--runs", type=path, default=Path("results") / name, help="where finished runs are kept")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument("--out", type=path, default=paths.DATA / f"{name}_runs", help="folder of the stored rows")
    return parser


def _find_parameters(options: argparse.Namespace, notebook: str) -> dict[str, Any]:
    """Those of a plan in a file, which may be the origin of stored rows, or those of the notebook."""
    if options.plan is not None:
        content = json.loads(options.plan.read_text(encoding="utf-8"))
        return content.get("plan", content)
    overrides = dict(parse_assignment(text) for text in options.parameters)
    (study,), _ = plan_studies([notebook], profile=options.profile, overrides=overrides, folder=paths.NOTEBOOKS)
    return study.parameters
