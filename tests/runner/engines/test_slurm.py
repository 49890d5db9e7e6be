"""Jobs of Slurm: what Slurm is asked for, a cluster of stand-ins for its commands, and workers of this machine."""

import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask
import distributed
import joblib
import pytest
import tiny_notebooks
from tiny_notebooks import meet, wait_for, wait_until, write_profile, write_study

from labutils.core import paths
from labutils.runner import run_studies
from labutils.runner.engines import check_engine, use_engine
from labutils.runner.engines.slurm import make_cluster, parse_partition

CELL = """\
import joblib
work = (joblib.delayed(os.getenv)(name) for name in ["LABUTILS_NOTEBOOK", "OMP_NUM_THREADS"] * 2)
(lab / "found").write_text(" ".join(joblib.Parallel(return_as="generator")(work)))"""
# A job runs in a session of its own, whose leader's process id is its number.
SBATCH = """\
echo "$1" >> "$FOLDER/asked"; cp "$1" "$FOLDER/script"
script=$(cat "$1"); rm -f "$FOLDER/pid"
setsid sh -c 'echo $$ > "$FOLDER/pid"; eval "$1"' job "$script" > "$FOLDER/log" 2>&1 &
while [ ! -s "$FOLDER/pid" ]; do sleep 0.05; done; echo Submitted batch job $(cat "$FOLDER/pid")"""
SCANCEL = 'echo "$1" >> "$FOLDER/cancelled"; kill -KILL -- "-$1"'


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Makes commands of Slurm that are small shell scripts; returns the folder of what they write down."""
    pytest.importorskip("dask_jobqueue", reason="needs dask-jobqueue: pip install 'labutils[slurm]'")

    def make(**scripts: str) -> Path:
        folder = tmp_path / "slurm"
        (folder / "bin").mkdir(parents=True)
        for name, script in scripts.items():
            (folder / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / "bin" / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(folder / "bin"), prepend=os.pathsep)
        monkeypatch.setenv("FOLDER", str(folder))
        for importable in (Path(tiny_notebooks.__file__).parent, paths.REPOSITORY):  # in jobs too
            monkeypatch.setenv("PYTHONPATH", str(importable), prepend=os.pathsep)
        monkeypatch.setenv("LABUTILS_RUN_FOLDER", str(tmp_path / "run"))
        return folder

    return make


def in_jobs(call: Callable, *arguments: object, engine: str, after: Callable[[], object] = list) -> list[Any]:
    """What a call gives for each of the arguments, in a thread of its own: joblib's settings are a thread's."""

    def run() -> list[Any]:
        use_engine(engine)
        try:
            found = joblib.Parallel(return_as="generator")(joblib.delayed(call)(each) for each in arguments)
            after()
            return list(found)
        finally:
            client = distributed.default_client()
            client.close()
            client.cluster.close()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result(timeout=100)


def test_the_work_of_a_notebook_runs_on_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("STUDY_FOLDER", str(tmp_path))
    write_study(tmp_path, "01_work", CELL)
    write_profile(tmp_path, "lab", **{"01_work": {}})
    records = run_studies(out=tmp_path / "run", notebooks=tmp_path, engine="slurm://local:2?cpus_per_task=3")
    assert records["01_work"]["status"] == "succeeded", records["01_work"]
    assert "sweeps run on 2 Dask workers of this machine" in capsys.readouterr().err
    assert (tmp_path / "found").read_text() == "01_work 3 01_work 3"


def test_what_slurm_is_asked_for(slurm: Callable[..., Path], tmp_path: Path) -> None:
    slurm(sbatch="", scancel="")
    for query, asked, not_asked in [
        ("?timeout_min=240&mem_gb=1.5&cpus_per_task=4&gpus_per_node=1", ["--mem=1536M", "--gpus-per-node=1"], []),
        ("?timeout_min=240&cpus_per_task=4", [], ["--mem", "--gpus"]),
    ]:
        with make_cluster(parse_partition(f"gpu:8{query}"), []) as cluster:
            script = cluster.job_script()
        for line in ["-p gpu", "-t 240", "--cpus-per-task=4", "-J labutils", "-n 1", *asked]:
            assert f"#SBATCH {line}\n" in script
        assert not any(f"#SBATCH {line}" in script for line in not_asked)
        assert f"env OMP_NUM_THREADS=4 {sys.executable} -m distributed.cli.dask_worker tcp://" in script
        assert f"-o {tmp_path}/run/.slurm/labutils-%J.out" in script
        assert "--nthreads 1 --memory-limit 0.0B" in script


def test_a_cluster_of_stand_ins(slurm: Callable[..., Path]) -> None:
    """Both jobs are asked for at once, work side by side, and are cancelled in the end."""
    folder = slurm(sbatch=SBATCH, scancel=SCANCEL)
    found = in_jobs(meet, *[str(folder / "met")] * 4, engine="slurm://gpu:2?cpus_per_task=5")
    assert len(set(found)) == 2
    assert len((folder / "asked").read_text().split()) == 2
    assert len((folder / "cancelled").read_text().split()) == 2


def test_a_killed_job_is_replaced_and_its_work_done_again(slurm: Callable[..., Path]) -> None:
    folder = slurm(sbatch=SBATCH, scancel=SCANCEL)
    killed: list[int] = []

    def kill() -> None:
        wait_until((folder / "begun").exists)
        killed.append(int((folder / "pid").read_text()))
        os.killpg(killed[0], signal.SIGKILL)
        (folder / "go").touch()

    with dask.config.set({"distributed.deploy.lost-worker-timeout": "1s"}):
        found = in_jobs(wait_for, *[str(folder)] * 3, engine="slurm://gpu:1", after=kill)
    assert len(killed) == 1 and len(found) == 3
    assert len((folder / "asked").read_text().split()) == 2


def test_a_partition_that_slurm_refuses(slurm: Callable[..., Path]) -> None:
    slurm(sbatch="echo sbatch: error: invalid partition specified: none >&2; exit 1", scancel="")
    assert check_engine("slurm://none:2") == "the Slurm partition none, at most 2 jobs at once"
    with pytest.raises(RuntimeError, match=r"Slurm takes no job for the partition 'none': .*(?s:.)*invalid partition"):
        in_jobs(abs, -1, -2, -3, engine="slurm://none:2")


def test_what_a_job_raises_reaches_the_caller() -> None:
    with pytest.raises(ValueError, match="invalid literal for int"):
        in_jobs(int, "1", "word", "2", engine="slurm://local:2")


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(LookupError, match=r"needs the package `dask_jobqueue`: pip install 'labutils\[slurm\]'"):
        check_engine("slurm://gpu:2")
    monkeypatch.setitem(sys.modules, "dask_jobqueue", sys)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LookupError, match=r"Slurm's 'sbatch' is not on the PATH: .* 'slurm://local:2' tries the same"):
        check_engine("slurm://gpu:2")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(LookupError, match="needs the package `distributed`"):
        check_engine("slurm://local:2")
