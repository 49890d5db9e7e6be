"""Sweeps as jobs of a Slurm cluster, submitted by submitit: `slurm://PARTITION:N`, at most N jobs at once per notebook.

`slurm://gpu:8?timeout_min=240&gpus_per_node=1` says what a job may use: `timeout_min` (minutes; 60 by default),
`mem_gb` (what the cluster gives), `cpus_per_task` (1), `gpus_per_node` (none). All else that a cluster asks for reaches
it by sbatch's own variables, such as SBATCH_ACCOUNT. `slurm://local:2` needs no cluster: the same machinery with
processes of this machine, to try it, without a limit to memory. No partition can therefore be called `local`.

Jobs run the Python that submits them, in its environment. Their files are submitit's: the work and its outcome as
cloudpickles, and logs. They lie in `.slurm` of the run's folder, or where LABUTILS_SLURM_FOLDER says; all nodes must
see that folder, so `/tmp` will not do. What went well is deleted; of a job that failed or was killed the logs stay. A
job that was killed is submitted again, twice at most. Jobs of a kernel that was itself killed run on: `scancel --name
labutils` ends them.
"""

import contextlib
import copy
import itertools
import os
import shutil
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import joblib
from joblib.parallel import AutoBatchingMixin, ParallelBackendBase

from labutils.runner.engines.partition import LOCAL, Partition, import_submitit, job_folder, make_executor

COMMANDS = ("sbatch", "srun", "sacct", "scancel")  # what submitit calls
RESUBMISSIONS = 2
POLL_SECONDS = 0.5


def check_partition(partition: Partition) -> str:
    """Make sure that jobs can be submitted from here; returns a description.

    Raises:
        LookupError: submitit or a command of Slurm's is missing.
    """
    import_submitit()
    if partition.name == LOCAL:
        return f"jobs of submitit on this machine, at most {partition.n_jobs} at once"
    if missing := [command for command in COMMANDS if shutil.which(command) is None]:
        raise LookupError(
            f"Slurm's {missing[0]!r} is not on the PATH: start the run where jobs are submitted, such as a login node. "
            f"Without a cluster, 'slurm://{LOCAL}:{partition.n_jobs}' tries the same on this machine."
        )
    return f"the Slurm partition {partition.name}, at most {partition.n_jobs} jobs at once"


def use_partition(partition: Partition) -> None:
    """Let joblib's work in this thread go to jobs of a partition.

    Raises:
        LookupError: as for `check_partition`.
    """
    check_partition(partition)
    joblib.register_parallel_backend("slurm", SlurmBackend)
    joblib.parallel_config("slurm", partition=partition)


class SlurmBackend(AutoBatchingMixin, ParallelBackendBase):
    """joblib's backend: one job per batch, each followed by one of N threads from its submission to its outcome."""

    # Seconds: a job should take long enough to be worth its start, and short enough to be done again.
    MIN_IDEAL_BATCH_DURATION = 60
    MAX_IDEAL_BATCH_DURATION = 600
    supports_retrieve_callback = True
    default_n_jobs = -1

    def __init__(self, *, partition: Partition, **options: Any) -> None:
        super().__init__(**options)
        self.partition = partition
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._running: set = set()
        self._measured = threading.local()

    def effective_n_jobs(self, n_jobs: int) -> int:
        """As many as the engine says; joblib would keep the work of a single one for itself."""
        return max(2, self.partition.n_jobs)

    def start_call(self) -> None:
        """Make a folder and threads for one call of `joblib.Parallel`."""
        self.reset_batch_stats()
        self._stopped.clear()
        parent = job_folder()
        parent.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix=f"{os.environ.get('LABUTILS_NOTEBOOK', 'sweep')}-", dir=parent))
        self._executor = make_executor(self.partition, self._folder)
        self._threads = ThreadPoolExecutor(self.partition.n_jobs)

    def stop_call(self) -> None:
        """End the threads; the folder stays where it holds logs."""
        self._threads.shutdown(cancel_futures=True)
        if not any(self._folder.glob("*_log.*")):
            shutil.rmtree(self._folder, ignore_errors=True)

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel all jobs."""
        with self._lock:
            self._stopped.set()
            for job in self._running:
                job.cancel(check=False)
        # Not under the lock: this calls back into joblib, whose threads hold a lock of their own when they submit.
        self._threads.shutdown(wait=False, cancel_futures=True)

    def submit(self, func: Callable[[], list], callback: Callable[[Future], None] | None = None) -> Future:
        """Queue a batch; joblib is called back with its future when its job has ended."""
        with self._lock:
            if self._stopped.is_set():
                return Future()
            future = self._threads.submit(self._carry_out, func)
        future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Future) -> list:
        """The results of a batch, or what its job raised."""
        self._measured.seconds, results = out.result()
        return results

    def batch_completed(self, batch_size: int, duration: float) -> None:
        """Size batches by what they took in their jobs; joblib's `duration` includes waiting for the cluster."""
        super().batch_completed(batch_size, self._measured.seconds)  # of this thread, set just before

    def _carry_out(self, batch: Callable[[], list]) -> tuple[float, list]:
        """Have a job do a batch, and another where that is killed; seconds and results."""
        from submitit.core.utils import FailedJobError, UncompletedJobError

        for attempt in itertools.count(1):
            with self._submitted(batch) as job:
                self._wait(job)
                try:
                    seconds, results, error = job.result()
                except FailedJobError as failure:  # a kind of the next, so it comes first
                    raise RuntimeError(
                        f"Job {job.job_id} could not take up its work; its log: {job.paths.stderr}"
                    ) from failure
                except UncompletedJobError as death:
                    self._report(job, attempt, death)
                    continue
                if error is not None:
                    error.add_note(f"Raised in job {job.job_id}; its log: {job.paths.stderr}")
                    raise error
                self._delete(job, "*")
                return seconds, results

    @contextlib.contextmanager
    def _submitted(self, batch: Callable[[], list]) -> Iterator[Any]:
        """A job that does a batch; of its files the logs stay."""
        from submitit.core.utils import FailedJobError

        with self._lock:
            if self._stopped.is_set():
                raise CancelledError
            try:
                job = self._executor.submit(run_batch, batch)
            except FailedJobError as refusal:  # that of the command sbatch
                where = self.partition.name
                raise RuntimeError(f"Slurm takes no job for the partition {where!r}: {refusal}") from refusal
            self._running.add(job)
        try:
            yield job
        finally:
            with self._lock:
                self._running.discard(job)
            self._delete(job, "*.pkl")  # models, for instance

    def _delete(self, job: Any, pattern: str) -> None:
        for file in self._folder.glob(f"{job.job_id}_{pattern}"):
            file.unlink(missing_ok=True)

    def _wait(self, job: Any) -> None:
        while True:
            with self._lock:  # one question at a time to Slurm's accounting, which answers for all jobs
                if job.done():
                    return
            if self._stopped.wait(POLL_SECONDS):
                raise CancelledError

    def _report(self, job: Any, attempt: int, death: Exception) -> None:
        """Say that a job was killed or died, and raise an error when it was the last of its batch."""
        if self._stopped.is_set():
            raise CancelledError
        if attempt > RESUBMISSIONS:
            raise RuntimeError(
                f"A job was killed or died {attempt} times; the log of the last, {job.job_id}: {job.paths.stderr}. "
                f"If it ran out of memory, ask for more: slurm://{self.partition.name}:{self.partition.n_jobs}?mem_gb=…"
            ) from death
        again = f"submitted again, {attempt} of {RESUBMISSIONS}"
        print(
            f"labutils: job {job.job_id} was killed or died ({job.paths.stderr}); {again}", file=sys.stderr, flush=True
        )


def run_batch(batch: Callable[[], list]) -> tuple[float, list, Exception | None]:
    """In a job: seconds, results and error of a batch."""
    from submitit.core.utils import UncompletedJobError

    start, results, failure = time.monotonic(), [], None
    try:
        results = batch()
    except UncompletedJobError:  # raised by submitit's handler of the signal that comes before the time limit
        failure = TimeoutError("a job reached its time limit; allow more: slurm://PARTITION:N?timeout_min=…")
    except Exception as error:
        failure = _portable(error)
        failure.add_note("".join(traceback.format_exception(error)))
    return time.monotonic() - start, results, failure


def _portable(error: Exception) -> Exception:
    """The error, or its words where it cannot be made again from its parts, as reading it from a file will do."""
    try:
        return copy.deepcopy(error)
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
