"""Engines: a Dask cluster that loses a worker in mid-sweep, and errors before anything runs."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import distributed
import joblib
import pandas as pd
import pytest
from tiny_notebooks import wait_until, write_profile, write_study

import labutils as lab
from labutils.__main__ import main
from labutils.core import paths
from labutils.runner import run_studies
from labutils.runner.engines import check_engine, parse_engine, use_engine
from labutils.runner.kernels import START_KERNEL

SWEEP = {"source": "lab-llama", "texts": ["lab:review"], "arms": ["wanda"], "sparsities": [0.5], "n_draws": 5}
SWEEP_CELL = f"""\
import labutils
found = labutils.sweep(**{SWEEP!r}, sizes=labutils.sweeps.SweepSizes(n_calibration=4, n_items=3, seq_len=64))
found.drop(columns="seconds").to_parquet(lab / "found.parquet")"""


class Cluster:
    """A Dask scheduler and workers, each a process of its own."""

    def __init__(self, folder: Path, *, workers: int, allowed_failures: int = 3):
        self.folder, self.processes = folder, []
        self.environment = os.environ | {
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": str(allowed_failures), "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(paths.REPOSITORY), os.environ.get("PYTHONPATH", "")]),
        }  # fmt: skip
        self.start("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", "scheduler.json")
        given = ("--scheduler-file", "scheduler.json", "--nthreads", "1", "--no-nanny")
        wait_until((folder / "scheduler.json").exists)
        self.client = distributed.Client(
            scheduler_file=str(folder / "scheduler.json"), set_as_default=False, timeout=60
        )
        for _ in range(workers):
            self.start("worker", *given)
        self.client.wait_for_workers(workers, timeout=60)
        self.address = self.client.scheduler.address.removeprefix("tcp://")

    def start(self, kind: str, *arguments: str) -> None:
        command = [sys.executable, "-m", "dask", kind, "--no-dashboard", *arguments]
        log = (self.folder / f"{kind}-{len(self.processes)}.log").open("wb")
        self.processes.append(subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=log, stderr=log))

    def kill_a_busy_worker(self, task: str) -> int:
        """SIGKILL a worker that is at such a task; returns its process id."""

        def find() -> str | None:
            tasks = self.client.processing().items()
            return next((worker for worker, keys in tasks if any(task in str(key) for key in keys)), None)

        wait_until(lambda: find() is not None)
        pid = self.client.run(os.getpid, workers=[find()]).popitem()[1]
        os.kill(pid, signal.SIGKILL)
        return pid

    def close(self) -> None:
        self.client.close()
        for process in reversed(self.processes):
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    folder = tmp_path / "cluster"
    folder.mkdir()
    started = Cluster(folder, workers=2)
    yield started
    started.close()


@pytest.mark.timeout(120)
def test_a_sweep_survives_a_killed_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STUDY_FOLDER", str(tmp_path))
    write_study(tmp_path, "01_sweep", SWEEP_CELL)
    write_profile(tmp_path, "lab", **{"01_sweep": {}})
    killed: list[int] = []
    killer = threading.Thread(target=lambda: killed.append(cluster.kill_a_busy_worker("_call_registered")))
    killer.start()
    records = run_studies(out=tmp_path / "run", notebooks=tmp_path, engine=f"dask://{cluster.address}")
    killer.join()
    assert records["01_sweep"]["status"] == "succeeded", records["01_sweep"]["failure"]["message"]
    assert len(killed) == 1 and len(cluster.client.scheduler_info()["workers"]) == 1
    assert "sweeps run on the Dask cluster" in capsys.readouterr().err
    found = pd.read_parquet(tmp_path / "found.parquet")
    own = lab.sweep(**SWEEP, sizes=lab.sweeps.SweepSizes(n_calibration=4, n_items=3, seq_len=64)).drop(
        columns="seconds"
    )
    pd.testing.assert_frame_equal(found, own)


REGISTERED_CELL = """\
import labutils

@labutils.register_score("mine", "row")
def mine(weight, norms):
    return weight.abs() * norms.sqrt()

sizes = labutils.sweeps.SweepSizes(n_calibration=2, n_items=2, seq_len=16)
given = {"arms": ["mine", "wanda"], "sparsities": [0.5], "n_draws": 2, "sizes": sizes}
found = labutils.sweep("lab-llama", ["lab:review"], **given)
found.drop(columns="seconds").to_parquet(lab / "found.parquet")
of_tasks = labutils.sweeps.task_sweep(
    "lab-llama", ["lab:qa/birthplaces"], calibrations=["lab:review"], methods=["mine"], sparsities=[0.5], n_draws=2,
    sizes=sizes,
)
of_tasks.to_parquet(lab / "tasks.parquet")"""


def run_registered(folder: Path, engine: str | None) -> list[pd.DataFrame]:
    """The rows that a notebook finds which registers a score."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDY_FOLDER", str(folder))
        write_study(folder, "01_mine", REGISTERED_CELL)
        write_profile(folder, "lab", **{"01_mine": {}})
        record = run_studies(out=folder / "run", notebooks=folder, engine=engine)["01_mine"]
    assert record["status"] == "succeeded", record["failure"]["message"]
    return [pd.read_parquet(folder / f"{name}.parquet") for name in ("found", "tasks")]


@pytest.fixture(scope="module")
def registered_here(tmp_path_factory: pytest.TempPathFactory) -> list[pd.DataFrame]:
    return run_registered(tmp_path_factory.mktemp("here"), None)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", ["processes:2", "dask"])  # Slurm's jobs are Dask workers too
def test_a_score_that_a_notebook_registers_is_found_on_every_engine(
    tmp_path: Path, registered_here: list[pd.DataFrame], kind: str, request: pytest.FixtureRequest
) -> None:
    engine = f"dask://{request.getfixturevalue('cluster').address}" if kind == "dask" else kind
    for there, here in zip(run_registered(tmp_path, engine), registered_here, strict=True):
        assert "mine" in set(here["method"])
        pd.testing.assert_frame_equal(there, here)


@pytest.mark.timeout(120)
def test_a_task_that_the_cluster_gives_up_is_an_error(tmp_path: Path) -> None:
    """A task that takes its worker along; joblib itself would wait for its result for ever."""
    started = Cluster(tmp_path, workers=1, allowed_failures=0)

    def run() -> list:
        use_engine(f"dask://{started.address}")
        try:
            return list(joblib.Parallel(return_as="generator")(joblib.delayed(os.abort)() for _ in range(2)))
        finally:
            distributed.default_client().close()

    try:
        with ThreadPoolExecutor(1) as pool, pytest.raises(distributed.scheduler.KilledWorker):
            pool.submit(run).result(timeout=60)  # joblib's settings are a thread's own
    finally:
        started.close()


@pytest.mark.parametrize("choose", [lambda: use_engine("processes:2"), lambda: exec(START_KERNEL, {})])
def test_processes_of_this_machine(choose: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kernel begins with is a line of text, which no search for imports finds."""
    monkeypatch.setenv("LABUTILS_ENGINE", "processes:2")

    def run() -> set[int]:
        choose()
        return set(joblib.Parallel()(joblib.delayed(os.getpid)() for _ in range(4)))

    with ThreadPoolExecutor(1) as pool:
        assert os.getpid() not in pool.submit(run).result(timeout=60)
    assert check_engine("processes:2") == "2 processes of this machine"


def test_a_kernel_without_its_engine_ends_at_once() -> None:
    command = [sys.executable, "-c", f"{START_KERNEL}; print('went on')"]
    environment = os.environ | {"LABUTILS_ENGINE": "slurm"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 2 and ended.stdout == "" and "There is no engine 'slurm'" in ended.stderr


def test_names() -> None:
    assert parse_engine("dask://node-3.cluster:8786") == ("dask", "tcp://node-3.cluster:8786")
    assert parse_engine("processes:4") == ("processes", "4")
    assert parse_engine("slurm://gpu,long:8?mem_gb=1.5") == ("slurm", "gpu,long:8?mem_gb=1.5")


@pytest.mark.parametrize(
    ("engine", "says"),
    [
        ("dask://127.0.0.1:1", "No Dask scheduler answers at tcp://127.0.0.1:1. Start one with `dask scheduler`"),
        ("dask:127.0.0.1:1", "Did you mean 'dask'? Known: processes:N, dask://host:port, slurm"),
        ("dask://127.0.0.1", "Did you mean 'dask'?"),
        ("process:2", "Did you mean 'processes'?"),
        ("processes:0", "Did you mean 'processes'?"),
        ("ray://host:6379", "There is no engine 'ray://host:6379'. Known: processes:N, dask://host:port, slurm"),
        ("slurm", "Did you mean 'slurm'? Known: processes:N, dask://host:port, slurm://PARTITION:N."),
        ("slurm://gpu", "There is no engine 'slurm://gpu'. Did you mean 'slurm'?"),
        ("slurm://gpu:0", "Did you mean 'slurm'?"),
        (
            "slurm://gpu:2?gpu_per_node=1",
            "no option 'gpu_per_node' here. Did you mean 'gpus_per_node'? Known: timeout_min, mem_gb, ",
        ),
        ("slurm://gpu:2?timeout_min=1.5", "timeout_min of a Slurm engine must be a whole number above 0, not '1.5'."),
        ("slurm://gpu:2?mem_gb=nan", "mem_gb of a Slurm engine must be a number above 0, not 'nan'."),
    ],
)
def test_an_engine_that_cannot_be_used_stops_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], engine: str, says: str
) -> None:
    monkeypatch.setattr("labutils.runner.engines.dask.SECONDS_TO_CONNECT", 2)
    write_study(tmp_path, "01_a")
    write_profile(tmp_path, "lab", **{"01_a": {}})
    command = ["run", "--notebooks", str(tmp_path), "--out", str(tmp_path / "run"), "--engine", engine]
    assert main(command) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_workers_of_another_version_are_refused(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labutils.runner.engines.dask.__version__", "99.0")
    with pytest.raises(ValueError, match=r"has 0\.1\.0; install labutils 99\.0 for all workers"):
        check_engine(f"dask://{cluster.address}")
