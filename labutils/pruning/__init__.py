"""Pruning: importance × allocation × pattern × reconstruction, on calibration statistics."""

from labutils.pruning.importance import register_score
from labutils.pruning.pipeline import PruneReport, prune

__all__ = ["PruneReport", "prune", "register_score"]
