"""Jobs of Slurm: sweeps through submitit's local executor, and what Slurm itself would be asked for."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import pandas as pd
import pytest
from tiny_notebooks import wait_until, write_profile, write_study

import labutils as lab
from labutils.runner import run_studies
from labutils.runner.engines import check_engine, use_engine
from labutils.runner.engines.partition import Partition, job_folder, make_executor, parse_partition
from labutils.runner.engines.slurm import SlurmBackend, run_batch

submitit = pytest.importorskip("submitit", reason="needs submitit: pip install 'labutils[slurm]'")

SWEEP = {"source": "lab-llama", "cells": ["lab:review"], "arms": ["wanda"], "sparsities": [0.5], "n_draws": 2}
CELL = """\
import joblib
work = (joblib.delayed(os.getenv)(name) for name in ["LABUTILS_NOTEBOOK", "SUBMITIT_EXECUTOR"])
(lab / "found").write_text(" ".join(joblib.Parallel(return_as="generator")(work)))"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the jobs' files are; nobody waits long for the results of the killed, for this disk is no network's."""
    monkeypatch.setenv("LABUTILS_SLURM_FOLDER", str(tmp_path / "jobs"))
    monkeypatch.setattr(submitit.Job, "_results_timeout_s", 1)
    return tmp_path / "jobs"


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    """A thread to choose an engine in: joblib's settings are a thread's own."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def in_jobs(call, *arguments: object, engine: str = "slurm://local:2") -> list:
    """What a call gives for each of the arguments, one job each as long as they take no time."""
    use_engine(engine)
    return list(joblib.Parallel(return_as="generator")(joblib.delayed(call)(each) for each in arguments))


def find_jobs(folder: Path) -> list[int]:
    """Process ids of the jobs that have their files below a folder."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            words = file.read_text().split("\0")
            if "submitit.core._submit" in words and any(word.startswith(f"{folder}{os.sep}") for word in words):
                found.append(int(file.parent.name))
    return found


def kill_a_job(folder: Path, killed: list[int]) -> None:
    """SIGKILL a job that has begun, as its log tells."""
    wait_until(lambda: any("Loading pickle" in log.read_text() for log in folder.rglob("*_log.*")))
    killed.append(find_jobs(folder)[0])
    os.kill(killed[0], signal.SIGKILL)


def sweep() -> pd.DataFrame:
    return lab.sweep(**SWEEP, sizes=lab.sweeps.SweepSizes(n_calibration=4, n_items=3, seq_len=64)).drop(
        columns="seconds"
    )


def test_the_work_of_a_notebook_runs_in_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("STUDY_FOLDER", str(tmp_path))
    write_study(tmp_path, "01_work", CELL)
    write_profile(tmp_path, "lab", **{"01_work": {}})
    records = run_studies(out=tmp_path / "run", notebooks=tmp_path, engine="slurm://local:2?timeout_min=5")
    assert records["01_work"]["status"] == "succeeded", records["01_work"]
    assert "sweeps run on jobs of submitit on this machine, at most 2 at once" in capsys.readouterr().err
    assert (tmp_path / "found").read_text() == "01_work local"
    assert list((tmp_path / "run" / ".slurm").iterdir()) == []  # made there, and deleted


@pytest.mark.timeout(120)
def test_a_sweep_of_which_a_job_is_killed_ends_with_the_same_rows(
    folder: Path, thread: ThreadPoolExecutor, capsys
) -> None:
    def run() -> pd.DataFrame:
        use_engine("slurm://local:2")
        return sweep()

    killed: list[int] = []
    killer = threading.Thread(target=kill_a_job, args=(folder, killed))
    killer.start()
    found = thread.submit(run).result(timeout=100)
    killer.join()
    assert len(killed) == 1 and "was killed or died" in (said := capsys.readouterr().err)
    assert "submitted again, 1 of 2" in said and "2 of 2" not in said
    (log,) = folder.rglob("*_log.err")
    assert str(log) in said
    pd.testing.assert_frame_equal(found, sweep())


def test_a_job_that_always_dies_is_given_up(folder: Path, thread: ThreadPoolExecutor) -> None:
    with pytest.raises(RuntimeError, match="A job was killed or died 3 times; the log of the last") as caught:
        thread.submit(in_jobs, os._exit, 1).result(timeout=60)
    logs = sorted(folder.rglob("*_log.err"))
    assert len(logs) == 3 and sum(str(log) in str(caught.value) for log in logs) == 1
    assert not list(folder.rglob("*.pkl"))


def test_what_a_job_raises_reaches_the_caller(folder: Path, thread: ThreadPoolExecutor) -> None:
    with pytest.raises(ValueError, match="invalid literal for int") as caught:
        thread.submit(in_jobs, int, "1", "word", "2").result(timeout=60)
    trace, where = caught.value.__notes__
    assert "Traceback" in trace and "run_batch" in trace
    assert [path for path in folder.rglob("*_log.err") if str(path) in where]
    wait_until(lambda: not find_jobs(folder))  # the others are cancelled


def test_after_an_error_the_engine_goes_on(folder: Path, thread: ThreadPoolExecutor) -> None:
    def run() -> list[int]:
        use_engine("slurm://local:2")
        with pytest.raises(ValueError, match="invalid literal"):
            joblib.Parallel()(joblib.delayed(int)(word) for word in ["1", "word", "2"])
        return joblib.Parallel()(joblib.delayed(int)(word) for word in ["3", "4"])

    assert thread.submit(run).result(timeout=60) == [3, 4]


def test_at_most_n_jobs_run_and_quick_tasks_share_one(
    folder: Path, thread: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[submitit.Job] = []
    running: list[int] = []
    submit = submitit.AutoExecutor.submit

    def counted(self: submitit.AutoExecutor, *arguments: object) -> submitit.Job:
        begun.append(submit(self, *arguments))
        running.append(sum(not job.done() for job in begun))
        return begun[-1]

    monkeypatch.setattr(submitit.AutoExecutor, "submit", counted)
    assert thread.submit(in_jobs, abs, *range(-20, 0)).result(timeout=60) == list(range(20, 0, -1))
    assert max(running) == 2 and len(begun) < 20
    assert list(folder.iterdir()) == []


def test_jobs_have_this_python_and_the_threads_of_the_engine(folder: Path, thread: ThreadPoolExecutor) -> None:
    engine = "slurm://local:1?cpus_per_task=3"
    assert thread.submit(in_jobs, os.getenv, "OMP_NUM_THREADS", engine=engine).result(timeout=60) == ["3"]
    assert thread.submit(in_jobs, sys.getrefcount, 0, engine=engine).result(timeout=60)


def test_an_error_that_cannot_be_read_again_is_told(folder: Path, thread: ThreadPoolExecutor) -> None:
    class Odd(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one} and {two}")

    def fail(one: int) -> None:
        raise Odd(one, 2)

    with pytest.raises(RuntimeError, match=r"^Odd: 1 and 2\n"):
        thread.submit(in_jobs, fail, 1).result(timeout=60)


def test_work_that_jobs_cannot_import(folder: Path, thread: ThreadPoolExecutor) -> None:
    with pytest.raises(RuntimeError, match="could not take up its work; its log: ") as caught:
        thread.submit(in_jobs, find_jobs, 1).result(timeout=60)
    assert "No module named 'test_slurm'" in str(caught.value.__cause__)


def test_a_job_at_its_time_limit_says_how_to_allow_more() -> None:
    def out_of_time() -> list:
        raise submitit.core.utils.UncompletedJobError("Job not requeued because: timed-out and not checkpointable.")

    error = run_batch(out_of_time)[2]
    assert isinstance(error, TimeoutError) and "slurm://PARTITION:N?timeout_min=" in str(error)


def write_commands(folder: Path, **scripts: str) -> None:
    """Commands of Slurm that are small shell scripts."""
    folder.mkdir()
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)


def test_what_slurm_is_asked_for(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_commands(tmp_path / "bin", srun="", sbatch=f"cp $1 {tmp_path}/asked; echo Submitted batch job 77")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    folder.mkdir()
    partition = parse_partition("gpu:8?timeout_min=240&mem_gb=16&cpus_per_task=4&gpus_per_node=1")
    assert make_executor(partition, folder).submit(abs, -1).job_id == "77"
    asked = (tmp_path / "asked").read_text()
    for line in ("partition=gpu", "time=240", "mem=16GB", "cpus-per-task=4", "gpus-per-node=1", "job-name=labutils"):
        assert f"#SBATCH --{line}\n" in asked
    assert f"env OMP_NUM_THREADS=4 {sys.executable} -u -m submitit.core._submit" in asked
    (run,) = (line for line in asked.splitlines() if line.startswith("srun"))
    assert "--cpus-per-task=4" in run and str(folder) in run


def test_a_cluster_of_stand_ins(
    folder: Path, tmp_path: Path, thread: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    sbatch = 'script=$(cat "$1"); (SLURM_JOB_ID=$$ sh -c "$script" > /dev/null 2>&1 &); echo Submitted batch job $$'
    # What submitit gives it: --unbuffered --output … --error … --cpus-per-task=… and the command.
    srun = 'name() { echo "$1" | sed "s/%j/$SLURM_JOB_ID/; s/%t/0/"; }; out=$(name "$3"); err=$(name "$5")\n'
    srun += 'shift 6; exec "$@" > "$out" 2> "$err"'
    write_commands(tmp_path / "bin", sbatch=sbatch, srun=srun, sacct="", scancel="")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    engine = "slurm://gpu:2?cpus_per_task=5"
    found = thread.submit(in_jobs, os.getenv, "SUBMITIT_EXECUTOR", "OMP_NUM_THREADS", engine=engine).result(timeout=60)
    assert found == ["slurm", "5"]
    assert list(folder.iterdir()) == []
    with pytest.raises(ValueError, match="invalid literal"):
        thread.submit(in_jobs, int, "word", engine=engine).result(timeout=60)


def test_a_partition_that_slurm_refuses(
    folder: Path, tmp_path: Path, thread: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = "echo sbatch: error: invalid partition specified: none >&2; exit 1"
    write_commands(tmp_path / "bin", srun="", sacct="", scancel="", sbatch=refusal)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    assert check_engine("slurm://none:2") == "the Slurm partition none, at most 2 jobs at once"
    with pytest.raises(RuntimeError, match="Slurm takes no job for the partition 'none': sbatch: error: invalid"):
        thread.submit(in_jobs, abs, 1, engine="slurm://none:2").result(timeout=60)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LookupError, match=r"Slurm's 'sbatch' is not on the PATH: .* 'slurm://local:2' tries the same"):
        check_engine("slurm://gpu:2")
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(LookupError, match=r"needs the package `submitit`: pip install 'labutils\[slurm\]'"):
        check_engine("slurm://local:2")


def test_where_the_files_of_jobs_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LABUTILS_RUN_FOLDER", str(tmp_path / "run"))
    monkeypatch.delenv("LABUTILS_SLURM_FOLDER", raising=False)
    assert job_folder() == tmp_path / "run" / ".slurm"
    monkeypatch.setenv("LABUTILS_SLURM_FOLDER", str(tmp_path / "shared"))
    assert job_folder() == tmp_path / "shared"


def test_a_single_job_is_still_a_job() -> None:
    assert SlurmBackend(partition=Partition("gpu", 1)).effective_n_jobs(1) == 2  # joblib runs one at a time itself
