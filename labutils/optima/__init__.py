"""How near methods come to the best that any pruning of a layer can do (notebook 12).

`layer_errors` prunes every matrix of a dense model by every method and splits each error into what the mask and what
the reconstruction leaves to be desired; `small_optima` does so where the best of all masks, or a lower bound of its
error, is known; `shares` tells how much of the loss of whole models hangs on the mask and on the reconstruction;
`gradient_shares` how much of a score is gradient; `movement` what one method does beyond another; `mask_differences`
how far masks differ; `comparisons` holds these errors against losses; `figures` draws them.

Imports `core`, `stats`, `models`, `pruning` and `plots`. A new measure of a pruned matrix is a
column of `layer_errors`.
"""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "layer_errors": ["layer_errors", "ratios_to_best", "ratio_table"],
        "small_optima": ["small_optima"],
        "shares": ["mean_shares", "named_shares", "two_way_shares"],
        "gradient_shares": ["gradient_shares"],
        "mask_differences": ["mask_differences"],
        "movement": ["weight_movement"],
        "comparisons": [
            "dispersion_gain",
            "loss_and_error",
            "order_agreement",
            "raised_errors",
            "size_table",
            "taken_back",
        ],
    },
    rooms=["figures"],
)
