"""Structured pruning: smaller models of the same class, which transformers loads without this package.

`removal` names what goes, `anatomy` finds the parts of a block, `surgery` makes the smaller model (`configuration`,
`slices`, `checks`) and proves it against the dense one with the same units switched off (`masking`). `dropping` drops
blocks and sublayers by a way of choosing in `depth`, by `similarity` or by a `search` along `paths` of the model;
`collapse` folds blocks into one. `shrinking` takes out neurons and groups of heads: `views` of the units,
`unit_scores`, `unit_allocation`, `repair`, and `gradients` where a score reads them. `perturbation` chooses units by a
`mask_regression` of losses, `evopress` blocks and widths by the output, `surgeon` by a `curvature` and the `kronecker`
formulas; `width` has what they share. `experts` drops experts by what they do to texts, `expert_clusters` chooses them
by how alike they are; `norm_places` tells pre-norm models from others. `foretelling` tells what any of these will
give.

Imports `core`, `models`, `pruning`, `evaluation` and `checkpoints`. A new way to choose blocks is a function under
`register_depth`, a new score of units one under `register_unit_score`.
"""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "collapse": ["collapse_blocks"],
        "depth": ["Choice", "register_depth"],
        "dropping": ["drop_blocks", "drop_sublayers"],
        "expert_clusters": ["cluster_experts"],
        "experts": ["drop_experts", "register_expert_score"],
        "foretelling": ["SmallerForecast", "forecast_smaller"],
        "masking": ["masked"],
        "norm_places": ["is_pre_norm"],
        "perturbation": ["shrink_by_losses"],
        "removal": ["Removal"],
        "report": ["ShrinkReport"],
        "similarity": ["angular_distances", "read_profile"],
        "shrinking": ["shrink"],
        "silencing": ["silence_blocks"],
        "surgeon": ["shrink_by_curvature"],
        "surgery": ["carve", "expressible_groups", "plan_surgery"],
        "unit_scores": ["register_unit_score"],
    },
)
