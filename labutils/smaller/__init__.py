"""What smaller models are worth (notebooks 13 and 13b): ways of making them, their losses, answers and speed.

`arms` names the ways, `study` sweeps them over texts, draws and sizes, `timing` takes the time of what is left,
`yardsticks` measures how much each block matters in four ways, `gradient_depth` whether gradients shrink with depth,
`reading` makes numbers of rows, `figures` draws; `keeping` keeps what is finished in the folder of the run. For 13b:
`mixtures` drops experts before weights, `routes` answers along other paths of blocks, `dropped_tasks` asks which tasks
survive dropped blocks, `path_figures` draws.

Imports the rooms before `sweeps`. A new way of making a model smaller is an entry of `arms`.
"""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "arms": ["ARMS", "make_smaller"],
        "dropped_tasks": ["lost_beyond_chance", "others_minus_alike", "scores_after_dropping"],
        "figures": ["added_loss_figure", "gradient_figure", "profile_figure", "timing_figure"],
        "gradient_depth": ["gradient_norms", "shrinking_gradients"],
        "mixtures": ["count_experts", "experts_first_gains", "sweep_mixture"],
        "path_figures": ["budget_figure", "experts_first_figure", "lost_figure", "shares_by_budget"],
        "reading": [
            "able_models",
            "alike_cells",
            "angle_slopes",
            "at_most_dropped",
            "largest_harmless_share",
            "paired_gains",
            "relative_losses",
            "size_table",
            "width_over_depth",
        ],
        "routes": ["answers_along_paths", "best_single_path", "found_paths"],
        "study": ["answers_after_dropping", "block_angles", "neighbour_cosines", "sweep_smaller"],
        "timing": ["relative_times", "time_models"],
        "yardsticks": ["deep_minus_shallow", "importance_profiles", "profile_correlations", "worst_blocks"],
    },
)
