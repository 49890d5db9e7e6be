"""What smaller models are worth (notebook 13): ways of making them at equal size, their losses, answers and speed.

`arms` names the ways, `study` sweeps them over texts, draws and sizes, `timing` takes the time of what is left,
`yardsticks` measures how much each block matters in four ways, `gradient_depth` whether gradients shrink with depth,
`reading` makes numbers of rows, `figures` draws; `keeping` keeps what is finished in the folder of the run.

Imports the rooms before `sweeps`. A new way of making a model smaller is an entry of `arms`.
"""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "arms": ["ARMS", "make_smaller"],
        "figures": ["added_loss_figure", "gradient_figure", "profile_figure", "timing_figure"],
        "gradient_depth": ["gradient_norms", "shrinking_gradients"],
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
        "study": ["answers_after_dropping", "block_angles", "neighbour_cosines", "sweep_smaller"],
        "timing": ["time_models"],
        "yardsticks": ["deep_minus_shallow", "importance_profiles", "profile_correlations"],
    },
)
