"""Parallel tasks through joblib, each in a process of its own.

Tasks of a sweep prune and train the model that they are given, and torch draws random numbers from one state per
process. Threads would share both, and the numbers would depend on chance.
"""

from typing import Any

import joblib


def separate_tasks(n_jobs: int | None = None, *, return_as: str = "generator") -> joblib.Parallel:
    """joblib's `Parallel` with the settings in force, for tasks that must not share memory.

        run = separate_tasks()(joblib.delayed(prune_one)(model, draw) for draw in range(3))

    Args:
        n_jobs: parallel processes; None leaves it to `joblib.parallel_config`.
        return_as: "generator", or "generator_unordered".

    Raises:
        ValueError: several of the tasks would run as threads of one process; the message says what to use.
    """
    parallel = joblib.Parallel(n_jobs=n_jobs, return_as=return_as)
    backend = parallel._backend
    jobs = backend.effective_n_jobs(parallel.n_jobs)
    if getattr(backend, "uses_threads", False) and jobs > 1:
        raise ValueError(
            f"joblib's threads ({jobs} jobs) would prune and train one model at the same time: use processes, "
            f"joblib.parallel_config('loky', n_jobs={jobs}), or n_jobs=1"
        )
    if (client := getattr(backend, "client", None)) is not None:
        refuse_threads(client)
    return parallel


def refuse_threads(client: Any) -> None:
    """Make sure that each worker of a Dask client is a process that does one task at a time.

    Raises:
        ValueError: a worker has several threads, or lives in the client's own process.
    """
    for address, worker in client.scheduler_info(n_workers=-1)["workers"].items():
        if address.startswith("inproc:"):
            raise ValueError("Dask's workers share memory with their client: use LocalCluster(processes=True)")
        if worker["nthreads"] > 1:
            raise ValueError(
                f"The Dask worker {address} has {worker['nthreads']} threads, which would share one state of random "
                f"numbers: start workers with --nthreads 1, or LocalCluster(threads_per_worker=1)"
            )
