"""What the commands of the collection have in common: how they end, and how a long study is carried out and stored."""

import argparse
import json
import os
import select
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from labutils.core import paths
from labutils.core.progress import clock
from labutils.runner.long_study import LongStudy
from labutils.runner.parameters import parse_assignment
from labutils.runner.planning import plan_studies

REFUSED = 2
READER_LEFT = 141  # what a shell reports of a program that ended by SIGPIPE


def finish_command(command: Callable[[], int]) -> int:
    """Carry out a command and return its exit status.

    It is the command's own; 2 for a ValueError or LookupError, whose message goes to stderr; and 141, without a word,
    where nobody reads the output any more, as behind `| head`.
    """
    try:
        try:
            return _do_or_refuse(command)
        finally:
            # What is left in the buffer would otherwise fail when Python ends, where nothing can catch it.
            sys.stdout.flush()
    except BrokenPipeError:
        left = [stream for stream in (sys.stdout, sys.stderr) if _has_lost_its_reader(stream)]
        if not left:  # another pipe broke, such as that of a worker process
            raise
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in left:
            os.dup2(nowhere, stream.fileno())
        return READER_LEFT


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
        origin = plan.save(plan.carry_out(folder=options.runs, n_jobs=options.jobs), options.out)
        took = clock(time.monotonic() - started)
        print(f"{origin['rows']['runs']} runs in {options.out}, {took} on {origin['machine']}")
        return 0

    return finish_command(command)


def _do_or_refuse(command: Callable[[], int]) -> int:
    try:
        return command()
    except (ValueError, LookupError) as error:
        # A KeyError writes its message in quotes; the text alone is wanted.
        print(f"labutils: {error.args[0] if error.args else error}", file=sys.stderr)
        return REFUSED


def _study_parser(name: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m labutils.{name}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", default="full", help="profile of the notebook's parameters (default: %(default)s)")
    parser.add_argument("-p", dest="parameters", action="append", default=[], metavar="name=value", help="one of them")
    parser.add_argument("--plan", type=Path, help="JSON file with a plan, in place of the notebook's parameters")
    parser.add_argument("--show", action="store_true", help="print the plan as JSON and stop")
    parser.add_argument("--runs", type=Path, default=Path("results") / name, help="where finished runs are kept")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=paths.DATA / f"{name}_runs", help="folder of the stored rows")
    return parser


def _find_parameters(options: argparse.Namespace, notebook: str) -> dict[str, Any]:
    """Those of a plan in a file, which may be the origin of stored rows, or those of the notebook."""
    if options.plan is not None:
        content = json.loads(options.plan.read_text(encoding="utf-8"))
        return content.get("plan", content)
    overrides = dict(parse_assignment(text) for text in options.parameters)
    (study,), _ = plan_studies([notebook], profile=options.profile, overrides=overrides, folder=paths.NOTEBOOKS)
    return study.parameters


def _has_lost_its_reader(stream: TextIO) -> bool:
    """Whether a stream is a pipe whose other end is closed: the system then reports an error of it, asked or not."""
    watched = select.poll()
    watched.register(stream.fileno(), 0)
    return bool(watched.poll(0))
