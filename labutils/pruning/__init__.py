"""Pruning: importance × allocation × pattern × reconstruction, on calibration statistics."""

from labutils.pruning.grid import prune_grid
from labutils.pruning.importance import register_score
from labutils.pruning.pipeline import PruneReport, prune

__all__ = ["PruneReport", "prune", "prune_grid", "register_score"]
