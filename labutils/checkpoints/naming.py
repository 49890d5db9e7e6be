"""Which tensors of a checkpoint make up which entries of a model's state.

Mostly it is one tensor for one entry, under the same name but for the prefix of the base model, which may be there or
not. Where transformers keeps several tensors of the checkpoint as one parameter (the experts of a mixture), its own
conversions are applied, and reverted when a block is written, so that the written checkpoint has the form of the read
one.
"""

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


@dataclass(frozen=True)
class Group:
    """Tensors of a checkpoint that together make up entries of a model's state.

    Attributes:
        keys: the checkpoint's names; names: the model's.
        patterns: for each key the pattern by which transformers' converter knows it.
        converter: None for one tensor that is one entry as it is.
    """

    keys: tuple[str, ...]
    names: tuple[str, ...]
    patterns: tuple[str, ...] = ()
    converter: Any = field(default=None, compare=False)

    def to_model(self, read: Callable[[str], Tensor], model: PreTrainedModel) -> dict[str, Tensor]:
        """The entries of the model's state; `read` gives the tensor of a key."""
        if self.converter is None:
            return {self.names[0]: read(self.keys[0])}
        return _convert(self.converter, self.names[0], zip(self.keys, self.patterns, strict=True), read, model)

    def to_checkpoint(self, state: Mapping[str, Tensor], model: PreTrainedModel) -> dict[str, Tensor]:
        """The checkpoint's tensors; `state` has the entries of the model's state.

        Raises:
            LookupError: transformers would write other tensors than the checkpoint has.
        """
        if self.converter is None:
            return {self.keys[0]: state[self.names[0]]}
        from transformers.core_model_loading import revert_weight_conversion

        prefix, found = f"{model.base_model_prefix}.", {}
        reverted = revert_weight_conversion(model, {name: state[name] for name in self.names})
        for name, tensor in reverted.items():
            candidates = (name, name.removeprefix(prefix), prefix + name)
            found |= {key: tensor for key in candidates if key in self.keys}
        if set(found) != set(self.keys):
            raise LookupError(
                f"{self.names[0]} cannot be written in the checkpoint's form: this version of transformers writes "
                f"{sorted(reverted)[0]!r}. Save the checkpoint anew with this version, and prune that."
            )
        return found


def match_all(shapes: Mapping[str, torch.Size], model: PreTrainedModel, needed: set[str]) -> list[Group]:
    """Groups for the tensors of a checkpoint: by their names, or where these leave out an entry, by conversions.

    Args:
        shapes: of the checkpoint's tensors, by their names.
        needed: entries of the model's state that should be found.
    """
    groups = match_names(shapes, model)
    if needed <= {name for group in groups for name in group.names}:
        return groups
    return match_conversions(shapes, model)


def match_names(keys: Iterable[str], model: PreTrainedModel) -> list[Group]:
    """Groups of one tensor and one entry each, for all names that can be matched directly."""
    names, prefix, found = set(model.state_dict()), f"{model.base_model_prefix}.", {}
    for key in keys:
        plain = key
        for old, new in OLD_NAMES.items():
            plain = plain.replace(old, new)
        for candidate in (plain, plain.removeprefix(prefix), prefix + plain):
            if candidate in names:
                found.setdefault(candidate, Group((key,), (candidate,)))
                break
    return list(found.values())


def match_conversions(shapes: Mapping[str, torch.Size], model: PreTrainedModel) -> list[Group]:
    """Groups for a checkpoint that transformers converts on loading, from the names and shapes of its tensors."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key, rename_source_key

    rules, names = get_model_conversion_mapping(model), model.state_dict()
    renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    of_pattern = {pattern: rule for rule in converters for pattern in rule.source_patterns}
    parts: dict[str, list[tuple[str, str | None]]] = {}
    for key in sorted(shapes, key=dot_natural_key):
        name, pattern = rename_source_key(key, renamings, converters, model.base_model_prefix, names)
        if name not in names and key in names:  # as transformers does: a rule for inner names is not for this one
            name, pattern = key, None
        if name in names:
            parts.setdefault(name, []).append((key, pattern))
    groups = []
    for name, found in parts.items():
        keys, patterns = zip(*found, strict=True)
        if patterns[0] is None:
            groups.append(Group(keys[:1], (name,)))
            continue
        converter = of_pattern[patterns[0]]
        entries = _convert(converter, name, found, lambda key: torch.empty(shapes[key], device="meta"), model)
        groups.append(Group(keys, tuple(entries), patterns, converter))
    return groups


def _convert(
    converter: Any,
    name: str,
    parts: Iterable[tuple[str, str]],
    read: Callable[[str], Tensor],
    model: PreTrainedModel,
) -> dict[str, Tensor]:
    """Apply one of transformers' converters; it gathers what it is given, so each use takes a copy."""
    fresh = copy.deepcopy(converter)
    for key, pattern in parts:
        fresh.add_tensor(name, key, pattern, read(key))
    converted = fresh.convert(name, model=model, config=model.config)
    return {entry: found[0] if isinstance(found, list) else found for entry, found in converted.items()}
