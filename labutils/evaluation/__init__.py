"""What a model scores: losses, choices, similarities."""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "losses": ["sequence_losses", "perplexity", "load_evaluation", "item_losses"],
        "choices": ["score_task"],
        "similarity": ["score_similarity"],
        "harness": ["evaluate_outside", "write_harness_task"],
    },
)
