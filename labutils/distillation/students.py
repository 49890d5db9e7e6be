"""Students made from a teacher: some of its blocks, or a narrower network of the same family."""

import copy
from collections.abc import Sequence

import torch
from torch import nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel

from labutils.models.structure import find_blocks

WIDTHS = ("hidden_size", "word_embed_proj_dim")
INNER_WIDTHS = ("intermediate_size", "ffn_dim", "n_inner")


def cut_student(model: PreTrainedModel, blocks: Sequence[int]) -> PreTrainedModel:
    """A copy of a model with some of its blocks, in their order, and everything else.

    >>> student = cut_student(model, [2, 5])  # the blocks 2 and 5 of the teacher

    Raises:
        ValueError: no block, or one that the model does not have.
        LookupError: the model's blocks cannot be found.
    """
    name, stack = find_blocks(model)
    if not blocks or not set(blocks) <= set(range(len(stack))):
        raise ValueError(f"blocks={list(blocks)} must name at least one of the blocks 0 to {len(stack) - 1}")
    student = copy.deepcopy(model)
    kept = nn.ModuleList(student.get_submodule(name)[block] for block in sorted(set(blocks)))
    for number, block in enumerate(kept):
        for module in block.modules():
            if hasattr(module, "layer_idx"):  # the position of its keys and values in a cache
                module.layer_idx = number
    parent, _, leaf = name.rpartition(".")
    setattr(student.get_submodule(parent), leaf, kept)
    config = student.config
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[block] for block in sorted(set(blocks))]
    config.num_hidden_layers = len(kept)
    return student


def narrow_student(model: PreTrainedModel, *, n_blocks: int, width: int, seed: int = 0) -> PreTrainedModel:
    """A narrower network of a model's family, without a language-model head, its weights drawn from `seed`.

    >>> student = narrow_student(model, n_blocks=2, width=48)

    Only the word embeddings come from the model: their principal components (the leading `width` of a singular value
    decomposition), scaled to the size that the family's own initialisation gives them. Heads keep their width, and
    the inner width of the MLPs its ratio to the model's.

    Raises:
        ValueError: a width that is no multiple of the model's head width, or larger than the model; no block.
    """
    config = model.config
    head_width = config.hidden_size // config.num_attention_heads
    if n_blocks < 1 or not 0 < width <= config.hidden_size or width % head_width:
        raise ValueError(
            f"n_blocks={n_blocks} must be at least 1, and width={width} a multiple of the head width {head_width}, up "
            f"to {config.hidden_size}"
        )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        student = AutoModel.from_config(
            _narrow(config, n_blocks, width, width // head_width), dtype=torch.float32,
            attn_implementation=config._attn_implementation,
        )  # fmt: skip
    table, source = student.get_input_embeddings().weight, model.get_input_embeddings().weight
    with torch.no_grad():
        left, size, _ = torch.linalg.svd(source.float().cpu(), full_matrices=False)
        components = left[:, :width] * size[:width]
        table.copy_(components * (table.std() / components.std()))
    return student.to(source.device).eval()


def _narrow(config: PreTrainedConfig, n_blocks: int, width: int, heads: int) -> PreTrainedConfig:
    """The configuration with another width, and everything in proportion to it."""
    narrow = copy.deepcopy(config)
    for name in INNER_WIDTHS:
        if getattr(config, name, None):
            setattr(narrow, name, getattr(config, name) * width // config.hidden_size)
    groups = getattr(config, "num_key_value_heads", None)
    for name in WIDTHS:
        if hasattr(config, name):
            setattr(narrow, name, width)
    narrow.num_attention_heads, narrow.num_hidden_layers = heads, n_blocks
    if groups:
        narrow.num_key_value_heads = max(1, heads * groups // config.num_attention_heads)
    if getattr(config, "layer_types", None):
        narrow.layer_types = config.layer_types[:n_blocks]
    narrow.architectures = None
    return narrow
