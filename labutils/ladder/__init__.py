"""Seeds and sizes: which findings hold when the lab's models are trained again, or smaller and larger.

A rung is a recipe of `lab_models` trained from one seed. `run_ladder` trains the rungs that are not there, prunes each
in the ways that C01 to C05, C16 and C17 compare, and keeps the losses; `effects` turns these into one number per claim
and rung, and over the seeds of a recipe.

Imports `core`, `stats`, `claims`, `runner`, `models`, `plots`, `sweeps` and `lab_models`. A new claim belongs into
`effects`, a new size into the recipes of `lab_models`. `python -m labutils.ladder` does the study of notebook 15.
"""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "rungs": ["Rung", "read_rungs"],
        "plan": ["LadderPlan"],
        "study": ["LadderRows", "run_ladder"],
        "effects": ["rung_effects", "effects_over_seeds", "shipped_beside_seeds", "size_trends", "trained"],
        "figures": ["effects_by_size"],
    },
)
