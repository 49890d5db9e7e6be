"""Sweeps on the workers of a Dask scheduler: `dask://host:port`.

The workers need the same version of labutils and the same data; one thread each (`dask worker host:port --nthreads 1`)
suits torch. A worker that dies takes nothing along: its tasks go to the others.
"""

import asyncio
from types import ModuleType

import joblib

from labutils import __version__
from labutils.core.extras import import_optional

SECONDS_TO_CONNECT = 10
SECONDS_FOR_WORKERS = 60  # a cluster may start its workers when there is work


def check_cluster(address: str) -> str:
    """Make sure that the workers of a scheduler ("tcp://host:port") can do the work; returns a description.

    Raises:
        ValueError: workers have another version of labutils.
        LookupError: the scheduler does not answer, a worker cannot import labutils, or Dask is not installed.
    """
    client = _connect(address)
    try:
        versions = client.run(worker_version, on_error="return")
    finally:
        client.close()
    for worker, version in versions.items():
        if version != __version__:
            problem = f"cannot import labutils ({version})" if isinstance(version, Exception) else f"has {version}"
            raise ValueError(f"The Dask worker {worker} {problem}; install labutils {__version__} for all workers.")
    return f"the Dask cluster at {address}, {len(versions)} workers"


def use_cluster(address: str) -> None:
    """Let joblib's work in this thread go to the scheduler at an address.

    Raises:
        LookupError: the scheduler does not answer, or Dask is not installed.
    """
    _connect(address)  # joblib takes the process's client
    joblib.register_parallel_backend("dask", _dask_backend)
    joblib.parallel_config("dask", wait_for_workers_timeout=SECONDS_FOR_WORKERS)


def worker_version() -> str:
    """The version of labutils where this runs."""
    return __version__


def _connect(address: str):
    distributed = _import_distributed()
    try:
        return distributed.Client(address, timeout=SECONDS_TO_CONNECT)
    except (OSError, TimeoutError) as error:
        raise LookupError(
            f"No Dask scheduler answers at {address}. Start one with `dask scheduler`, and workers with "
            f"`dask worker {address.removeprefix('tcp://')} --nthreads 1`."
        ) from error


def _import_distributed() -> ModuleType:
    return import_optional("distributed", purpose="An engine dask://…", extra="cluster")


def _dask_backend(**options: object):
    """joblib's backend, but every task carries its arguments, and a task that the cluster gives up is noticed.

    joblib hands large arguments to single workers beforehand, and all tasks of a worker then share them: one that dies
    takes the only copy along, and models, which tasks change, would be changed under each other's hands. And it waits
    for ever for the result of a task that has cost the cluster too many workers.
    """
    from joblib._dask import DaskDistributedBackend

    class Backend(DaskDistributedBackend):
        async def _collect(self) -> None:
            while self._continue:
                async for future, result in self.waiting_futures:
                    done, callback = self._results.pop(future), self._callbacks.pop(future)
                    # joblib raises what it receives where that is an error
                    outcome = result[1] if future.status == "error" else result
                    done.set_result(outcome)
                    callback(outcome)
                await asyncio.sleep(0.01)

        def effective_n_jobs(self, n_jobs: int) -> int:
            return max(2, super().effective_n_jobs(n_jobs))  # joblib keeps the work of a single worker for itself

        def start_call(self) -> None:
            super().start_call()
            self.call_data_futures = None

        def stop_call(self) -> None:
            self.call_data_futures = {}
            super().stop_call()

    return Backend(**options)
