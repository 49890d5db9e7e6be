"""What may follow a score's mask, by name: another mask, and other values of the kept weights.

`score+search+reconstruction` names a method, either of the two may be left out: `wanda+ls`, `ria+swaps`,
`magnitude+swaps+obs`. A *mask search* exchanges kept and dropped weights, as many of each as before; a
*reconstruction* changes the kept weights to make up for the dropped ones. `SEARCHES` and `RECONSTRUCTIONS` hold them;
`register_search` and `register_reconstruction` add one, and every score, grid, checkpoint and forecast then takes its
name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from labutils.pruning.admm import STEPS, admm_on_mask
from labutils.pruning.block_matching import ROUND_STEPS, ROUNDS, PrunedBlock, match_block, optimise_regionally
from labutils.pruning.block_matching import STEPS as STEPS_OF_MATCH
from labutils.pruning.dsnot import balance_means
from labutils.pruning.importance import STEP
from labutils.pruning.least_squares import CHUNK_BYTES, least_squares, least_squares_operations
from labutils.pruning.patterns import inside_mask
from labutils.pruning.reconstruction import Factor, obs_update
from labutils.pruning.registry import Registry
from labutils.pruning.solved_swaps import solved_swaps_memory, solved_swaps_operations, swap_solved_weights
from labutils.pruning.statistics import Statistics
from labutils.pruning.swap_pairs import CHUNK_BYTES as SWAP_BYTES
from labutils.pruning.swaps import ROWS as SWAP_ROWS
from labutils.pruning.swaps import swap_weights

# Per row and squared width. Measured: 68 for rows of 2,048 inputs, 215 for 768, at 70 billion operations a second.
SWAP_OPERATIONS = 140


@dataclass(frozen=True)
class MaskedLayer:
    """A dense matrix, the mask chosen for it, and what is known of its inputs.

    Attributes:
        weight: the dense matrix.
        mask: True = kept.
        statistics: of the inputs; with a Hessian for a step that needs one, and None where nothing reads inputs.
        factor: the factorised Hessian, for a step that needs one; its `damping` is the one to use.
        pattern: (N, M) that the mask must keep, or None.
        block_size: columns that are worked on together, where that is a choice.
    """

    weight: Float[Tensor, "out in"]
    mask: Bool[Tensor, "out in"]
    statistics: Statistics | None
    factor: Factor | None
    pattern: tuple[int, int] | None
    block_size: int


class Step:
    """What a mask search and a reconstruction have in common.

    Attributes:
        name: the name under which it is registered.
        needs_hessian: whether it reads the Hessian of the inputs.
        needs_factor: whether it reads the factorised one, or the damping that could be factorised.
        needs_inverse: whether it reads more than the damping of it.
        precision: in which that is factorised.
        reads_inputs: whether calibration tokens enter at all.
    """

    name: str
    needs_hessian = True
    needs_factor = needs_inverse = True
    precision = torch.float32
    reads_inputs = True

    def operations(self, rows: int, columns: int) -> int:
        """Floating-point operations on a matrix pruned to one half, where they grow faster than its size.

        In units of a large matrix product in single precision: the forecast multiplies by that one's speed.
        """
        return 0

    def memory(self, rows: int, columns: int) -> int:
        """Bytes that are alive at its peak, beside the matrix, its mask, its result and what is known of its inputs."""
        return 0


class Reconstruction(Step):
    """Changes the kept weights. A subclass defines `reconstruct`.

    Attributes:
        of_block: whether `reconstruct_block` follows, once all matrices of the block are pruned.
        block_steps: steps with gradients of one batch that it takes then, for a forecast.
    """

    of_block = False
    block_steps = 0

    def reconstruct(self, layer: MaskedLayer) -> Float[Tensor, "out in"]:
        """The new matrix, zero outside the mask; the layer is left as it is."""
        raise NotImplementedError(f"{type(self).__name__} must define `reconstruct`.")

    def reconstruct_block(self, block: PrunedBlock) -> None:
        """Change the kept weights of a whole block, in place."""

    def block_memory(self, shapes: Sequence[tuple[int, int]], tokens: int) -> int:
        """Bytes of a block's own work that grow with the tokens, beside its targets; `shapes` of its matrices."""
        return 0

    def block_operations(self, shapes: Sequence[tuple[int, int]], tokens: int) -> int:
        """Operations of a block's own work, as of `operations`, beside the steps with gradients."""
        return 0


class MaskSearch(Step):
    """Changes the mask. A subclass defines `search`."""

    needs_factor = False

    def search(self, layer: MaskedLayer) -> Bool[Tensor, "out in"]:
        """The new mask, with as many kept weights as before and the same pattern; the layer is left as it is."""
        raise NotImplementedError(f"{type(self).__name__} must define `search`.")


RECONSTRUCTIONS: Registry[type[Reconstruction]] = Registry("reconstruction")
SEARCHES: Registry[type[MaskSearch]] = Registry("mask search")
Kind = TypeVar("Kind", bound=type[Step])


def register_reconstruction(name: str) -> Callable[[type[Reconstruction]], type[Reconstruction]]:
    """A decorator that makes a subclass of `Reconstruction` available behind every score: "wanda+name".

    >>> @lab.register_reconstruction("rescaled")
    ... class Rescaled(lab.pruning.Reconstruction):
    ...     '''Every row as large as it was.'''
    ...     needs_hessian = needs_factor = reads_inputs = False
    ...     def reconstruct(self, layer):
    ...         kept = layer.weight * layer.mask
    ...         return kept * layer.weight.norm(dim=1, keepdim=True) / kept.norm(dim=1, keepdim=True).clamp(min=1e-9)
    >>> lab.prune(model, tokens, method="wanda+rescaled", sparsity=0.5)

    Raises:
        ValueError: the name is taken, or holds a "+".
    """
    return _register(name, RECONSTRUCTIONS)


def register_search(name: str) -> Callable[[type[MaskSearch]], type[MaskSearch]]:
    """A decorator that makes a subclass of `MaskSearch` available behind every score: "wanda+name", "wanda+name+ls".

    >>> @lab.register_search("mirrored")
    ... class Mirrored(lab.pruning.MaskSearch):
    ...     '''The inputs from right to left.'''
    ...     needs_hessian = reads_inputs = False
    ...     def search(self, layer):
    ...         return layer.mask.flip(1)
    >>> lab.prune(model, tokens, method="wanda+mirrored", sparsity=0.5)

    Raises:
        ValueError: the name is taken, or holds a "+".
    """
    return _register(name, SEARCHES)


def _register(name: str, registry: Registry) -> Callable[[Kind], Kind]:
    if STEP in name or not name:
        raise ValueError(f"{name!r} cannot name a {registry.noun}: {STEP!r} stands between names. Choose another name.")
    for known in (RECONSTRUCTIONS, SEARCHES):
        known.refuse_taken(name)

    def register(kind: Kind) -> Kind:
        kind.name = name
        registry.add(name, kind)
        return kind

    return register


@register_reconstruction("none")
class Unchanged(Reconstruction):
    """The kept weights as they were."""

    needs_hessian = needs_factor = reads_inputs = False

    def reconstruct(self, layer: MaskedLayer) -> Tensor:
        return inside_mask(layer.weight, layer.mask)


@register_reconstruction("obs")
class OptimalBrainSurgeon(Reconstruction):
    """Column by column, what is dropped is made up for by the columns right of it (SparseGPT's update)."""

    def operations(self, rows: int, columns: int) -> int:
        return rows * columns**2

    def reconstruct(self, layer: MaskedLayer) -> Tensor:
        return obs_update(layer.weight, layer.mask, layer.factor, block_size=layer.block_size)


@register_reconstruction("ls")
class LeastSquares(Reconstruction):
    """Exact least squares on the mask: the smallest damped output error that its kept weights can have."""

    needs_inverse = False
    precision = torch.float64

    def operations(self, rows: int, columns: int) -> int:
        return least_squares_operations(rows, columns)

    def memory(self, rows: int, columns: int) -> int:
        return 8 * (3 * rows * columns + 3 * columns**2) + CHUNK_BYTES

    def reconstruct(self, layer: MaskedLayer) -> Tensor:
        return least_squares(layer.weight, layer.mask, layer.statistics.hessian, damping=layer.factor.damping)


@register_reconstruction("match")
class BlockMatching(Unchanged):
    """Steps of Adam on the kept weights of the whole block, towards the dense block's output on the same inputs."""

    reads_inputs = of_block = True
    block_steps = STEPS_OF_MATCH

    def reconstruct_block(self, block: PrunedBlock) -> None:
        match_block(block)


@register_reconstruction("regional")
class RegionalOptimisation(Unchanged):
    """Wanda++'s rounds: steps on all weights of the block towards the dense one's output, then pruning (2503.04992)."""

    reads_inputs = of_block = True
    block_steps = ROUNDS * ROUND_STEPS

    def reconstruct_block(self, block: PrunedBlock) -> None:
        optimise_regionally(block)


@register_reconstruction("admm")
class AlternatingDirections(Reconstruction):
    """Twenty steps of ADMM on the mask; it comes near to least squares and stops short of it."""

    needs_inverse = False

    def operations(self, rows: int, columns: int) -> int:
        return 2 * (STEPS + 1) * rows * columns**2 + 2 * columns**3

    def memory(self, rows: int, columns: int) -> int:
        return 4 * (4 * rows * columns + 2 * columns**2)

    def reconstruct(self, layer: MaskedLayer) -> Tensor:
        return admm_on_mask(layer.weight, layer.mask, layer.statistics.hessian, damping=layer.factor.damping)


@register_search("swaps")
class SparseSwaps(MaskSearch):
    """Exchanges of a kept and a dropped weight of a row, until none lowers the output error (2512.10922)."""

    needs_factor = True
    needs_inverse = False

    def operations(self, rows: int, columns: int) -> int:
        return SWAP_OPERATIONS * rows * columns**2

    def memory(self, rows: int, columns: int) -> int:
        together = 6 * 4 * min(rows, SWAP_ROWS) * columns
        return 3 * 8 * columns**2 + 2 * 8 * rows * columns + together + SWAP_BYTES

    def search(self, layer: MaskedLayer) -> Tensor:
        damping, hessian = layer.factor.damping, layer.statistics.hessian
        return swap_weights(layer.weight, layer.mask, hessian, damping=damping, pattern=layer.pattern).mask


@register_search("swaps-ls")
class SolvedSwaps(SparseSwaps):
    """Exchanges until none lowers the output error after least squares, for +ls to follow (2512.10922)."""

    def operations(self, rows: int, columns: int) -> int:
        return solved_swaps_operations(rows, columns)

    def memory(self, rows: int, columns: int) -> int:
        return solved_swaps_memory(rows, columns)

    def search(self, layer: MaskedLayer) -> Tensor:
        damping, hessian = layer.factor.damping, layer.statistics.hessian
        return swap_solved_weights(layer.weight, layer.mask, hessian, damping=damping, pattern=layer.pattern).mask


@register_search("dsnot")
class DSnoT(MaskSearch):
    """Exchanges that balance the mean of every row's output; the output error may rise (2310.08915)."""

    needs_hessian = False

    def search(self, layer: MaskedLayer) -> Tensor:
        own = layer.statistics
        return balance_means(
            layer.weight, layer.mask, sums=own.sums / own.n_sequences, variances=own.variances, norms=own.norms,
            pattern=layer.pattern,
        )  # fmt: skip
