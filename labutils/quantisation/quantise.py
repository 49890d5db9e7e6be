"""A model with fewer bits per weight, in place: the values it would have, in the model's own type."""

from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from labutils.core.options import suggest
from labutils.models.structure import check_finite, find_blocks, prunable_layers, weight_matrix
from labutils.quantisation.accounting import rounding_bits
from labutils.quantisation.block_formats import FORMATS, check_width, round_blocks
from labutils.quantisation.rounding import round_to_nearest

ROUNDED = {f"rtn{bits}": bits for bits in range(8, 1, -1)}
SYMMETRIC = {f"sym{bits}": bits for bits in range(8, 1, -1)}
GROUP_SIZE = 32


@dataclass(frozen=True)
class QuantisationReport:
    """What was done to each matrix.

    Attributes:
        layers: ``name, weights, bits, zeros`` (before), ``zeros_kept``, ``relative_error`` (‖change‖² / ‖weight‖²).
        bits: per weight of all these matrices, scales included.
    """

    kind: str
    layers: pd.DataFrame

    @property
    def bits(self) -> float:
        return float((self.layers["bits"] * self.layers["weights"]).sum() / self.layers["weights"].sum())


def list_kinds() -> list[str]:
    """What `quantise` can do: "rtn8" to "rtn2", the same symmetric as "sym8" to "sym2", and GGUF's block formats."""
    return [*ROUNDED, *SYMMETRIC, *FORMATS]


@torch.no_grad()
def quantise(
    model: nn.Module, kind: str, *, group_size: int | None = None, symmetric: bool = False, keep_zeros: bool = False
) -> QuantisationReport:
    """Give the weights of a model's blocks the values that a quantised file would hold, in place.

    >>> quantise(model, "rtn4", group_size=32).bits
    4.625

    The same matrices as `prune` changes; embeddings, norms, biases and head stay. Nothing is packed: what changes is
    what the model computes, not its memory. Values are found in float32; a model in a 16-bit type holds the nearest
    that its type has.

    Args:
        kind: "rtn8" … "rtn2" (`round_to_nearest`), "sym8" … "sym2" (the same with `symmetric`: scaled by each group's
            largest weight), or a block format of GGUF files such as "Q4_0" (`round_blocks`).
        group_size: inputs that share a scale, of "rtn" and "sym" kinds; 32 by default. Block formats have their own.
        symmetric: of "rtn" kinds; "sym" kinds are.
        keep_zeros: put back every zero that the format moves, as a file that stores its mask apart would.

    Raises:
        LookupError: an unknown kind.
        ValueError: options of another kind; weights that are not finite, or do not fit. The model is as it was.
    """
    _check(kind, group_size, symmetric)
    check_finite(model)
    name, blocks = find_blocks(model)
    layers = {
        f"{name}.{number}.{inner}": weight_matrix(layer)
        for number, block in enumerate(blocks)
        for inner, layer in prunable_layers(block).items()
    }
    rows, found = [], {}
    bits = bits_of(kind, group_size=group_size, symmetric=symmetric)
    for layer, weight in layers.items():
        try:
            values = _values(weight, kind, group_size, symmetric)
        except ValueError as error:
            raise ValueError(f"{layer}: {error}") from error
        zeros = weight == 0
        kept = (values[zeros] == 0).sum().item()
        values = values.masked_fill(zeros, 0) if keep_zeros else values
        found[layer] = values.to(weight)
        error = (values - weight.float()).square().sum() / weight.float().square().sum().clamp(min=1e-30)
        counts = {"weights": weight.numel(), "bits": bits, "zeros": int(zeros.sum())}
        rows.append({"name": layer, **counts, "zeros_kept": kept, "relative_error": float(error)})
    for layer, weight in layers.items():
        weight.copy_(found[layer])
    return QuantisationReport(kind, pd.DataFrame(rows))


def check_fits(model: nn.Module, kind: str) -> None:
    """ValueError, naming the layer, where a matrix of the blocks is no whole number of a kind's groups.

    >>> check_fits(model, "Q4_K")
    """
    size = FORMATS[kind].size if kind in FORMATS else GROUP_SIZE
    name, blocks = find_blocks(model)
    for number, block in enumerate(blocks):
        for inner, layer in prunable_layers(block).items():
            width = weight_matrix(layer).shape[1]
            if width % size:
                raise ValueError(f"{name}.{number}.{inner}: {kind} needs rows of whole groups of {size}, got {width}")


def fitting_formats(model: nn.Module) -> list[str]:
    """The block formats that every matrix of a model's blocks fits.

    >>> fitting_formats(lab.load_model("lab-llama")[0])
    ['Q8_0', 'Q5_1', 'Q5_0', 'Q4_1', 'Q4_0']
    """
    blocks = find_blocks(model)[1]
    widths = {weight_matrix(layer).shape[1] for block in blocks for layer in prunable_layers(block).values()}
    return [kind for kind, form in FORMATS.items() if not any(width % form.size for width in widths)]


def bits_of(kind: str, *, group_size: int | None = None, symmetric: bool = False) -> float:
    """Bits per weight of a kind, scales included.

    >>> bits_of("Q4_K"), bits_of("rtn4", group_size=32)
    (4.5, 4.625)
    """
    _check(kind, group_size, symmetric)
    if kind in FORMATS:
        return FORMATS[kind].bits
    bits, symmetric = _rounding(kind, symmetric)
    return rounding_bits(bits, group_size or GROUP_SIZE, symmetric=symmetric)


def _rounding(kind: str, symmetric: bool) -> tuple[int, bool]:
    """Bits of a rounding, and whether it is symmetric."""
    return (SYMMETRIC[kind], True) if kind in SYMMETRIC else (ROUNDED[kind], symmetric)


def _check(kind: str, group_size: int | None, symmetric: bool) -> None:
    if kind not in list_kinds():
        raise LookupError(f"unknown kind {kind!r}; known are {', '.join(list_kinds())}.{suggest(kind, list_kinds())}")
    if kind in FORMATS and (group_size is not None or symmetric):
        raise ValueError(f"{kind} has blocks of {FORMATS[kind].size}: leave out group_size and symmetric")


def _values(
    weight: Float[Tensor, "out in"], kind: str, group_size: int | None, symmetric: bool
) -> Float[Tensor, "out in"]:
    if kind not in FORMATS:
        bits, symmetric = _rounding(kind, symmetric)
        return round_to_nearest(weight, bits, group_size=group_size or GROUP_SIZE, symmetric=symmetric)
    check_width(weight.shape[1], kind)
    return torch.from_numpy(round_blocks(weight.float().cpu().contiguous().numpy(), kind)).to(weight.device)
