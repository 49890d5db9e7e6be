"""Which rows and columns of a block's tensors stay when units go, and how tensors are cut."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from labutils.models.structure import prunable_layers, weight_matrix
from labutils.structured.anatomy import Anatomy, Attention, Mlp
from labutils.structured.removal import Removal, kept_units

PADDING = -1  # in the place of a unit: zeros


@dataclass(frozen=True)
class Cut:
    """The places along one dimension that stay, in their new order; `PADDING` for zeros."""

    dimension: int
    places: tuple[int, ...]


def cut(tensor: Shaped[Tensor, "..."], how: Cut) -> Shaped[Tensor, "..."]:
    """The tensor with these places along the dimension, in memory of its own.

    >>> cut(torch.tensor([5.0, 6.0, 7.0]), Cut(0, (2, PADDING)))
    tensor([7., 0.])
    """
    places = torch.tensor(how.places, dtype=torch.int64, device=tensor.device)
    found = tensor.index_select(how.dimension, places.clamp_min(0))
    if (places == PADDING).any():
        found.index_fill_(how.dimension, (places == PADDING).nonzero().flatten(), 0)
    return found


def common_widths(removal: Removal, anatomies: Sequence[Anatomy]) -> dict[str, int | None]:
    """Neurons, groups and experts that every block will have: those of the widest block that stays."""
    kept = removal.kept_blocks(len(anatomies))
    counts = {
        "neurons": (removal.neurons, lambda anatomy: anatomy.mlp and anatomy.mlp.width),
        "groups": (removal.groups, lambda anatomy: anatomy.attention and anatomy.attention.n_groups),
        "experts": (removal.experts, lambda anatomy: anatomy.experts and anatomy.experts.count),
    }
    found: dict[str, int | None] = {}
    for kind, (removed, count) in counts.items():
        left = [len(kept_units(removed, block, total)) for block in kept if (total := count(anatomies[block]))]
        found[kind] = max(left) if any(removed.get(block) for block in kept) else None
    return found


def block_cuts(
    removal: Removal, anatomy: Anatomy, block: nn.Module, index: int, widths: dict[str, int | None]
) -> dict[str, Cut]:
    """How the tensors of a block are cut, by their names in it; the others stay whole."""
    cuts: dict[str, Cut] = {}
    if widths["neurons"] is not None and anatomy.mlp:
        kept = _padded(kept_units(removal.neurons, index, anatomy.mlp.width), widths["neurons"])
        cuts |= _of_neurons(anatomy.mlp, block, kept)
    if widths["groups"] is not None and anatomy.attention:
        kept = _padded(kept_units(removal.groups, index, anatomy.attention.n_groups), widths["groups"])
        cuts |= _of_groups(anatomy.attention, block, kept)
    if widths["experts"] is not None and anatomy.experts:
        kept = kept_units(removal.experts, index, anatomy.experts.count)
        cuts |= _of_experts(anatomy, block, kept)
    return cuts


def _padded(kept: list[int], width: int) -> list[int]:
    return kept + [PADDING] * (width - len(kept))


def _spread(units: list[int], width: int, start: int = 0) -> list[int]:
    """The channels of units that are `width` channels each and begin at `start`."""
    return [
        PADDING if unit == PADDING else start + unit * width + channel for unit in units for channel in range(width)
    ]


def _matrix_cuts(block: nn.Module, name: str, places: list[int], *, columns: bool = False) -> dict[str, Cut]:
    """Of a matrix as (out × in), whichever way it is stored: its columns, or its rows and its bias."""
    layer = prunable_layers(block)[name]
    found = {f"{name}.weight": Cut(int(columns != isinstance(layer, Conv1D)), tuple(places))}
    if not columns and layer.bias is not None:
        found[f"{name}.bias"] = Cut(0, tuple(places))
    return found


def _of_neurons(mlp: Mlp, block: nn.Module, kept: list[int]) -> dict[str, Cut]:
    cuts = _matrix_cuts(block, mlp.out, kept, columns=True)
    for name, copies in mlp.makers:
        places = [place for copy in range(copies) for place in _spread(kept, 1, copy * mlp.width)]
        cuts |= _matrix_cuts(block, name, places)
    return cuts


def _of_groups(attention: Attention, block: nn.Module, kept: list[int]) -> dict[str, Cut]:
    size, width = attention.head_dim, attention.width
    queries, keys = _spread(kept, width), _spread(kept, size)
    cuts = _matrix_cuts(block, attention.out, queries, columns=True)
    if len(attention.makers) == 1:  # queries, keys and values one below the other
        first, second = attention.n_groups * width, attention.n_groups * (width + size)
        fused = [*queries, *_spread(kept, size, first), *_spread(kept, size, second)]
        return cuts | _matrix_cuts(block, attention.makers[0], fused)
    for name in attention.makers:
        rows = weight_matrix(prunable_layers(block)[name]).shape[0]
        cuts |= _matrix_cuts(block, name, queries if rows == attention.n_groups * width else keys)
    return cuts


def _of_experts(anatomy: Anatomy, block: nn.Module, kept: list[int]) -> dict[str, Cut]:
    """The experts' own tensors, and everything of the router that has one row for each expert."""
    return dict.fromkeys(_of_each_expert(anatomy, block), Cut(0, tuple(kept)))


def router_tensors(anatomy: Anatomy, block: nn.Module) -> dict[str, Tensor]:
    """By their names in the block, the parameters and buffers outside the experts with one row for each of them."""
    inside = f"{anatomy.experts.module}."
    return {name: own for name, own in _of_each_expert(anatomy, block).items() if not name.startswith(inside)}


def _of_each_expert(anatomy: Anatomy, block: nn.Module) -> dict[str, Tensor]:
    experts = anatomy.experts
    owner, found = block.get_submodule(experts.owner), {}
    for name, tensor in (*owner.named_parameters(), *owner.named_buffers()):
        if tensor.dim() and tensor.shape[0] == experts.count and "shared" not in name:
            found[f"{experts.owner}.{name}" if experts.owner else name] = tensor
    return found
