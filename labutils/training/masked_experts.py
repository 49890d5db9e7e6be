"""Masked adapters of fused experts: peft's wrapper of a parameter, whose update is taken back where a weight is pruned.

While the experts run, the wrapper has its update in their parameter, as a parametrisation of torch
(`torch.nn.utils.parametrize`). A second one behind it puts the original back wherever there is nothing to adapt.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from labutils.models.experts import ExpertMatrix

Fused = Float[Tensor, "experts rows columns"]


def is_fused(layer: nn.Module) -> bool:
    """Whether an adapter is that of a parameter, not of a layer."""
    return hasattr(layer, "parameter_name")


def mask_experts(layer: nn.Module, chosen: Iterable[ExpertMatrix]) -> None:
    """Let the adapter of a fused parameter touch the kept weights of the chosen experts only.

        mask_experts(layer, expert_matrices(experts))

    The layer gets a buffer `kept` and, in `masking`, the hooks that a merge removes.
    """
    experts, parameter = layer.get_base_layer(), layer.get_param()
    kept = torch.zeros_like(parameter, dtype=torch.bool)
    for matrix in chosen:
        if matrix.experts is experts and matrix.parameter == layer.parameter_name:
            kept[matrix.index] = matrix.weight != 0
    layer.register_buffer("kept", kept, persistent=False)
    layer.masking = [
        experts.register_forward_pre_hook(lambda *_: _put_on(layer)),
        experts.register_forward_hook(lambda *_: _take_off(layer), always_call=True),
    ]


class _Restored(nn.Module):
    """The updated parameter where weights are kept, the original elsewhere."""

    def __init__(self, kept: Bool[Tensor, "experts rows columns"], original: nn.Parameter) -> None:
        super().__init__()
        self.parts = (kept, original)  # in a tuple, so that the parameter is not registered a second time

    def forward(self, updated: Fused) -> Fused:
        kept, original = self.parts
        return torch.where(kept, updated, original)


def _put_on(layer: nn.Module) -> None:
    updates = _parametrisations(layer)
    if updates is not None:  # else the adapter is switched off
        updates.append(_Restored(layer.kept, updates.original))


def _take_off(layer: nn.Module) -> None:
    updates = _parametrisations(layer)
    if updates is not None and isinstance(updates[-1], _Restored):
        del updates[-1]


def _parametrisations(layer: nn.Module) -> nn.ModuleList | None:
    found = getattr(layer.get_base_layer(), "parametrizations", {})
    if layer.parameter_name not in found:
        return None
    return found[layer.parameter_name]
