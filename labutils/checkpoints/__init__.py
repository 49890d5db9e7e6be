"""Checkpoints of pruned models: saving, loading, a compact form, pruning from disk to disk, LoRA on top."""

from labutils.checkpoints.forms import compare_forms, fresh_folder, save_dense
from labutils.checkpoints.lora import add_lora, merge_lora, tune_lora
from labutils.checkpoints.saving import load_pruned, save_pruned
from labutils.checkpoints.streaming import prune_checkpoint

__all__ = [
    "add_lora",
    "compare_forms",
    "fresh_folder",
    "load_pruned",
    "merge_lora",
    "prune_checkpoint",
    "save_dense",
    "save_pruned",
    "tune_lora",
]
