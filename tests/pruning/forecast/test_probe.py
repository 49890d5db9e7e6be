"""The forecast's probe of pruning: what grows with the columns and what with the weights, by a planted clock."""

import inspect
from types import SimpleNamespace

import pytest
import torch

from labutils.pruning.forecast import probe
from labutils.pruning.matrices import SparseGPT


def test_a_planted_clock_is_told_apart_into_columns_and_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real clock, disturbed by other work, may leave nothing for one of the two."""
    rows, plain = [], probe.prune_matrix

    def seconds(work, device) -> float:
        work()
        return probe.WIDTH * (2e-6 + 1e-9 * rows[-1])

    monkeypatch.setattr(
        probe, "prune_matrix", lambda weight, *a, **k: rows.append(len(weight)) or plain(weight, *a, **k)
    )
    monkeypatch.setattr(probe, "measure_speed", lambda device, dtype: SimpleNamespace(product=0.0))
    monkeypatch.setattr(probe, "_seconds", seconds)
    pruning = inspect.unwrap(probe.measure_pruning)(SparseGPT(), torch.device("cpu"), None)
    assert len(set(rows)) == 2
    assert (pruning.column, pruning.weight) == pytest.approx((2e-6, 1e-9))
