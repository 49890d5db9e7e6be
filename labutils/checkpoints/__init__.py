"""Checkpoints of pruned models: saving, loading, a compact form, and pruning from disk to disk.

`saving` writes what is `storable` in the `dense` or the `compact` form and reads it, `forms` compares them, `gguf`
writes GGUF files;
`streaming` prunes a folder into another with one block in memory, by a `walk` over a `streamed` model whose tensors lie
in `shards`, and notes in a `journal` how far it has come.

Imports `core`, `models` and `pruning`. A new form of a saved model is a file here with a reader and a writer.
"""

from labutils.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "forms": ["compare_forms", "fresh_folder", "save_dense"],
        "gguf": ["save_gguf"],
        "saving": ["load_pruned", "save_pruned"],
        "streaming": ["prune_checkpoint"],
    },
)
