"""Sweeps as jobs of a Slurm cluster, submitted by dask-jobqueue: `slurm://PARTITION:N`, at most N at once per notebook.

`slurm://gpu:8?timeout_min=240&gpus_per_node=1` says what a job may use: `timeout_min` (minutes; 60 by default),
`mem_gb` (what the cluster gives), `cpus_per_task` (1), `gpus_per_node` (none). All else that a cluster asks for reaches
it by sbatch's own variables, such as SBATCH_ACCOUNT, or by dask-jobqueue's settings (`jobqueue.slurm` in
`~/.config/dask`), such as the network's `interface`. `slurm://local:2` needs no cluster: Dask workers of this machine,
to try it, without a limit to memory. No partition can therefore be called `local`.

A job is a worker of a Dask scheduler in the notebook's kernel, which all nodes must be able to reach. Jobs run the
Python that submits them, in its environment. They are submitted when there is work and given back after a minute
without any; one that dies is replaced, and others take over its tasks. Where the kernel dies they end by themselves.
Their logs lie in `.slurm` of the run's folder, which all nodes must see.
"""

import math
import shlex
import shutil
import sys
from dataclasses import dataclass, field
from typing import Any

from labutils.core.extras import import_optional
from labutils.core.options import suggest
from labutils.core.paths import run_folder
from labutils.runner.engines.dask import import_distributed, use_client

PLACE = r"[^\s:/?]+:[1-9]\d*(?:\?\S*)?"
LOCAL = "local"
OPTIONS = {"timeout_min": int, "mem_gb": float, "cpus_per_task": int, "gpus_per_node": int}
DEFAULTS = {"timeout_min": 60, "cpus_per_task": 1}
COMMANDS = ("sbatch", "scancel")  # what dask-jobqueue calls
# Dask takes an unknown task to be short, and would ask for one job where tasks of minutes wait for eight.
ADAPT = {"interval": "2s", "wait_count": 30, "target_duration": "0.1s"}


@dataclass(frozen=True)
class Partition:
    """Where jobs go, how many at once, and what each may use."""

    name: str
    n_jobs: int
    options: dict[str, int | float] = field(default_factory=lambda: dict(DEFAULTS))


def parse_partition(place: str) -> Partition:
    """Read "PARTITION:N", with options or without.

    >>> parse_partition("gpu:8?timeout_min=240").n_jobs
    8

    Raises:
        ValueError: an unknown option, or one without a sensible value.
    """
    address, _, query = place.partition("?")
    name, n_jobs = address.split(":")
    options = dict(DEFAULTS)
    for part in filter(None, query.split("&")):
        key, _, text = part.partition("=")
        if key not in OPTIONS:
            hint = suggest(key, OPTIONS)
            raise ValueError(f"Jobs of Slurm have no option {key!r} here.{hint} Known: {', '.join(OPTIONS)}.")
        options[key] = _positive(key, text)
    return Partition(name, int(n_jobs), options)


def check_partition(partition: Partition) -> str:
    """Make sure that jobs can be submitted from here; returns a description.

    Raises:
        LookupError: Dask, dask-jobqueue or a command of Slurm's is missing.
    """
    import_distributed()
    if partition.name == LOCAL:
        return f"{partition.n_jobs} Dask workers of this machine"
    _import_jobqueue()
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
    distributed, refusals = import_distributed(), []
    cluster = _local_cluster(partition) if partition.name == LOCAL else make_cluster(partition, refusals)
    use_client(distributed.Client(cluster), n_workers=partition.n_jobs, refusals=refusals)


def make_cluster(partition: Partition, refusals: list[Exception]) -> Any:
    """dask-jobqueue's cluster, which submits jobs as there is work; what sbatch refuses is added to `refusals`."""
    import dask

    def configured(name: str, default: Any) -> Any:
        return dask.config.get(f"jobqueue.slurm.{name}", None) or default

    distributed = import_distributed()
    slurm, cpus = _import_jobqueue().slurm, partition.options["cpus_per_task"]
    memory, gpus = partition.options.get("mem_gb"), partition.options.get("gpus_per_node")

    class Job(slurm.SLURMJob):
        async def start(self) -> None:
            try:
                await super().start()
            except (RuntimeError, ValueError) as error:
                # Raised here it would only be logged: Dask would wait for ever, and fail again when it closes.
                refusals.append(RuntimeError(f"Slurm takes no job for the partition {partition.name!r}: {error}"))
                self.status = distributed.Status.running

    cluster = slurm.SLURMCluster(
        job_cls=Job,
        queue=partition.name,
        job_name="labutils",
        walltime=str(partition.options["timeout_min"]),
        cores=1,  # a task at a time; its threads are torch's
        processes=1,
        job_cpu=cpus,
        memory="0",  # Dask sets no limit of its own
        job_mem="0" if memory is None else f"{math.ceil(memory * 1024)}M",
        job_directives_skip=[*configured("job-directives-skip", []), *(["--mem="] if memory is None else [])],
        job_extra_directives=[
            *configured("job-extra-directives", []),
            *([] if gpus is None else [f"--gpus-per-node={gpus}"]),
        ],
        # This kernel's number of threads is that of its own machine.
        python=shlex.join(["env", f"OMP_NUM_THREADS={cpus}", sys.executable]),
        log_directory=str((run_folder() / ".slurm").resolve()),
        scheduler_options={"dashboard": False} | configured("scheduler-options", {}),
    )
    cluster.adapt(minimum_jobs=0, maximum_jobs=partition.n_jobs, **ADAPT)
    return cluster


def _local_cluster(partition: Partition) -> Any:
    return import_distributed().LocalCluster(
        n_workers=partition.n_jobs, threads_per_worker=1, memory_limit=0, dashboard_address=None,
        env={"OMP_NUM_THREADS": str(partition.options["cpus_per_task"])},
    )  # fmt: skip


def _positive(key: str, text: str) -> int | float:
    try:
        value = OPTIONS[key](text)
    except ValueError:
        value = 0
    if not 0 < value < math.inf:
        kind = "a whole number" if OPTIONS[key] is int else "a number"
        raise ValueError(f"{key} of a Slurm engine must be {kind} above 0, not {text!r}.")
    return value


def _import_jobqueue() -> Any:
    return import_optional("dask_jobqueue", purpose="An engine slurm://…", extra="slurm")
