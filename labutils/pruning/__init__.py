"""Pruning: importance × allocation × pattern × reconstruction, on calibration statistics."""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "allocation": ["project_to_budget"],
        "budgets": ["Allocation", "register_allocation"],
        "grid": ["prune_grid"],
        "importance": ["register_score"],
        "matrices": ["MatrixMethod"],
        "methods": ["Method", "matrix_method", "register_method"],
        "pipeline": ["prune"],
        "report": ["PruneReport"],
        "requests": ["list_methods", "temporary_registrations"],
    },
    rooms=["forecast"],
)
