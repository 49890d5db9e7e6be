"""Training steps, adapters and checkpoints that several studies share."""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "masked_lora": ["add_lora", "merge_lora", "tune_lora"],
    },
)
