"""Figures and tables for notebooks, in one style and one palette.

>>> lab.plots.set_style()
>>> lab.plots.loss_curves(rows, title="What each allocation costs")

Every function takes tidy rows and returns the Figure, with intervals wherever something was repeated. The same method
has the same colour everywhere, and so has the same allocation. Imports the rooms before it: `pruning` for its report,
`stats` for intervals, `data` for short names. A figure of one study belongs into that study's room; what
several of them draw belongs here.
"""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "figures": [
            "PALETTE",
            "ALLOCATION_PALETTE",
            "colour_of",
            "symlog",
            "set_style",
            "loss_curves",
            "difference_curves",
            "layer_errors",
            "block_sparsity_bars",
            "value_grid",
            "short_source",
        ],
        "ledger_forest": ["effect_forest", "absent_effects"],
        "alt_text": ["describe_figure", "show_alt_text"],
        "tables": ["show"],
    },
)
