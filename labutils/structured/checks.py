"""Removals that cannot be carried out, refused before anything is made."""

from collections.abc import Sequence

from torch import nn
from transformers import PreTrainedConfig

from labutils.structured.anatomy import Anatomy, out_layers
from labutils.structured.removal import PARTS, Removal, check_numbers


def check_removal(
    removal: Removal, blocks: nn.ModuleList, anatomies: Sequence[Anatomy], config: PreTrainedConfig
) -> None:
    """Refuse units that a model has not, or that leave a block without any.

    Raises:
        ValueError: a number that is not there, named twice, or the last of its kind; unequal numbers of experts.
        LookupError: a kind of unit that the block has not, or that labutils cannot tell.
    """
    check_numbers(removal.blocks, len(blocks), "block")
    for index, part in removal.sublayers:
        check_numbers([index], len(blocks), "block", may_be_all=True)
        if part not in PARTS:
            raise ValueError(f"there is no sublayer {part!r}; give one of {', '.join(PARTS)}.")
        out_layers(blocks[index], anatomies[index], part)
    for what, removed, attribute, count in (
        ("neuron", removal.neurons, "mlp", "width"),
        ("key-value group", removal.groups, "attention", "n_groups"),
        ("expert", removal.experts, "experts", "count"),
    ):
        for index, units in removed.items():
            check_numbers([index], len(blocks), "block", may_be_all=True)
            if not units:
                continue
            if (part := getattr(anatomies[index], attribute)) is None:
                raise LookupError(
                    f"block {index}, a {type(blocks[index]).__name__}, has no {what} that labutils could take out; it "
                    f"has {_what_it_has(anatomies[index])}."
                )
            check_numbers(units, getattr(part, count), f"{what} of block {index}")
    _check_experts(removal, anatomies, config)


def _what_it_has(anatomy: Anatomy) -> str:
    names = {"mlp": "neurons", "attention": "key-value groups", "experts": "experts"}
    return ", ".join(word for name, word in names.items() if getattr(anatomy, name)) or "nothing but itself"


def _check_experts(removal: Removal, anatomies: Sequence[Anatomy], config: PreTrainedConfig) -> None:
    if not any(removal.experts.values()):
        return
    kept = [block for block in removal.kept_blocks(len(anatomies)) if anatomies[block].experts]
    counts = {block: len(removal.experts.get(block, ())) for block in kept}
    if len(set(counts.values())) > 1:
        raise ValueError(
            f"{counts} experts would go, by block; a configuration has one number of experts for all blocks. Take "
            "equally many out of each."
        )
    left = min(anatomies[block].experts.count - count for block, count in counts.items())
    chosen = getattr(config, "num_experts_per_tok", None) or 1
    if left < chosen:
        raise ValueError(f"{left} experts would stay, and every token is sent to {chosen}; keep at least as many.")
    if (getattr(config, "n_group", None) or 1) > 1:
        raise LookupError(
            f"{type(config).__name__} chooses experts group by group (n_group={config.n_group}); experts taken out by "
            "their scores would leave unequal groups, which it cannot express."
        )
