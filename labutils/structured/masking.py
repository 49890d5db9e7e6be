"""The dense model with units switched off, not taken out: what a smaller model must compute, and what searches read."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from labutils.models.structure import find_blocks
from labutils.structured.anatomy import Anatomy, out_layers, read_anatomies, zero_output
from labutils.structured.checks import check_removal
from labutils.structured.removal import Removal
from labutils.structured.slices import router_tensors


@contextmanager
def masked(
    model: PreTrainedModel, removal: Removal, anatomies: Sequence[Anatomy] | None = None
) -> Iterator[PreTrainedModel]:
    """Within it the dense model computes as if the units were gone; no weight is touched.

    >>> with masked(model, Removal(blocks=(3,))):
    ...     losses = lab.sequence_losses(model, tokens)

    A block that is off hands its input on; a sublayer that is off adds nothing; neurons and heads put out zero; the
    router's logits of experts that are off are −∞, so that it chooses among the others.

    Args:
        anatomies: as `read_anatomies` gives them, where they are known.

    Raises:
        ValueError: units that are not there.
        LookupError: a kind of unit that the block has not.
    """
    anatomies = anatomies or read_anatomies(model)
    _, blocks = find_blocks(model)
    check_removal(removal, blocks, anatomies, model.config)
    with ExitStack() as hooks:
        for index in removal.blocks:
            hooks.enter_context(blocks[index].register_forward_hook(_hand_on, with_kwargs=True))
        for index, part in removal.sublayers:
            for module in out_layers(blocks[index], anatomies[index], part):
                hooks.enter_context(module.register_forward_hook(zero_output))
        for index, removed in removal.neurons.items():
            hooks.enter_context(_mask(blocks[index], anatomies[index].mlp, removed, 1))
        for index, removed in removal.groups.items():
            attention = anatomies[index].attention
            hooks.enter_context(_mask(blocks[index], attention, removed, attention.width if attention else 1))
        off = {
            id(tensor): removed
            for index, removed in removal.experts.items()
            for tensor in router_tensors(anatomies[index], blocks[index]).values()
        }
        if off:
            hooks.enter_context(_NeverChosen(off))
        yield model


class _NeverChosen(TorchFunctionMode):
    """Whatever is computed with a router's tensor, a value for each expert, is −∞ for some of them.

    Routers are modules of many kinds: some choose inside, so that a hook on their output comes too late.
    """

    def __init__(self, off: Mapping[int, Sequence[int]]):
        super().__init__()
        self._off = dict(off)
        self._alive: list[Tensor] = []  # what was made of them alone, so that no other tensor gets its id

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        found = function(*args, **(kwargs or {}))
        given = [own for own in (*args, *(kwargs or {}).values()) if isinstance(own, Tensor)]
        tensor = next((own for own in given if id(own) in self._off), None)
        if tensor is None or not isinstance(found, Tensor) or not found.is_floating_point():
            return found
        if len(given) == 1:
            if found.shape == tensor.shape and found is not tensor:  # in another dtype, say
                self._off[id(found)] = self._off[id(tensor)]
                self._alive.append(found)
            return found
        if found.dim() < 2 or found.shape[-1] != len(tensor):
            return found
        places = torch.tensor(self._off[id(tensor)], device=found.device)
        return found.index_fill(-1, places, float("-inf"))


def _hand_on(block: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
    hidden = args[0] if args else kwargs["hidden_states"]
    return hidden if isinstance(output, Tensor) else type(output)((hidden, *output[1:]))


def _mask(block: nn.Module, part: Any, removed: Sequence[int], width: int) -> Any:
    """A hook that sets the channels of removed units to zero before the part's last matrix reads them."""
    if part is None:
        raise LookupError(f"labutils cannot tell the units of a {type(block).__name__}; whole blocks can be dropped.")
    places = torch.tensor([unit * width + channel for unit in removed for channel in range(width)], dtype=torch.int64)

    def silence(layer: nn.Module, args: tuple) -> tuple:
        return (args[0].index_fill(-1, places.to(args[0].device), 0), *args[1:])

    return block.get_submodule(part.out).register_forward_pre_hook(silence)
