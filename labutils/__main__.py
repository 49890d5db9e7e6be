"""The command line: `python -m labutils run | parameters | compare-logs | store | check | ledger | record | train`.

A command imports what it needs when it is carried out, so that help and refusals do not wait for torch.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from labutils.core import paths
from labutils.runner.commands import finish_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command and return its exit status: 0 done, 1 something failed, 2 refused before it began.

    130 stands for an interruption, 141 for output that nobody reads any more.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return finish_command(lambda: _carry_out(words))
    except KeyboardInterrupt:
        print("labutils: interrupted; the same command with --resume goes on from here", file=sys.stderr)
        return 130


def _carry_out(words: Sequence[str]) -> int:
    options = build_parser(words).parse_args(words)
    return options.command(options)


def build_parser(words: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The parser of all commands; the options of `train` are added when `words` ask for that command."""
    parser = argparse.ArgumentParser(prog="python -m labutils", description="A lab of notebooks on pruning.")
    commands = parser.add_subparsers(required=True, metavar="command")
    _add_run(commands)
    parameters = _add(commands, "parameters", _parameters, "list a notebook's parameters: name, type, default, help")
    parameters.add_argument("notebook", help="stem, file name or path")
    _add_notebooks(parameters)
    _add_compare_logs(commands)
    store = _add(commands, "store", _store, "copy a run's outputs into the notebooks and the README")
    store.add_argument("run", type=paths.expand, help="folder of a run with the profile full")
    _add(commands, "check", _check, "verify that stored outputs and the README's table are up to date")
    ledger = _add(commands, "ledger", _ledger, "print the verdicts of a run folder")
    ledger.add_argument("run", type=paths.expand, help="run folder")
    record = _add(commands, "record", _record, "keep a run's verdicts, and its pages, for readers of docs/")
    record.add_argument("run", type=paths.expand, help="run folder")
    record.add_argument("name", help="its name in docs/also_seen_on.md, for instance the model and the text")
    pages = "a run with the profile real: also its pages, figures and rows, in docs/real, in place of earlier ones"
    record.add_argument("--pages", action="store_true", help=pages)
    add = "to what is kept under that name: what this run is without stays, and Holm's correction is over all"
    record.add_argument("--add", action="store_true", help=add)
    train = _add(commands, "train", _train, "train the lab models")
    if words[:1] == ["train"]:
        # Imported for this command alone: it loads torch and transformers.
        from labutils import lab_models

        lab_models.add_arguments(train)
    return parser


def _add(commands, name: str, command, help: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
    parser.set_defaults(command=command)
    return parser


def _add_run(commands) -> None:
    run = _add(commands, "run", _run, "run notebooks headless, with records, pages and figures")
    run.add_argument(
        "names", nargs="*", metavar="notebook", help="stem, file name or path; all of the profile when none"
    )
    run.add_argument("--profile", default="lab", help="smoke, lab, full, hub, paper, or a .yaml file (default: lab)")
    run.add_argument("--out", type=paths.expand, help="run folder (default: results/<profile>)")
    run.add_argument("--jobs", type=int, default=1, help="notebooks at a time (default: %(default)s)")
    run.add_argument("--resume", action="store_true", help="keep what is complete and has the same inputs")
    run.add_argument("-p", dest="parameters", action="append", default=[], metavar="name=value", help="one parameter")
    engines = "processes:N, dask://host:port or slurm://PARTITION:N"
    run.add_argument("--engine", help=f"where sweeps run: {engines} (default: in the kernels)")
    run.add_argument("--forecast", action="store_true", help="tell time, memory and disk of the run, and do not run")
    run.add_argument("--cell-timeout", type=int, metavar="SECONDS", help="limit for one cell (default: none)")
    _add_notebooks(run)


def _add_compare_logs(commands) -> None:
    compare = _add(commands, "compare-logs", _compare_logs, "compare two models item by item, from their logs alone")
    written = "folder or samples_….jsonl of lm_eval --log_samples, or a .parquet or .csv with a row per item"
    compare.add_argument("a", help=written)
    compare.add_argument("b", help="the same of the other model")
    compare.add_argument("--tasks", nargs="+", help="tasks to compare (default: all, which both must have)")
    compare.add_argument("--metrics", nargs="+", help="metrics to compare (default: all, which both must have)")
    compare.add_argument("--cluster", help="key of the documents that says which belong together, such as passage")
    compare.add_argument("--only-shared", action="store_true", help="leave out items that only one log has")
    compare.add_argument("--other-prompts", action="store_true", help="compare although the prompts differ")
    compare.add_argument("--level", type=float, default=0.95, help="of the intervals (default: %(default)s)")
    compare.add_argument("--table", metavar="FILE", help="write all numbers there, as CSV")
    compare.add_argument("--figure", metavar="FILE", help="draw the differences there, as .png, .pdf or .svg")


def _add_notebooks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--notebooks", type=paths.expand, help="folder of the notebooks (default: those of the repository)"
    )


def _run(options: argparse.Namespace) -> int:
    from labutils.foresight.command import tell_run
    from labutils.runner.parameters import parse_assignment
    from labutils.runner.preparation import prepare
    from labutils.runner.runner import run_studies

    asked = {
        "profile": options.profile,
        "out": options.out or Path("results") / Path(options.profile).stem,
        "jobs": options.jobs,
        "parameters": dict(parse_assignment(text) for text in options.parameters),
        "notebooks": options.notebooks,
        "cell_timeout": options.cell_timeout,
        "engine": options.engine,
    }
    tell = partial(tell_run, jobs=options.jobs, resume=options.resume, always=options.forecast)
    if options.forecast:
        prepared = prepare(options.names, **asked)
        print("\n".join(tell(prepared.studies, prepared.run)))
        return 0
    records = run_studies(options.names, resume=options.resume, announce=tell, **asked)
    failed = [stem for stem, record in records.items() if record["status"] != "succeeded"]
    outcome = f"FAILED: {', '.join(failed)}" if failed else "all succeeded"
    out = asked["out"]
    print(f"{len(records)} notebooks, {outcome}. Page of the run: {out}/index.html; record: {out}/manifest.json")
    return 1 if failed else 0


def _parameters(options: argparse.Namespace) -> int:
    from labutils.runner.notebooks import find_notebooks, read_notebook, select_notebooks
    from labutils.runner.planning import read_declarations

    available = find_notebooks(options.notebooks or paths.NOTEBOOKS)
    ((stem, path),) = select_notebooks([options.notebook], available).items()
    declared = read_declarations(stem, read_notebook(path)).values()
    rows = [(p.name, p.annotation, repr(p.default), p.help) for p in declared]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    for row in rows:
        print("  ".join([*(text.ljust(width) for text, width in zip(row[:3], widths, strict=True)), row[3]]).rstrip())
    return 0


def _compare_logs(options: argparse.Namespace) -> int:
    from labutils.logs.command import carry_out

    return carry_out(options)


def _store(options: argparse.Namespace) -> int:
    from labutils.core.files import unchanged_on_failure
    from labutils.runner.stored_evidence import FOLDERS
    from labutils.runner.stored_outputs import store_outputs
    from labutils.sweeps.which_method import PAGE, STUDIES, write_which_method

    kept = [paths.DATA / folder for folder in FOLDERS]
    with unchanged_on_failure(paths.NOTEBOOKS, *kept, paths.REPOSITORY / "README.md", PAGE.parent):
        stored = store_outputs(options.run)
        rebuilt = ["the README's table"]
        if set(stored) & set(STUDIES):
            rebuilt.append(write_which_method().name)
    print(f"stored: {', '.join(stored)}; rebuilt: {', '.join(rebuilt)}")
    return 0


def _check(options: argparse.Namespace) -> int:
    from labutils.runner.stored_outputs import find_stale
    from labutils.sweeps.which_method import find_stale_page

    problems = find_stale() + find_stale_page()
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{len(problems)} out of date" if problems else "stored outputs and README are up to date")
    return 1 if problems else 0


def _ledger(options: argparse.Namespace) -> int:
    from labutils.claims.ledger import ledger

    table = ledger(options.run)
    columns = ["run", "claim", "outcome", "estimate", "low", "high", "unit", "p_holm", "note"]
    print(table[columns].to_string(index=False))
    return 0


def _record(options: argparse.Namespace) -> int:
    from labutils.claims.also_seen_on import PAGE, find_recordable, record_elsewhere
    from labutils.sweeps.which_method import write_which_method

    find_recordable(options.run, options.name, add=options.add)
    if options.pages:
        from labutils.runner.real_runs import keep_pages

        pages = keep_pages(options.run, options.name, add=options.add)
        print(f"pages in docs/real: {', '.join(pages)}; heads of notebooks and the README's table are rebuilt")
        print(f"{write_which_method().name} is rebuilt")
    print(f"kept {record_elsewhere(options.run, options.name, add=options.add).name}; {PAGE.name} is rebuilt")
    return 0


def _train(options: argparse.Namespace) -> int:
    from labutils import lab_models

    return lab_models.main(options)


if __name__ == "__main__":
    sys.exit(main())
