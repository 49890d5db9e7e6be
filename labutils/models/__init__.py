"""Models: loading them, and what they are made of."""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "loading": ["load_model", "list_lab_models"],
        "structure": ["find_blocks"],
    },
)
