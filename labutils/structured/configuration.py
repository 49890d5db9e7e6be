"""The configuration of a smaller model: what transformers can say about its shapes."""

import copy
from typing import Any

from transformers import PreTrainedConfig

# The inner width of a feed-forward part, by the names that transformers' configurations give it.
WIDTHS = ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size", "hidden_dim", "d_ff", "ffn_embed_dim")
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")


def smaller_config(
    config: PreTrainedConfig,
    kept: list[int],
    n_blocks: int,
    *,
    width: int | None = None,
    groups: tuple[int, int, int] | None = None,
    experts: int | None = None,
    biases: tuple[str, ...] = (),
) -> PreTrainedConfig:
    """The configuration with fewer blocks, and other widths where they are given.

    Args:
        kept: blocks that stay, by their old numbers, of `n_blocks`.
        width: neurons of every feed-forward part.
        groups: key-value heads, query heads that read each of them, channels of a head.
        experts: in every mixture.
        biases: entries such as "mlp_bias" that are switched on.

    Raises:
        LookupError: the configuration has no entry for one of them.
    """
    if config.get_text_config() is not config:
        raise LookupError(
            f"{type(config).__name__} describes several parts of a model; give the language model inside it."
        )
    entries = {**copy.deepcopy(config.to_dict()), **_of_blocks(config, kept, n_blocks)}
    mapped = config.attribute_map
    if width is not None:
        entries[_entry(config, entries, WIDTHS, "the width of a feed-forward part")] = width
    if groups is not None:
        n_groups, n_queries, head_dim = groups
        entries[mapped.get("num_attention_heads", "num_attention_heads")] = n_groups * n_queries
        entries["head_dim"] = head_dim
        if "num_key_value_heads" in entries:
            entries["num_key_value_heads"] = n_groups
    if experts is not None:
        entries[_entry(config, entries, EXPERTS, "the number of experts")] = experts
    for name in biases:
        if name not in entries:
            raise LookupError(
                f"{type(config).__name__} has no {name}: what removed units put out on average cannot be added there. "
                'Ask for repair="none" or repair="least-squares".'
            )
        entries[name] = True
    return type(config).from_dict(entries)


def _of_blocks(config: PreTrainedConfig, kept: list[int], n_blocks: int) -> dict[str, Any]:
    """Entries that count blocks, or hold one value for each."""
    entries = {config.attribute_map.get("num_hidden_layers", "num_hidden_layers"): len(kept)}
    for name, value in config.to_dict().items():
        if isinstance(value, list) and len(value) == n_blocks and "layer" in name and name != "mlp_only_layers":
            entries[name] = [value[block] for block in kept]
    if getattr(config, "mlp_only_layers", None) is not None:  # blocks without experts, by their numbers
        step = getattr(config, "decoder_sparse_step", 1)
        plain = {block for block in range(n_blocks) if block in config.mlp_only_layers or (block + 1) % step}
        entries |= {
            "mlp_only_layers": [new for new, old in enumerate(kept) if old in plain],
            "decoder_sparse_step": 1,
        }
    return entries


def _entry(config: PreTrainedConfig, entries: dict[str, Any], names: tuple[str, ...], what: str) -> str:
    """The name under which a configuration stores something; one that it answers to by another is followed."""
    for name in names:
        stored = config.attribute_map.get(name, name)
        if stored in entries:
            return stored
    raise LookupError(f"{type(config).__name__} has no entry for {what} ({', '.join(names)}), so it cannot change.")
