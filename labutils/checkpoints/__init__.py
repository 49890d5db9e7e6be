"""Checkpoints of pruned models: saving, loading, a compact form, pruning from disk to disk, LoRA on top."""

from labutils.checkpoints.saving import load_pruned, save_pruned
from labutils.checkpoints.streaming import prune_checkpoint

__all__ = ["load_pruned", "prune_checkpoint", "save_pruned"]
