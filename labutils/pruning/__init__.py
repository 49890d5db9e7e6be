"""Pruning: importance × allocation × pattern × reconstruction, on calibration statistics.

`prune` goes through `requests` (what was asked), `calibration` and `statistics` (what the blocks read), `allocations`
and `allocation_rules` (how many weights each matrix drops), `methods` and `matrices` (which method prunes them),
`importance`, `patterns` and `reconstructions` (which weights go, and what makes up for them), and `report`. `selection`
is `optiprune-auto`, `measured` its allocation, `evopress` the one that is searched by `level_switching` on what
`level_reading` reads, `grid` a whole sweep, `forecast` the cost of a pruning before it runs.

Imports `core` and `models`. Scores, mask searches, reconstructions, methods and allocations are objects in registries:
a new one, in any file, needs `register_score`, `register_search`, `register_reconstruction`, `register_method` or
`register_allocation`, and nothing here compares their names.
"""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "allocation_rules": ["project_to_budget"],
        "allocations": ["Allocation", "register_allocation"],
        "best_masks": ["best_mask", "errors_on_masks"],
        "grid": ["prune_grid"],
        "inputs": ["CalibrationTexts"],
        "matrices": ["MatrixMethod"],
        "methods": ["Method", "register_method"],
        "pipeline": ["prune"],
        "reconstructions": [
            "MaskedLayer",
            "MaskSearch",
            "Reconstruction",
            "register_reconstruction",
            "register_search",
        ],
        "report": ["PruneReport"],
        "requests": ["list_methods", "matrix_method", "register_score", "temporary_registrations"],
        "spread": ["spread_sparsity"],
    },
    rooms=["forecast"],
)
