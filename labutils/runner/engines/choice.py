"""Read an engine's name, make sure that it can be used, and hand joblib's work to it."""

import os
import re
import sys

import joblib

from labutils.core.options import suggest
from labutils.runner.engines import dask, slurm
from labutils.runner.engines.slurm import PLACE, parse_partition

VARIABLE = "LABUTILS_ENGINE"
FORMS = {"processes": "processes:N", "dask": "dask://host:port", "slurm": "slurm://PARTITION:N"}


def check_engine(engine: str) -> str:
    """Make sure that an engine can be used from here; returns a description.

    Raises:
        ValueError: no engine is written like that, or workers have another version of labutils.
        LookupError: the scheduler does not answer, a worker cannot import labutils, or something is not installed:
            Dask, dask-jobqueue, or the commands of Slurm.

    >>> check_engine("processes:4")
    '4 processes of this machine'
    """
    kind, place = parse_engine(engine)
    if kind == "dask":
        return dask.check_cluster(place)
    if kind == "slurm":
        return slurm.check_partition(parse_partition(place))
    return f"{place} processes of this machine"


def parse_engine(engine: str) -> tuple[str, str]:
    """Kind and place of an engine: ("dask", "tcp://host:port"), ("slurm", "gpu:8?mem_gb=16") or ("processes", "4").

    Raises:
        ValueError: as for `check_engine`.
    """
    if found := re.fullmatch(r"dask://([^\s/]+:\d+)", engine):
        return "dask", f"tcp://{found[1]}"
    if found := re.fullmatch(rf"slurm://({PLACE})", engine):
        parse_partition(found[1])
        return "slurm", found[1]
    if found := re.fullmatch(r"processes:([1-9]\d*)", engine):
        return "processes", found[1]
    hint = suggest(re.split(r"\W", engine)[0], FORMS)
    raise ValueError(f"There is no engine {engine!r}.{hint} Known: {', '.join(FORMS.values())}.")


def use_engine(engine: str) -> None:
    """From now on let all of joblib's work in this thread go to an engine.

    use_engine("slurm://gpu:8?timeout_min=240")
    """
    kind, place = parse_engine(engine)
    if kind == "dask":
        dask.use_cluster(place)
    elif kind == "slurm":
        slurm.use_partition(parse_partition(place))
    else:
        joblib.parallel_config("loky", n_jobs=int(place))


def start_kernel() -> None:
    """In a kernel that begins: use the engine that the environment names, or end with a word on why not."""
    try:
        use_engine(os.environ[VARIABLE])
    except (ValueError, LookupError) as error:
        print(f"labutils: {error}", file=sys.__stderr__, flush=True)
        os._exit(2)
