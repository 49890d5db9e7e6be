"""Partitions of Slurm as an engine names them: how they are read, and submitit's executor for their jobs."""

import difflib
import math
import os
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from labutils.core.extras import import_optional
from labutils.core.paths import run_folder

PLACE = r"[^\s:/?]+:[1-9]\d*(?:\?\S*)?"
LOCAL = "local"
FOLDER_VARIABLE = "LABUTILS_SLURM_FOLDER"
OPTIONS = {"timeout_min": int, "mem_gb": float, "cpus_per_task": int, "gpus_per_node": int}
DEFAULTS = {"timeout_min": 60, "cpus_per_task": 1}


@dataclass(frozen=True)
class Partition:
    """Where jobs go, how many at once, and what each may use (by submitit's names)."""

    name: str
    n_jobs: int
    options: dict[str, int | float] = field(default_factory=lambda: dict(DEFAULTS))


def parse_partition(place: str) -> Partition:
    """Read "PARTITION:N", with options or without: "gpu:8?timeout_min=240&gpus_per_node=1".

    Raises:
        ValueError: an unknown option, or one without a sensible value.
    """
    address, _, query = place.partition("?")
    name, n_jobs = address.split(":")
    options = dict(DEFAULTS)
    for part in filter(None, query.split("&")):
        key, _, text = part.partition("=")
        if key not in OPTIONS:
            nearest = difflib.get_close_matches(key, OPTIONS, n=1)
            hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
            raise ValueError(f"Jobs of Slurm have no option {key!r} here.{hint} Known: {', '.join(OPTIONS)}.")
        options[key] = _positive(key, text)
    return Partition(name, int(n_jobs), options)


def _positive(key: str, text: str) -> int | float:
    try:
        value = OPTIONS[key](text)
    except ValueError:
        value = 0
    if not 0 < value < math.inf:
        kind = "a whole number" if OPTIONS[key] is int else "a number"
        raise ValueError(f"{key} of a Slurm engine must be {kind} above 0, not {text!r}.")
    return value


def job_folder() -> Path:
    """The folder that holds the files of jobs, one folder below it for each sweep."""
    return Path(os.environ.get(FOLDER_VARIABLE) or run_folder() / ".slurm").resolve()


def make_executor(partition: Partition, folder: Path) -> Any:
    """submitit's executor for jobs with their files in a folder.

    Raises:
        LookupError: submitit is not installed.
    """
    cluster = LOCAL if partition.name == LOCAL else "slurm"
    cpus = partition.options["cpus_per_task"]
    # This kernel's number of threads is that of its own machine. submitit wants a line of shell here.
    python = shlex.join(["env", f"OMP_NUM_THREADS={cpus}", sys.executable])
    given = {f"{cluster}_python": python, f"{cluster}_max_pickle_size_gb": math.inf}  # a model may be large
    executor = import_submitit().AutoExecutor(folder, cluster=cluster, **given)
    # srun takes the number of processors from its own arguments only, since Slurm 22.05.
    slurm = {"slurm_partition": partition.name, "slurm_srun_args": [f"--cpus-per-task={cpus}"]}
    executor.update_parameters(name="labutils", **partition.options, **slurm)
    return executor


def import_submitit() -> ModuleType:
    """`submitit`, which submits jobs to Slurm."""
    return import_optional("submitit", purpose="An engine slurm://…", extra="slurm")
