"""Figures and tables for notebooks, in one style and one palette."""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "figures": [
            "PALETTE",
            "set_style",
            "loss_curves",
            "difference_curves",
            "layer_errors",
            "block_sparsity_bars",
            "effect_forest",
            "value_grid",
            "short_source",
        ],
        "tables": ["show"],
    },
)
