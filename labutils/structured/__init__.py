"""Structured pruning: smaller models of the same class, which transformers loads without this package.

`removal` names what goes, `anatomy` finds the parts of a block, `surgery` makes the smaller model (`configuration`,
`slices`, `checks`) and proves it against the dense one with the same units switched off (`masking`). `dropping` drops
blocks and sublayers by a way of choosing in `depth`, by `similarity` or by a `search` along `paths` of the model;
`collapse` folds blocks into one.

Imports `core`, `models`, `pruning`, `evaluation` and `checkpoints`. A new way to choose blocks is a function under
`register_depth`.
"""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "collapse": ["collapse_blocks"],
        "depth": ["register_depth"],
        "dropping": ["drop_blocks", "drop_sublayers"],
        "masking": ["masked"],
        "removal": ["Removal"],
        "report": ["ShrinkReport"],
        "similarity": ["angular_distances", "read_profile"],
        "surgery": ["carve", "plan_surgery"],
    },
)
