"""Pruning: importance × allocation × pattern × reconstruction, on calibration statistics."""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "grid": ["prune_grid"],
        "importance": ["register_score"],
        "pipeline": ["prune"],
        "report": ["PruneReport"],
    },
    rooms=["forecast"],
)
