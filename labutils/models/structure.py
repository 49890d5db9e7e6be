"""What a model is made of, found by structure and never by its name: blocks, prunable layers, the kind of head."""

import inspect
import os
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.pytorch_utils import Conv1D

from labutils.models.experts import ExpertMatrix, expert_matrices, find_routers, holds_fused_experts
from labutils.models.wrappers import base_layer, base_modules

CAUSAL_HEADS = ("ForCausalLM", "LMHeadModel")


Layer = nn.Linear | Conv1D | ExpertMatrix


def is_causal(model: PreTrainedModel) -> bool:
    """Whether the model predicts the next token (as opposed to an encoder)."""
    return type(model).__name__.endswith(CAUSAL_HEADS)


def check_causal(model: PreTrainedModel, what: str) -> None:
    """ValueError unless the model predicts the next token.

        check_causal(model, "perplexity")

    Args:
        what: cannot be done without it, for the message.
    """
    if not is_causal(model):
        raise ValueError(
            f"{type(model).__name__} is not a causal language model; {what} needs one (a class whose name ends in "
            f"{' or '.join(CAUSAL_HEADS)}). Encoders are evaluated on sentence pairs: see score_similarity."
        )


def check_token_ids(
    model: nn.Module, tokens: Int64[Tensor, "..."] | Sequence[Sequence[int]], what: str = "token ids"
) -> None:
    """ValueError when there are no tokens, or ids outside the model's vocabulary.

        check_token_ids(model, tokens)

    Args:
        tokens: a tensor of any shape, or rows of unequal length.
        what: whose ids they are, for the message.
    """
    if not isinstance(tokens, Tensor):
        tokens = torch.tensor([token for row in tokens for token in row], dtype=torch.int64)
    check_reads_tokens(model)
    size = _embedding(model).weight.shape[0]
    if tokens.numel() == 0:
        raise ValueError(f"{what}: empty (shape {list(tokens.shape)}); give at least one sequence of two tokens")
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or high >= size:
        raise ValueError(
            f"{what}: ids from {low} to {high} do not fit a vocabulary of {size}; use the model's own tokenizer"
        )


def check_reads_tokens(model: nn.Module) -> None:
    """ValueError unless the model's forward pass takes token ids, which one embedding turns into vectors.

    >>> check_reads_tokens(model)  # of images: "ViTModel reads no token ids: its forward pass takes pixel_values, …"
    """
    takes = inspect.signature(model.forward).parameters
    named = [name for name, one in takes.items() if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    if "input_ids" not in named and (named or not takes):  # nothing but *args and **kwargs may be a wrapper
        raise ValueError(
            f"{type(model).__name__} reads no token ids: its forward pass takes {', '.join(named[:3]) or 'nothing'}"
            f"{', …' if len(named) > 3 else ''}. labutils prunes models of text."
        )
    weight = getattr(_embedding(model), "weight", None)
    if not isinstance(weight, Tensor) or weight.dim() != 2:
        raise ValueError(
            f"{type(model).__name__} has no single embedding of token ids. labutils prunes models of text; of a model "
            "of several kinds of data, prune the part that reads text."
        )


def find_blocks(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The stack of transformer blocks that token ids run through.

        name, blocks = lab.models.find_blocks(model)  # "model.layers", of a Llama

    It is the `ModuleList` of blocks (modules of one class, or that transformers marks as such) that stands nearest to
    the embedding of token ids (a vision tower's stands elsewhere), the longest among equally near ones, the outermost
    among nested ones.

    Raises:
        LookupError: the model has no such list.
    """
    found = block_lists(model)
    if not found:
        raise LookupError(
            f"{type(model).__name__} has no ModuleList of same-class modules with linear layers, so its blocks cannot "
            "be found. labutils prunes transformers that keep their blocks in such a list."
        )
    embedding = _embedding_name(model)
    return max(found.items(), key=lambda item: (*_nearness(item[0], embedding), len(item[1]), _count(item[1])))


def block_lists(model: nn.Module) -> dict[str, nn.ModuleList]:
    """The outermost lists of blocks with linear layers, by their name."""
    found: dict[str, nn.ModuleList] = {}
    for name, module in base_modules(model):
        nested = any(name.startswith(f"{outer}.") for outer in found)
        if not isinstance(module, nn.ModuleList) or nested:
            continue
        if _are_alike(module) and any(prunable_layers(member) for member in module):
            found[name] = module
    return found


def _are_alike(modules: nn.ModuleList) -> bool:
    """Of one class; or blocks by transformers' own mark, of several kinds that take turns (Jamba, Zamba)."""
    return len({type(module) for module in modules}) == 1 or (
        len(modules) > 0 and all(isinstance(module, GradientCheckpointingLayer) for module in modules)
    )


def _embedding_name(model: nn.Module) -> str:
    """Of what token ids meet first; empty for a module that is no model of transformers, or reads none."""
    embedding = _embedding(model)
    return next((name for name, module in base_modules(model) if module is embedding), "")


def _embedding(model: nn.Module) -> nn.Module | None:
    """What token ids meet first, without its adapters."""
    try:
        found = model.get_input_embeddings() if hasattr(model, "get_input_embeddings") else None
    except NotImplementedError:  # transformers' word for a class that names none
        return None
    return found if found is None else base_layer(found)


def _nearness(name: str, other: str) -> tuple[int, int]:
    """How many modules two names pass through together, and the fewer on their own way from there, the nearer."""
    shared = len(os.path.commonprefix([name.split("."), other.split(".")]))
    return shared, shared - len(name.split("."))


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def prunable_layers(block: nn.Module) -> dict[str, Layer]:
    """What is pruned in a block, by its name in it: linear layers, GPT-2's transposed `Conv1D`, and fused experts.

    A linear layer that computes several projections at once (query, key and value; gate and up) is one matrix. Each
    expert's slice of a fused parameter is one, named as in `mlp.experts.down_proj[3]`. Routers stay out, and so do
    adapters: an adapted layer is its base layer, by the name it has without them.
    """
    found: dict[str, Layer] = {}
    routers = find_routers(block)
    for name, module in base_modules(block):
        if isinstance(module, nn.Linear | Conv1D) and module not in routers:
            found[name] = module
        elif holds_fused_experts(module):
            found |= {f"{name}.{matrix.name}": matrix for matrix in expert_matrices(module)}
    return found


def weight_matrix(layer: Layer) -> Float[Tensor, "out in"]:
    """A layer's weight as (out × in), a view that writes through."""
    return _turned(layer, layer.weight.data)


def layer_parameter(layer: Layer) -> nn.Parameter:
    """The parameter that holds a layer's weight; experts that are fused share one."""
    return getattr(layer.experts, layer.parameter) if isinstance(layer, ExpertMatrix) else layer.weight


def matrix_in(layer: Layer, values: Float[Tensor, "..."]) -> Float[Tensor, "out in"]:
    """A layer's part, as (out × in), of values that are shaped as its parameter: a gradient, for instance."""
    return _turned(layer, values[layer.index] if isinstance(layer, ExpertMatrix) else values)


def _turned(layer: Layer, stored: Tensor) -> Tensor:
    transposed = layer.transposed if isinstance(layer, ExpertMatrix) else isinstance(layer, Conv1D)
    return stored.T if transposed else stored


def check_finite(model: nn.Module) -> None:
    """Raises a ValueError naming the first parameter that holds a NaN or an infinite value."""
    for name, parameter in model.named_parameters():
        if not all_finite(parameter):
            raise ValueError(f"{name} contains NaN or infinite weights; reload the model from an intact checkpoint.")


def all_finite(tensor: Tensor) -> bool:
    """Whether a tensor holds neither NaN nor infinite values."""
    return bool(tensor.sum().isfinite() or tensor.isfinite().all())  # most often the sum tells, many times faster
