"""Parallel tasks: processes give the same numbers as one, threads are refused before anything is done."""

from collections.abc import Callable
from pathlib import Path

import distributed
import joblib
import pytest
import torch

import labutils as lab
from labutils.adaptation.samples import Sample
from labutils.adaptation.study import run_study
from labutils.core.separate_tasks import separate_tasks
from labutils.distillation.sweep import distill_sweep
from labutils.runner.engines.dask import use_client

SIZES = lab.sweeps.SweepSizes(n_calibration=2, n_items=2, seq_len=16)
SWEEP = {"sparsities": [0.5], "n_draws": 2, "sizes": SIZES}


def sweep_losses() -> object:
    return lab.sweep("lab-llama", ["lab:review"], arms=["wanda"], **SWEEP)


def sweep_tasks() -> object:
    return lab.sweeps.task_sweep(
        "lab-llama", ["lab:qa/birthplaces"], calibrations=["lab:review"], methods=["wanda"], **SWEEP
    )


def adapt() -> object:
    task = lab.load_task("lab:topic/similarity", n_items=4)
    given = {"adaptations": ["full rate=1e-3 steps=1"], "finetunings": ["head"], "heldout": "lab:review"}
    return run_study("lab-llama", [Sample("a", ["One."])], task, **given)


def distill() -> object:
    return distill_sweep("lab-llama", ["lab:topic/stories"], arms=["kd"], n_seeds=2, learning_rates=[0.01])


@pytest.mark.parametrize("study", [sweep_losses, sweep_tasks, adapt, distill])
def test_threads_are_refused_before_anything_is_loaded(
    study: Callable[[], object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.nn.Module, "__call__", lambda *_: pytest.fail("a model was used"))
    with joblib.parallel_config("threading", n_jobs=2), pytest.raises(ValueError, match="use processes.*'loky'"):
        study()


def test_one_thread_alone_is_no_fault() -> None:
    with joblib.parallel_config("threading", n_jobs=1):
        assert list(separate_tasks()(joblib.delayed(abs)(-i) for i in range(3))) == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"threads_per_worker": 2, "n_workers": 1}, "has 2 threads"),
        ({"threads_per_worker": 1, "n_workers": 2, "processes": False}, "processes=True"),
    ],
)
def test_workers_of_dask_that_share_memory_are_refused(options: dict, says: str) -> None:
    cluster = distributed.LocalCluster(dashboard_address=None, **options)
    with cluster, distributed.Client(cluster) as client, joblib.parallel_config():
        use_client(client)
        with pytest.raises(ValueError, match=says):
            separate_tasks()
