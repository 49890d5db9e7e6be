"""Models: loading them, and what they are made of.

`loading` turns a source into a model and its tokenizer; `structure` finds blocks, prunable layers and the kind of head
without looking at a model's name; `modes` puts a model into evaluation mode and back; `experts` reads fused experts;
`positions` tells how many tokens a model takes.

Imports `core`. A new place that models come from belongs into `loading`, a new kind of layer into `structure`.
"""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "loading": ["load_model", "list_lab_models", "model_name"],
        "structure": ["find_blocks", "is_causal", "prunable_layers", "weight_matrix"],
    },
)
