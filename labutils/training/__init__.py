"""Training that several studies share: guarded steps, adapters, masked LoRA, checkpoints that survive a kill.

Imports `core` and `models`. Learning-rate schedules and optimizer groups belong into `steps`, ways to put adapters on a
model into `lora`; what a single study trains, and on what, stays in that study's room.
"""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "masked_lora": ["add_lora", "drop_lora", "merge_lora", "tune_lora"],
    },
)
