"""What the tests of sweeps and of whole studies share: the smallest sizes, equality of rows, and a kill in between."""

from collections.abc import Callable
from dataclasses import fields

import pandas as pd
import pytest

from labutils.distillation import sweep as sweeps
from labutils.distillation.arms import DistillSetting
from labutils.distillation.sweep import DistillSweep

SETTING = DistillSetting(
    n_train=12, n_validation=12, n_test=14, width=8, rank=2, epochs=1, batch_size=8, ild_start=0, teacher_epochs=1,
    n_tuning=1,
)  # fmt: skip


def assert_same(first: DistillSweep, second: DistillSweep) -> None:
    """All rows are the same, but for the seconds that they took."""
    for field in fields(DistillSweep):
        frames = [getattr(found, field.name).drop(columns="seconds", errors="ignore") for found in (first, second)]
        pd.testing.assert_frame_equal(*frames, check_dtype=False, rtol=1e-6)


def kill_after(n_runs: int, work: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin the work and end it where its run `n_runs` + 1 would begin."""
    measure, left = sweeps.measure_run, iter(range(n_runs))

    def killed(*given: object) -> object:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return measure(*given)

    killed.__name__ = measure.__name__  # part of a run's key
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(sweeps, "measure_run", killed)
        work()
