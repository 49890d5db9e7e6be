"""Where sweeps run: in the kernel itself, in processes of this machine, or on a Dask cluster.

All sweeps go through joblib, so an engine is a setting of joblib's, made once where a notebook's kernel starts:

- `processes:4`: four processes of this machine;
- `dask://host:port`: the workers of the Dask scheduler at that address. They need the same version of labutils and the
  same data; one thread each (`dask worker host:port --nthreads 1`) suits torch. A worker that dies takes nothing along:
  its tasks go to the others.
"""

import asyncio
import difflib
import os
import re
import sys
from types import ModuleType

import joblib

from labutils import __version__
from labutils.optional import import_optional

VARIABLE = "LABUTILS_ENGINE"
SECONDS_TO_CONNECT = 10
SECONDS_FOR_WORKERS = 60  # a cluster may start its workers when there is work
FORMS = {"processes": "processes:N", "dask": "dask://host:port"}


def check_engine(engine: str) -> str:
    """Make sure that an engine can be used from here; returns a description.

    Raises:
        ValueError: no engine is written like that, or workers have another version of labutils.
        LookupError: the scheduler does not answer, a worker cannot import labutils, or Dask is not installed.
    """
    kind, place = parse_engine(engine)
    if kind == "processes":
        return f"{place} processes of this machine"
    client = _connect(place)
    try:
        versions = client.run(worker_version, on_error="return")
    finally:
        client.close()
    for worker, version in versions.items():
        if version != __version__:
            problem = f"cannot import labutils ({version})" if isinstance(version, Exception) else f"has {version}"
            raise ValueError(f"The Dask worker {worker} {problem}; install labutils {__version__} for all workers.")
    return f"the Dask cluster at {place}, {len(versions)} workers"


def parse_engine(engine: str) -> tuple[str, str]:
    """Kind and place of an engine: ("dask", "tcp://host:port") or ("processes", "4").

    Raises:
        ValueError: as for `check_engine`.
    """
    if found := re.fullmatch(r"dask://([^\s/]+:\d+)", engine):
        return "dask", f"tcp://{found[1]}"
    if found := re.fullmatch(r"processes:([1-9]\d*)", engine):
        return "processes", found[1]
    nearest = difflib.get_close_matches(re.split(r"\W", engine)[0], FORMS, n=1)
    hint = f" Did you mean {FORMS[nearest[0]]!r}?" if nearest else ""
    raise ValueError(f"There is no engine {engine!r}.{hint} Known: {', '.join(FORMS.values())}.")


def use_engine(engine: str) -> None:
    """From now on let all of joblib's work in this thread go to an engine."""
    kind, place = parse_engine(engine)
    if kind == "processes":
        joblib.parallel_config("loky", n_jobs=int(place))
        return
    _connect(place)  # joblib takes the process's client
    joblib.register_parallel_backend("dask", _dask_backend)
    joblib.parallel_config("dask", wait_for_workers_timeout=SECONDS_FOR_WORKERS)


def start_kernel() -> None:
    """In a kernel that begins: use the engine that the environment names, or end with a word on why not."""
    try:
        use_engine(os.environ[VARIABLE])
    except (ValueError, LookupError) as error:
        print(f"labutils: {error}", file=sys.__stderr__, flush=True)
        os._exit(2)


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
