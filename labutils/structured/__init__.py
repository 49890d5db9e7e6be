"""Structured pruning: smaller models of the same class, which transformers loads without this package.

`removal` names what goes, `anatomy` finds the parts of a block, `surgery` makes the smaller model (`configuration`,
`slices`, `checks`) and proves it against the dense one with the same units switched off (`masking`).

Imports `core`, `models`, `pruning`, `evaluation` and `checkpoints`.
"""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "masking": ["masked"],
        "removal": ["Removal"],
        "surgery": ["carve", "plan_surgery"],
    },
)
