"""What a model is made of, found by structure and never by its name: blocks, prunable layers, the kind of head."""

from jaxtyping import Float
from torch import Tensor, nn
from transformers import (
    PreTrainedModel,
)
from transformers.pytorch_utils import Conv1D

from labutils.models.experts import ExpertMatrix, expert_matrices, find_routers, holds_fused_experts

CAUSAL_HEADS = ("ForCausalLM", "LMHeadModel")


Layer = nn.Linear | Conv1D | ExpertMatrix


def is_causal(model: PreTrainedModel) -> bool:
    """Whether the model predicts the next token (as opposed to an encoder)."""
    return type(model).__name__.endswith(CAUSAL_HEADS)


def find_blocks(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The stack of transformer blocks: the longest `ModuleList` of same-class modules, the outermost among nested ones.

    Raises:
        LookupError: the model has no such list.
    """
    found: list[tuple[str, nn.ModuleList]] = []
    for name, module in model.named_modules():
        nested = any(name.startswith(f"{outer}.") for outer, _ in found)
        if not isinstance(module, nn.ModuleList) or nested:
            continue
        if len({type(member) for member in module}) == 1 and any(prunable_layers(member) for member in module):
            found.append((name, module))
    if not found:
        raise LookupError(
            f"{type(model).__name__} has no ModuleList of same-class modules with linear layers, so its blocks cannot "
            "be found. "
            "labutils prunes transformers that keep their blocks in such a list."
        )
    return max(found, key=lambda item: (len(item[1]), sum(p.numel() for p in item[1].parameters())))


def prunable_layers(block: nn.Module) -> dict[str, Layer]:
    """What is pruned in a block, by its name in it: linear layers, GPT-2's transposed `Conv1D`, and fused experts.

    A linear layer that computes several projections at once (query, key and value; gate and up) is one matrix. Each
    expert's slice of a fused parameter is one, named as in `mlp.experts.down_proj[3]`. Routers stay out.
    """
    found: dict[str, Layer] = {}
    routers = find_routers(block)
    for name, module in block.named_modules():
        if isinstance(module, nn.Linear | Conv1D) and module not in routers:
            found[name] = module
        elif holds_fused_experts(module):
            found |= {f"{name}.{matrix.name}": matrix for matrix in expert_matrices(module)}
    return found


def weight_matrix(layer: Layer) -> Float[Tensor, "out in"]:
    """A layer's weight as (out × in), a view that writes through."""
    transposed = layer.transposed if isinstance(layer, ExpertMatrix) else isinstance(layer, Conv1D)
    return layer.weight.data.T if transposed else layer.weight.data


def check_finite(model: nn.Module) -> None:
    """Raises a ValueError naming the first parameter that holds a NaN or an infinite value."""
    for name, parameter in model.named_parameters():
        if not all_finite(parameter):
            raise ValueError(f"{name} contains NaN or infinite weights; reload the model from an intact checkpoint.")


def all_finite(tensor: Tensor) -> bool:
    """Whether a tensor holds neither NaN nor infinite values."""
    return bool(tensor.sum().isfinite() or tensor.isfinite().all())  # most often the sum tells, many times faster
