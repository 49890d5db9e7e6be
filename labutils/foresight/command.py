"""The forecast of a run on the command line: asked for in a process of its own, then written."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import joblib

from labutils.core import paths
from labutils.foresight.outlooks import STEMS, Outlook, write_outlooks
from labutils.runner.planning import Study
from labutils.runner.records import find_changes, shared_inputs, study_inputs


def tell_run(
    studies: Sequence[Study], run: Path, *, jobs: int = 1, resume: bool = False, always: bool = False
) -> list[str]:
    """The lines that tell what notebooks will take; none where it is too little to be worth the wait.

    >>> tell_run(plan_studies([], profile="lab", overrides={}, folder=paths.NOTEBOOKS)[0], Path("results/lab"))

    Of the lab's own small models nothing is worked out unless it is asked for: loading what a forecast needs would take
    longer than many of their notebooks. A forecast that cannot be made says so, and raises nothing.

    Args:
        jobs: notebooks that run at a time.
        resume: leave out what is complete in the run's folder already.
        always: work out and tell the short ones too.
    """
    ordered = sorted(studies, key=lambda study: study.last)  # as they run
    ahead = _left_to_compute(ordered, run) if resume else ordered
    foreseen = [study for study in ahead if study.stem in STEMS]
    if not always and not any(_names_large_model(study.parameters) for study in foreseen):
        return []
    if not foreseen:
        return [f"forecast: there is none of {', '.join(study.stem for study in ahead) or 'what is complete already'}"]
    try:
        outlooks = _ask([(study.stem, study.parameters) for study in ahead], max(1, joblib.cpu_count() // jobs))
    except (OSError, RuntimeError) as error:
        return [f"forecast: none; {error}"]
    free, temporary = (shutil.disk_usage(_existing(path)).free for path in (run, Path(tempfile.gettempdir())))
    return write_outlooks(outlooks, jobs=jobs, free_disk=free, free_temporary=temporary, always=always)


def _left_to_compute(studies: Sequence[Study], run: Path) -> list[Study]:
    shared = shared_inputs()
    return [study for study in studies if find_changes(run, study.stem, study_inputs(study, shared, run))]


def _ask(studies: Sequence[tuple[str, Mapping[str, Any]]], threads: int) -> list[Outlook]:
    """The outlooks, from a process of its own that has the threads of a kernel.

    Raises:
        RuntimeError: the process failed; its last word is told.
    """
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
    inherited = [environment["PYTHONPATH"]] if environment.get("PYTHONPATH") else []
    environment["PYTHONPATH"] = os.pathsep.join([str(paths.REPOSITORY), *inherited])
    done = subprocess.run(
        [sys.executable, "-m", "labutils.foresight"], input=json.dumps(studies), env=environment, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise RuntimeError(f"its process ended with status {done.returncode}: {said[-1] if said else 'no word'}")
    return [Outlook(**each) for each in json.loads(done.stdout.splitlines()[-1])]


def _names_large_model(parameters: Mapping[str, Any]) -> bool:
    """Whether a model is named that is not one of the lab's own small ones."""
    lists = [parameters.get(name) or [] for name in ("models", "mixtures")]
    named = [parameters.get("model"), parameters.get("second_model"), *sum(lists, [])]
    return any(not (paths.MODELS / name).is_dir() for name in named if isinstance(name, str))


def _existing(path: Path) -> Path:
    """The folder itself, or the nearest above it that is there."""
    return next(each for each in (path, *path.parents) if each.is_dir())
