"""Pruning: importance × allocation × pattern × reconstruction, on calibration statistics."""

from labutils.pruning.grid import prune_grid
from labutils.pruning.importance import register_score
from labutils.pruning.pipeline import prune
from labutils.pruning.report import PruneReport

__all__ = ["PruneReport", "prune", "prune_grid", "register_score"]
