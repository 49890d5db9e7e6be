"""The parts of a block that structured pruning takes apart: which matrices make and which read neurons and heads.

No name of a model or a matrix is looked at, only whether a module's class calls itself an attention, and an expert
shared. A forward pass of one token tells in which order a block calls its matrices. Those inside an attention are the
attention's, the others the feed-forward part's; of each, the last one called reads the units (the columns that go with
a unit), the earlier ones make them (its rows). Whether that reading of a model is right is proved by every surgery,
before its result is returned.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from labutils.models.experts import ExpertMatrix, holds_experts, holds_fused_experts
from labutils.models.modes import device_of, eval_mode
from labutils.models.structure import Layer, find_blocks, prunable_layers, weight_matrix
from labutils.models.wrappers import base_modules

Maker = tuple[str, int]  # a matrix, and how many copies of the units its rows hold: 2 of a fused gate and up projection


@dataclass(frozen=True)
class Attention:
    """Of one block. `makers` hold [queries], [keys], [values] or all three in one; `out` reads the heads.

    Attributes:
        n_groups: key-value heads; `n_queries` query heads read each of them; `head_dim` channels a head.
    """

    makers: tuple[str, ...]
    out: str
    n_groups: int
    n_queries: int
    head_dim: int

    @property
    def width(self) -> int:
        """Channels of `out` that belong to one group."""
        return self.n_queries * self.head_dim


@dataclass(frozen=True)
class Mlp:
    """Of one block: `out` reads the `width` neurons that the makers and the activation make."""

    makers: tuple[Maker, ...]
    out: str
    width: int


@dataclass(frozen=True)
class Experts:
    """A mixture in one block: the module of fused experts, what holds it and the router, and the number of experts."""

    module: str
    owner: str
    count: int


@dataclass(frozen=True)
class Anatomy:
    """The parts of a block; None where it has none that can be told."""

    attention: Attention | None
    mlp: Mlp | None
    experts: Experts | None


def read_anatomies(model: PreTrainedModel) -> list[Anatomy]:
    """The parts of every block, told by one forward pass of one token.

    >>> read_anatomies(llama)[0].mlp
    Mlp(makers=(('mlp.gate_proj', 1), ('mlp.up_proj', 1)), out='mlp.down_proj', width=11008)
    """
    _, blocks = find_blocks(model)
    with _calls_noted(blocks) as called, eval_mode(model):
        model(input_ids=torch.zeros((1, 1), dtype=torch.int64, device=device_of(model)))
    return [_read(model, block, order) for block, order in zip(blocks, called, strict=True)]


@contextmanager
def _calls_noted(blocks: nn.ModuleList) -> Iterator[list[list[str]]]:
    called: list[list[str]] = [[] for _ in blocks]
    with ExitStack() as hooks:
        for order, block in zip(called, blocks, strict=True):
            for name, layer in prunable_layers(block).items():
                if not isinstance(layer, ExpertMatrix):
                    note = lambda *_, order=order, name=name: order.append(name)  # noqa: E731
                    hooks.enter_context(layer.register_forward_pre_hook(note))
        yield called


def _read(model: PreTrainedModel, block: nn.Module, called: list[str]) -> Anatomy:
    layers = {name: layer for name, layer in prunable_layers(block).items() if name in called}
    inside = [name for name, module in base_modules(block) if "Attention" in type(module).__name__]
    own = [name for name in called if any(name.startswith(f"{outer}.") for outer in inside)]
    others = [name for name in called if name not in own]
    mixed = holds_experts(block)
    return Anatomy(
        _attention(model, block, layers, own) if len(own) > 1 else None,
        _mlp(layers, others) if len(others) > 1 and not mixed else None,
        _experts(block) if mixed else None,
    )


def _attention(
    model: PreTrainedModel, block: nn.Module, layers: dict[str, Layer], called: list[str]
) -> Attention | None:
    *makers, out = called
    width = weight_matrix(layers[out]).shape[1]
    rows = [weight_matrix(layers[name]).shape[0] for name in makers]
    size = _head_size(model, block, width)
    fused = len(makers) == 1
    n_keys = (rows[0] - width) // 2 if fused else min(rows)
    if size is None or width % size or n_keys <= 0 or n_keys % size or width % n_keys or len(makers) not in (1, 3):
        return None
    return Attention(tuple(makers), out, n_keys // size, width // n_keys, size)


def _head_size(model: PreTrainedModel, block: nn.Module, width: int) -> int | None:
    """As a module of the block tells it, else the configuration; else the channels over the heads."""
    names = ("head_dim", "head_size", "attention_head_size")
    for holder in (*(module for _, module in base_modules(block)), model.config):
        for name in names:
            if isinstance(found := getattr(holder, name, None), int) and found > 0:
                return found
    heads = getattr(model.config, "num_attention_heads", None)
    return width // heads if isinstance(heads, int) and heads > 0 else None


def _mlp(layers: dict[str, Layer], called: list[str]) -> Mlp | None:
    *makers, out = called
    width = weight_matrix(layers[out]).shape[1]
    rows = [weight_matrix(layers[name]).shape[0] for name in makers]
    if any(count % width for count in rows):
        return None
    return Mlp(tuple((name, count // width) for name, count in zip(makers, rows, strict=True)), out, width)


def _experts(block: nn.Module) -> Experts | None:
    found = [(name, module) for name, module in base_modules(block) if holds_fused_experts(module)]
    if len(found) != 1:
        return None
    name, module = found[0]
    return Experts(name, name.rpartition(".")[0], module.num_experts)


def out_layers(block: nn.Module, anatomy: Anatomy, part: str) -> list[nn.Module]:
    """The modules that write a sublayer's output: its last matrix, or of a mixture all its experts.

    Raises:
        LookupError: the block has no such part that can be told.
    """
    if part == "attention" and anatomy.attention:
        return [block.get_submodule(anatomy.attention.out)]
    if part == "mlp" and anatomy.mlp:
        return [block.get_submodule(anatomy.mlp.out)]
    if part == "mlp" and anatomy.experts:
        owner = block.get_submodule(anatomy.experts.owner)
        if shared := [child for name, child in owner.named_children() if "shared" in name]:
            raise LookupError(
                f"the mixture of experts has {type(shared[0]).__name__} beside the experts; only whole blocks, groups "
                "of heads and experts can be taken out of it."
            )
        return [block.get_submodule(anatomy.experts.module)]
    raise LookupError(f"labutils cannot tell the {part} of a {type(block).__name__}; whole blocks can be dropped.")


def count_weights(block: nn.Module, anatomy: Anatomy, part: str) -> int:
    """Parameters of a sublayer's matrices, biases included; norms are left out."""
    if part == "mlp" and anatomy.experts:
        return sum(parameter.numel() for parameter in block.get_submodule(anatomy.experts.owner).parameters())
    chosen = anatomy.attention if part == "attention" else anatomy.mlp
    if chosen is None:
        return 0
    makers = [name if isinstance(name, str) else name[0] for name in chosen.makers]
    return sum(math.prod(p.shape) for name in (*makers, chosen.out) for p in block.get_submodule(name).parameters())


def zero_output(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
    """A forward hook that puts zeros in the place of what a matrix gives."""
    return torch.zeros_like(output)
