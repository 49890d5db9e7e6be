"""Checkpoints of pruned models: saving, loading, a compact form, pruning from disk to disk."""

from labutils.checkpoints.forms import compare_forms, fresh_folder, save_dense
from labutils.checkpoints.saving import load_pruned, save_pruned
from labutils.checkpoints.streaming import prune_checkpoint

__all__ = [
    "compare_forms",
    "fresh_folder",
    "load_pruned",
    "prune_checkpoint",
    "save_dense",
    "save_pruned",
]
