"""Run notebooks headless: each in a kernel of its own, several at a time, resumable after any interruption.

A notebook has succeeded when its last cell's `conclude` wrote its result in this very execution; nothing else counts.
"""

import contextlib
import datetime
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
from filelock import FileLock, Timeout
from nbformat import NotebookNode

from labutils.claims.ledger import FILE as LEDGER
from labutils.core.files import hash_file, without_paths, write_atomically
from labutils.runner.kept_work import FOLDER as KEPT
from labutils.runner.kernels import Execution, StudyFailure, execute, kernel_environment, papermill_silenced
from labutils.runner.locks import find_locks, kernel_lock, lock
from labutils.runner.notebooks import (
    clean_executed,
    count_code_cells,
    find_figures,
    without_outputs,
    write_html,
    write_notebook,
)
from labutils.runner.planning import Study, find_lab_text, find_untaken, name_profile
from labutils.runner.preparation import prepare
from labutils.runner.progress_board import Board
from labutils.runner.records import (
    find_changes,
    new_record,
    read_records,
    shared_inputs,
    study_inputs,
    write_manifest,
    write_record,
)
from labutils.runner.run_page import keep_run_page
from labutils.runner.spent import Notes, name_attempt

KEPT_OF_RESULT = ("answer", "n_rows", "verdicts", "device", "threads", "processor_seconds", "peak_megabytes")


@dataclass
class Session:
    """One call of the runner: where it writes and what its notebooks have in common."""

    run: Path
    studies: list[Study]
    resume: bool
    threads: int
    engine: str | None
    cell_timeout: int | None
    board: Board
    shared: dict[str, Any]
    executions: list[Execution] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        """Start no further notebook and end the kernels that run."""
        self.stopped.set()
        for execution in self.executions:
            execution.kill()


def run_studies(
    names: Iterable[str] = (),
    *,
    profile: str | Path = "lab",
    out: str | Path = "results/lab",
    jobs: int = 1,
    resume: bool = False,
    parameters: Mapping[str, Any] | None = None,
    notebooks: str | Path | None = None,
    cell_timeout: int | None = None,
    engine: str | None = None,
    announce: Callable[[list[Study], Path], Iterable[str]] = lambda studies, run: (),
) -> dict[str, dict[str, Any]]:
    """Run notebooks with a profile's parameters and return their records by stem.

    Each record has `status` ("succeeded" or "failed"; "interrupted" where Ctrl-C ended the run), `answer` or `failure`,
    and all that `manifest.json` says of it. What a notebook had found before it failed lies in its folder `kept`.

    Args:
        names: notebooks by stem, file name or path; all that the profile lists when empty.
        profile: name of a file in the notebooks' folder `profiles`, or the path of a file of one's own.
        out: the run folder.
        jobs: how many notebooks run at a time.
        resume: keep what is complete in the run folder and has the same inputs.
        parameters: values by name for every selected notebook that declares them; they override the profile.
        notebooks: folder of the notebooks; that of the repository when None.
        cell_timeout: seconds that one cell may take; any when None.
        engine: where the notebooks' sweeps run: "processes:N", "dask://host:port" or "slurm://PARTITION:N"; in their
            kernels when None.
        announce: the studies and the run folder → lines to show before the first one starts, once all is checked.

    Raises:
        LookupError: an unknown notebook, profile or parameter, or an engine that does not answer; nothing has run.
        ValueError: an ill-typed parameter, nothing to run, no such engine, or a run folder that cannot be written;
            nothing has run.
        OSError: the disk is full, or a file of the run cannot be written or read.

        run_studies(["01_layerwise_sparsity"], profile="smoke", out="results/trial", resume=True)
    """
    asked = prepare(
        names, profile=profile, out=out, jobs=jobs, parameters=parameters or {}, notebooks=notebooks,
        cell_timeout=cell_timeout, engine=engine,
    )  # fmt: skip
    run, studies = asked.run, asked.studies
    board = Board(studies)
    threads = max(1, joblib.cpu_count() // jobs)
    session = Session(run, studies, resume, threads, engine, cell_timeout, board, shared_inputs())
    if asked.where is not None:
        board.note(f"sweeps run on {asked.where}")
    for stem in asked.skipped:
        board.note(f"{stem} is skipped: profile {name_profile(profile)!r} does not list it")
    for name, stems in find_untaken(studies, parameters or {}).items():
        told = (f"{stem} (did you mean {nearest!r}?)" if nearest else stem for stem, nearest in stems.items())
        board.note(f"parameter {name!r} is not taken by {', '.join(told)}")
    for stem, names in find_lab_text(studies).items():
        board.note(f"{stem} reads the lab's controlled language on a model that is not the lab's: {', '.join(names)}")
    for line in announce(studies, run):
        board.note(line)
    try:
        with papermill_silenced():
            return _run_all(session, jobs)
    finally:
        keep_run_page(run)
        board.close()


def _run_all(session: Session, jobs: int) -> dict[str, dict[str, Any]]:
    """First the studies proper, `jobs` at a time, then those that read their ledgers."""
    records = {}
    for last in (False, True):
        studies = [study for study in session.studies if study.last == last]
        # What the last ones read: the verdicts of those that succeeded, and no others.
        write_manifest(session.run)
        with ThreadPoolExecutor(1 if last else jobs) as pool:
            futures = {study.stem: pool.submit(_run_one, session, study) for study in studies}
            try:
                wait(futures.values())
            except KeyboardInterrupt:
                session.stop()
                raise
        records |= futures
    return {stem: future.result() for stem, future in records.items()}


def _run_one(session: Session, study: Study) -> dict[str, Any]:
    """Compute one study, or take it as it is when it is complete already."""
    if session.stopped.is_set():
        raise KeyboardInterrupt
    with _hold(session, study) as waited:
        inputs = study_inputs(study, session.shared, session.run)
        changes = find_changes(session.run, study.stem, inputs)
        if not changes and (session.resume or waited):
            session.board.end(study.stem, "complete already, inputs unchanged: kept")
            return read_records(session.run)[study.stem]
        if session.resume and changes != ["no finished run"]:
            session.board.note(f"{study.stem} is computed again: {'; '.join(changes)}")
        return _compute(session, study, inputs)


@contextlib.contextmanager
def _hold(session: Session, study: Study) -> Iterator[bool]:
    """Hold the locks a study needs and tell whether another process had to be waited for.

    A study that reads the others' ledgers holds their locks too. They are taken in one order everywhere, so no two runs
    can wait for each other.
    """
    stems = sorted({study.stem} | (find_locks(session.run) if study.last else set()))
    waited = False
    with contextlib.ExitStack() as stack:
        for stem in stems:
            told = f"{stem} is being run by another process; waiting for its result"
            held = lock(session.run, stem)
            waited |= _acquire(session, held, told)
            stack.callback(held.release)
        yield waited


def _acquire(session: Session, wanted: FileLock, told: str) -> bool:
    """Take a lock; where it is held, tell so and wait until it is free or the session is stopped."""
    with contextlib.suppress(Timeout):
        wanted.acquire(timeout=0)
        return False
    session.board.note(told)
    while not session.stopped.is_set():
        with contextlib.suppress(Timeout):
            wanted.acquire(timeout=1)
            return True
    raise KeyboardInterrupt


def _compute(session: Session, study: Study, inputs: Mapping[str, Any]) -> dict[str, Any]:
    folder, notes = session.run / study.stem, Notes(session.run, study.stem)
    _clear(session, study.stem)
    if not session.resume:
        notes.remove()
    attempt = name_attempt(inputs)
    board = session.board
    execution = Execution(
        kernel_environment(session.run, study.stem, attempt, session.threads, session.engine),
        on_cell=lambda number, line: board.cell(study.stem, number, line),
        on_text=lambda line: board.text(study.stem, execution.cell, line),
        cell_timeout=session.cell_timeout,
    )
    session.executions.append(execution)
    if session.stopped.is_set():
        execution.kill()
    board.begin(study.stem)
    start = time.monotonic()
    try:
        executed = execute(without_outputs(study.notebook), study.given, execution)
        outcome = _read_result(folder, attempt, executed)
        outcome["earlier"] = notes.add_up(attempt)
        shutil.rmtree(folder / KEPT, ignore_errors=True)
    except StudyFailure as failure:
        executed, outcome = failure.notebook, _describe_failure(failure, session, folder)
    finally:
        session.executions.remove(execution)
    finished = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    outcome |= {"wall_seconds": round(time.monotonic() - start, 2), "finished": finished}
    record = new_record(study, inputs, outcome)
    _export(folder, study, executed, record)
    write_record(session.run, record)
    if record["status"] == "succeeded":
        notes.remove()
    _report(board, study.stem, outcome)
    return record


def _clear(session: Session, stem: str) -> None:
    """Begin with an empty folder; a kernel whose runner was killed may still be writing into it for a moment."""
    kernel = kernel_lock(session.run, stem)
    _acquire(session, kernel, f"{stem} has a kernel of an earlier run; waiting for its end")
    try:
        shutil.rmtree(session.run / stem, ignore_errors=True)
        (session.run / stem).mkdir(parents=True)
    finally:
        kernel.release()


def _read_result(folder: Path, attempt: str, executed: NotebookNode) -> dict[str, Any]:
    """What the notebook's last cell wrote in this attempt, checked against the files beside it.

    Raises:
        StudyFailure: it wrote nothing, or the files are not those it wrote.
    """
    path = folder / "result.json"
    result = json.loads(path.read_text()) if path.exists() else {}
    last = count_code_cells(executed)
    if result.get("attempt") != attempt:
        message = "the notebook ended without calling conclude(rows, verdicts, answer)"
        raise StudyFailure(last, "last cell", message, executed)
    for name in ("rows.parquet", LEDGER):
        if hash_file(folder / name) != result[f"{Path(name).stem}_sha256"]:
            raise StudyFailure(last, "last cell", f"{name} is not the file that conclude wrote", executed)
    return {"status": "succeeded"} | {name: result[name] for name in KEPT_OF_RESULT}


def _describe_failure(failure: StudyFailure, session: Session, folder: Path) -> dict[str, Any]:
    """The outcome of a study that did not come to its end, and the tables and verdicts that it had found before."""
    stopped = session.stopped.is_set()
    message = "stopped by an interruption" if stopped else without_paths(failure.message)
    kept = sorted(f"{KEPT}/{path.name}" for path in (folder / KEPT).glob("[!.]*"))
    about = {"cell": failure.cell, "first_line": failure.first_line, "message": message, "kept": kept}
    return {"status": "interrupted" if stopped else "failed", "failure": about}


def _export(folder: Path, study: Study, executed: NotebookNode, record: Mapping[str, Any]) -> None:
    """Write the executed notebook, its page and its figures."""
    about = {"profile": study.profile, "status": record["status"], "parameters": record["inputs"]["parameters"]}
    clean = clean_executed(executed, about | ({"after": "all"} if study.last else {}))
    write_atomically(folder / f"{study.stem}.ipynb", write_notebook(clean))
    write_atomically(folder / f"{study.stem}.html", write_html(clean, study.stem))
    for number, image in enumerate(find_figures(clean), start=1):
        write_atomically(folder / "figures" / f"{study.stem}-{number}.png", image)


def _report(board: Board, stem: str, outcome: Mapping[str, Any]) -> None:
    if outcome["status"] == "succeeded":
        board.end(stem, outcome["answer"])
        return
    failure = outcome["failure"]
    kept = f"; kept so far: {', '.join(failure['kept'])}" if failure["kept"] else ""
    how = "interrupted" if outcome["status"] == "interrupted" else "FAILED"
    board.end(stem, f"{how} in cell {failure['cell']} ({failure['first_line']}): {failure['message']}{kept}")
