"""What a model scores: next-token losses, choices after a prompt, similarities of sentences.

`losses`, `choices`, `answers` and `similarity` read one measure each; `batching` forms padded batches within the
context, `readout` turns logits into log-likelihoods, and `choice_tokens` and `choice_reading` share the prompt of an
item among its choices; `harness` hands a model to lm-evaluation-harness.

Imports `core`, `world`, `models` and `data`. A new measure of a model is a file here that returns one row per item.
"""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "losses": ["sequence_losses", "perplexity", "load_evaluation", "item_losses"],
        "answers": ["generate_answers", "normalise_answer", "score_answers"],
        "choices": ["score_task"],
        "similarity": ["score_similarity"],
        "harness": ["evaluate_outside", "write_harness_task"],
    },
)
