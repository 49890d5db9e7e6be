"""Sweeps on the workers of a Dask scheduler: `dask://host:port`.

The workers need the same version of labutils, the same data, and one thread each (`dask worker host:port --nthreads
1`): threads would share torch's random numbers. A worker that dies takes nothing along: its tasks go to the others.
"""

import asyncio
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import joblib

from labutils import __version__
from labutils.core.extras import import_optional
from labutils.core.separate_tasks import refuse_threads

SECONDS_TO_CONNECT = 10
SECONDS_FOR_WORKERS = 60  # a cluster may start its workers when there is work


def check_cluster(address: str) -> str:
    """Make sure that the workers of a scheduler ("tcp://host:port") can do the work; returns a description.

    Raises:
        ValueError: workers have another version of labutils, or several threads.
        LookupError: the scheduler does not answer, a worker cannot import labutils, or Dask is not installed.
    """
    client = _connect(address)
    try:
        versions = client.run(worker_version, on_error="return")
        refuse_threads(client)
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
    use_client(_connect(address))


def use_client(client: Any, *, n_workers: int | None = None, refusals: Sequence[Exception] = ()) -> None:
    """Let joblib's work in this thread go to the cluster of a Dask client.

        use_client(distributed.Client(cluster), n_workers=8)

    Args:
        n_workers: how many there may come to be; None: those that are there, or come within a minute.
        refusals: a list in which an error appears when no worker will come any more.
    """
    joblib.register_parallel_backend("dask", _dask_backend)
    options = {"wait_for_workers_timeout": SECONDS_FOR_WORKERS, "n_workers": n_workers, "refusals": refusals}
    joblib.parallel_config("dask", client=client, **options)


def worker_version() -> str:
    """The version of labutils where this runs."""
    return __version__


def _connect(address: str):
    distributed = import_distributed()
    try:
        return distributed.Client(address, timeout=SECONDS_TO_CONNECT)
    except (OSError, TimeoutError) as error:
        raise LookupError(
            f"No Dask scheduler answers at {address}. Start one with `dask scheduler`, and workers with "
            f"`dask worker {address.removeprefix('tcp://')} --nthreads 1`."
        ) from error


def import_distributed() -> ModuleType:
    """`distributed`, Dask's scheduler and workers."""
    return import_optional("distributed", purpose="An engine dask://…", extra="cluster")


def _dask_backend(**options: object):
    """joblib's backend, but every task carries its arguments, and a task that the cluster gives up is noticed.

    joblib hands large arguments to single workers beforehand, and all tasks of a worker then share them: one that dies
    takes the only copy along, and models, which tasks change, would be changed under each other's hands. And it waits
    for ever for the result of a task that has cost the cluster too many workers.
    """
    from joblib._dask import DaskDistributedBackend

    class Backend(DaskDistributedBackend):
        def __init__(self, *, n_workers: int | None, refusals: Sequence[Exception], **options: object) -> None:
            super().__init__(**options)
            self.n_workers, self.refusals = n_workers, refusals

        async def _collect(self) -> None:
            while self._continue:
                async for future, result in self.waiting_futures:
                    self._hand_over(future, result[1] if future.status == "error" else result)
                await asyncio.sleep(0.01)

        async def _watch(self) -> None:
            """End what waits when no worker will come."""
            while self._continue:
                for future in list(self._results) if self.refusals else []:
                    self._hand_over(future, self.refusals[0])
                await asyncio.sleep(0.1)

        def _hand_over(self, future: Any, outcome: object) -> None:
            """Give joblib an outcome; it raises what it receives where that is an error."""
            if future in self._results:
                self._results.pop(future).set_result(outcome)
                self._callbacks.pop(future)(outcome)

        def effective_n_jobs(self, n_jobs: int) -> int:
            # joblib keeps the work of a single worker for itself
            return max(2, self.n_workers or super().effective_n_jobs(n_jobs))

        def start_call(self) -> None:
            super().start_call()
            self.call_data_futures = None
            self.client.loop.add_callback(self._watch)

        def stop_call(self) -> None:
            self.call_data_futures = {}
            super().stop_call()

    return Backend(**options)
