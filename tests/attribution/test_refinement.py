"""The path is refined where it bends, until the sums hold: on functions whose integrals are known."""

from weakref import WeakSet

import pytest
import torch
from torch import nn

from labutils.attribution import refinement
from labutils.attribution.integration import KEPT, Batch
from labutils.attribution.refinement import FIRST_POINTS, Point, refined_conductance


class Bend(nn.Module):
    """Two units of one token: a sigmoid as steep as asked for, and a square; F is cubic in the first."""

    def __init__(self, steepness: float) -> None:
        super().__init__()
        self.units, self.steepness, self.rows = nn.Identity(), steepness, 0

    def forward(self, embeddings: torch.Tensor, *fixed: torch.Tensor) -> torch.Tensor:
        self.rows += len(embeddings)
        step = torch.sigmoid(self.steepness * (embeddings[..., 0] - 0.3))
        found = self.units(torch.stack([step, embeddings[..., 1] ** 2], dim=-1))
        return (found[..., 0] ** 3 + 3 * found[..., 1]).sum(1)


def straight_batch(n_rows: int = 1, rows_at_once: int = 50, points_at_once: int = 1000) -> Batch:
    """One token per row, from (0, 0) to (1, 1)."""
    ids = torch.zeros(n_rows, 1, dtype=torch.long)
    text = torch.ones(n_rows, 1, 2, dtype=torch.float64)
    fixed = (ids, ids + 1, ids.bool(), ids.bool())
    return Batch(list(range(n_rows)), text, 0 * text, *fixed, rows_at_once, points_at_once)


def total(bend: Bend, tolerance: float, **options):
    batch = straight_batch(**options)
    return refined_conductance(
        bend, batch, [(bend.units, "output")], checked=[0], tolerance=tolerance, n_points=4000
    )  # fmt: skip


@pytest.mark.parametrize("steepness", [1.0, 30.0, 1000.0, 100000.0])
@pytest.mark.parametrize("tolerance", [0.02, 1e-3, 1e-5])
def test_each_unit_gets_its_own_integral(steepness, tolerance):
    """∫ ∂F/∂h dh of a unit that F sees alone is the change of its own term, however steep the unit is."""
    (path,) = total(Bend(steepness), tolerance)
    first, last = (torch.sigmoid(torch.tensor(steepness * x, dtype=torch.float64)) ** 3 for x in (-0.3, 0.7))
    wanted = torch.stack([last - first, torch.tensor(3.0)])
    assert path.change == pytest.approx(float(wanted.sum()))
    assert float(path.totals[0].sum() - wanted.sum()) == pytest.approx(0, abs=path.error + 1e-9)
    assert path.error <= path.allowed == tolerance * abs(path.change)
    assert path.completeness == pytest.approx(path.error / path.change)
    torch.testing.assert_close(path.totals[0], wanted.double(), rtol=0, atol=path.allowed)


def test_points_go_where_the_path_bends():
    smooth, steep = (Bend(steepness) for steepness in (1.0, 100000.0))
    (easy,), (hard,) = total(smooth, 0.01), total(steep, 0.01)
    assert easy.points == smooth.rows == FIRST_POINTS
    assert hard.points == steep.rows < 120  # evenly spread, 100 000 would be needed


def test_rows_do_not_mix_however_many_run_together():
    for rows_at_once in (1, 2, 7, 1000):
        bend = Bend(1000.0)
        found = total(bend, 1e-3, n_rows=3, rows_at_once=rows_at_once)
        assert sum(path.points for path in found) == bend.rows
        for path in found:
            assert path.error <= path.allowed
            torch.testing.assert_close(path.totals[0], torch.tensor([1.0, 3.0]).double(), rtol=0, atol=path.allowed)


class Wave(nn.Module):
    """Two units of one token, of which one bends all along the path."""

    def __init__(self) -> None:
        super().__init__()
        self.units, self.calls = nn.Identity(), 0

    def forward(self, embeddings: torch.Tensor, *fixed: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        found = self.units(torch.stack([torch.sin(190 * embeddings[..., 0]), embeddings[..., 1]], dim=-1))
        return (found[..., 0] ** 4 + found[..., 1]).sum(1)


@pytest.mark.parametrize("n_rows", [1, 3])
def test_no_more_points_are_held_than_fit(n_rows, monkeypatch):
    """A path that bends everywhere has every part halved; how many are halved together must not fill the memory."""
    alive, most = WeakSet(), []

    class Counted(Point):
        def __init__(self, *given: object) -> None:
            super().__init__(*given)
            alive.add(self)
            most.append(len(alive))

    monkeypatch.setattr(refinement, "Point", Counted)
    wave, allowed = Wave(), n_rows * KEPT
    batch = straight_batch(n_rows, rows_at_once=1000, points_at_once=allowed)
    sums = refined_conductance(wave, batch, [(wave.units, "output")], checked=[0], tolerance=0.02, n_points=4000)
    assert min(path.points for path in sums) > 250 and max(most) <= allowed + 12


def test_where_more_points_fit_fewer_calls_find_them():
    calls = []
    for points_at_once in (KEPT, 10 * KEPT):
        wave, batch = Wave(), straight_batch(rows_at_once=1000, points_at_once=points_at_once)
        refined_conductance(wave, batch, [(wave.units, "output")], checked=[0], tolerance=0.02, n_points=4000)
        calls.append(wave.calls)
    assert calls[1] < calls[0] / 4


def test_too_few_points_are_told():
    bend = Bend(100000.0)
    batch = straight_batch()
    (path,) = refined_conductance(
        bend, batch, [(bend.units, "output")], checked=[0], tolerance=1e-4, n_points=21
    )  # fmt: skip
    assert path.points == bend.rows == 21 and path.error > path.allowed


def test_what_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="log p of passage 0 is nan at 0 of its path"):
        total(Bend(float("nan")), 0.01)
