"""What cannot be pruned as it is, refused before anything runs: zeros would be lost, or be those of half a model."""

from collections.abc import Collection, Iterable, Iterator

from torch import nn
from transformers import MODEL_FOR_TEXT_ENCODING_MAPPING, PreTrainedModel

from labutils.models.experts import ExpertMatrix, expert_containers
from labutils.models.structure import block_lists, prunable_layers
from labutils.models.wrappers import adapted_layers


def check_prunable(model: PreTrainedModel, prefix: str, blocks: nn.ModuleList) -> None:
    """Refuse a model whose pruning would not be what the report says.

    Raises:
        ValueError: weights that are computed at every call, merged with adapters, compiled away from their hooks, or
            used in two places; or a decoder behind an encoder. The message names the first, and the way out.
    """
    for index, block in enumerate(blocks):
        _check_block(block, f"{prefix}.{index}")
    _check_shared(model, prefix, blocks)
    encoders = MODEL_FOR_TEXT_ENCODING_MAPPING.values()
    if model.config.is_encoder_decoder and type(model) not in encoders and len(block_lists(model)) > 1:
        raise ValueError(
            f"{type(model).__name__} has an encoder and a decoder, of which only one would be pruned. Load its encoder "
            "alone (`lab.load_model` does so for T5 and its kin)."
        )


def check_read(block: nn.Module, name: str, layers: Iterable[str], read: Collection[str]) -> None:
    """Refuse a block with a matrix that no token was seen to enter, unless it is one of several experts.

    Args:
        layers: the names of all its matrices.
        read: the names of those that some token entered.
    """
    unread = [own for own in layers if own not in read]
    if not unread:
        return
    experts = tuple(f"{container}." for container in expert_containers(block))
    if all(own.startswith(experts) for own in unread) and any(own.startswith(experts) for own in read):
        return
    raise ValueError(
        f"{name}.{unread[0]} was not seen to read a single token ({len(unread)} of {len(list(layers))} matrices of its "
        "block). The model does not use it on these inputs, or uses its weight without calling the layer, as compiled "
        "code does."
    )


def _check_block(block: nn.Module, name: str) -> None:
    for own_name, module in block.named_modules(prefix=name):
        if module._compiled_call_impl is not None:
            raise ValueError(
                f"{own_name} is compiled, which hides from pruning what its layers read. Prune the model first, and "
                "compile it afterwards."
            )
    for own_name, module in adapted_layers(block):
        if getattr(module, "merged", False):
            raise ValueError(
                f"{name}.{own_name} has its adapters merged into its weight, which taking them out again would fill "
                "up. Call `model.unmerge_adapter()` first, or keep them for good by `model.merge_and_unload()`."
            )
    for own_name, layer in prunable_layers(block).items():
        if isinstance(layer, nn.Module) and "weight" not in layer._parameters:
            raise ValueError(
                f"{name}.{own_name}.weight is computed anew at every call, so zeros written to it would be "
                "lost. Make it a plain parameter first: `torch.nn.utils.prune.remove(layer, 'weight')`, or "
                "`torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight')`."
            )


def _check_shared(model: PreTrainedModel, prefix: str, blocks: nn.ModuleList) -> None:
    """Refuse a weight that stands in two blocks, in two layers, or outside the blocks too: it is pruned for one use."""
    owners: dict[int, tuple[str, int, nn.Module]] = {}
    for name, index, owner, weight in _weights(prefix, blocks):
        known, *place = owners.setdefault(id(weight), (name, index, owner))
        if place != [index, owner]:
            _refuse_shared(known, name)
    inside = set(blocks.modules())
    for name, module in model.named_modules():
        for own_name, parameter in module._parameters.items() if module not in inside else ():
            if id(parameter) in owners:
                _refuse_shared(owners[id(parameter)][0], f"{name}.{own_name}")


def _weights(prefix: str, blocks: nn.ModuleList) -> Iterator[tuple[str, int, nn.Module, nn.Parameter]]:
    for index, block in enumerate(blocks):
        for name, layer in prunable_layers(block).items():
            fused = isinstance(layer, ExpertMatrix)
            owner = layer.experts if fused else layer
            yield f"{prefix}.{index}.{name}", index, owner, owner._parameters[layer.parameter if fused else "weight"]


def _refuse_shared(one: str, other: str) -> None:
    raise ValueError(
        f"{one} and {other} are one and the same weight, used in two places, so it cannot be pruned for each of them. "
        "Give one a copy of its own, or prune another model."
    )
