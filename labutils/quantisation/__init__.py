"""Fewer bits per weight instead of fewer weights: rounding to nearest, and the block formats of GGUF files.

`rounding` rounds groups of weights, `block_formats` and `superblocks` give the values that GGUF's formats hold,
`quantise` does so to a model in place, `orders` combines it with pruning, and `accounting` counts the bits.

Imports `core`, `models` and `pruning`. A new format is a function from blocks of weights to the values it stores,
listed in `block_formats.FORMATS`.
"""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "quantise": ["quantise", "QuantisationReport", "list_kinds", "bits_of", "check_fits", "fitting_formats"],
        "rounding": ["round_to_nearest"],
        "block_formats": ["FORMATS", "round_blocks", "zero_table"],
        "accounting": ["bits_per_weight", "sparsity_at_bits", "rounding_bits"],
        "orders": ["ORDERS", "prune_and_quantise"],
    },
)
