"""The arguments of `prune`, checked before anything runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from labutils.core.options import read_options
from labutils.models.structure import prunable_layers, weight_matrix
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.matrices import matrix_method
from labutils.pruning.patterns import parse_pattern


@dataclass(frozen=True)
class PruneOptions:
    """Options of `prune`.

    Attributes:
        batch_size: calibration sequences that run together; speed and memory only.
        sequential: whether a block is pruned by what it reads behind the pruned blocks before it, as the papers do;
            False lets all blocks read the dense model's activations, in about half the time, and in a grid but once.
        restorable: whether a copy of the weights is kept, so that a failure half-way leaves the model as it was. False
            spares the memory of one copy; a model whose pruning then fails is to be loaded anew. `prune_grid` keeps a
            copy in any case, from which every pruning starts.
        damping: share of the Hessian's mean diagonal that is added to it (SparseGPT's 0.01).
        block_size: columns whose SparseGPT mask is chosen together.
        group: compare scores by "row" or "matrix" instead of the score's own default.
        deviation: half the range of the block densities in OWL (0.08) and DLP (0.15); None takes their own.
        outlier_multiple: OWL's M: an outlier is above M × the block's mean score.
        epsilon: half the relative range of AlphaPruning's block sparsities.
        slope: sparsity added per block by the arithmetic allocation.
        standardise: whether the global allocation compares scores in standard deviations of their own matrix.
        threshold: OptiPrune's τ: below this sparsity `below` prunes, from it on `above`.
        threshold_on: compare τ with the model's sparsity ("global") or with each block's ("layer").
        deviation_low, deviation_high, largest_deviation: OptiPrune's λ(S) rises from 0 to the largest between them.
    """

    batch_size: int = 8
    sequential: bool = True
    restorable: bool = True
    damping: float = 0.01
    block_size: int = 128
    group: Literal["row", "matrix"] | None = None
    deviation: float | None = None
    outlier_multiple: float = 5.0
    epsilon: float = 0.3
    slope: float = 0.02
    standardise: bool = True
    threshold: float = 0.5
    threshold_on: Literal["global", "layer"] = "global"
    below: str = "ria"
    above: str = "sparsegpt"
    deviation_low: float = 0.4
    deviation_high: float = 0.7
    largest_deviation: float = 0.08

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.block_size < 1:
            raise ValueError(f"batch_size ({self.batch_size}) and block_size ({self.block_size}) must be at least 1.")
        if self.group not in (None, "row", "matrix") or self.threshold_on not in ("global", "layer"):
            raise ValueError(
                f'group={self.group!r} must be None, "row" or "matrix"; '
                f'threshold_on={self.threshold_on!r} must be "global" or "layer".'
            )
        for name in ("sequential", "restorable"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name}={getattr(self, name)!r} must be True or False.")
        if self.damping <= 0:
            raise ValueError(f"damping ({self.damping}) must be above 0.")


@dataclass(frozen=True)
class Request:
    """What one call of `prune` asks for, checked."""

    method: str
    sparsity: float
    allocation: str | Sequence[float] | None
    pattern: str
    permute: bool
    seed: int
    options: PruneOptions


def make_request(
    method: str,
    sparsity: float,
    allocation: str | Sequence[float] | None,
    pattern: str,
    permute: bool,
    seed: int,
    options: dict,
) -> Request:
    """Check the arguments of `prune`; raises ValueError or LookupError as documented there."""
    settings = read_options(PruneOptions, options, of="prune")
    if method not in ("optiprune", "optiprune-auto"):
        matrix_method(method)
    _check_request(sparsity, pattern, permute, allocation)
    return Request(method, sparsity, allocation, pattern, permute, seed, settings)


def check_widths(walk: BlockWalk, pattern: str) -> None:
    """Raises a ValueError naming the first matrix whose inputs an N:M pattern does not divide."""
    parsed = parse_pattern(pattern)
    for index, block in enumerate(walk.blocks if parsed else ()):
        for name, layer in prunable_layers(block).items():
            if (width := weight_matrix(layer).shape[1]) % parsed[1]:
                raise ValueError(
                    f"{walk.prefix}.{index}.{name} has {width} inputs, which a {pattern} pattern does not divide; "
                    f'choose a group size that divides it, or pattern="unstructured".'
                )


def _check_request(sparsity: float, pattern: str, permute: bool, allocation: object) -> None:
    if isinstance(sparsity, bool) or not isinstance(sparsity, int | float) or not 0 <= sparsity < 1:
        raise ValueError(f"sparsity={sparsity!r} must be a share in [0, 1): 0.5 removes half of the weights.")
    parsed = parse_pattern(pattern)
    if parsed is None:
        if permute:
            raise ValueError('permute=True needs an N:M pattern, for example pattern="2:4".')
        return
    keep_n, group_m = parsed
    if abs(sparsity - (1 - keep_n / group_m)) > 1e-9:
        raise ValueError(f"A {pattern} pattern has the sparsity {1 - keep_n / group_m:g}; got sparsity={sparsity}.")
    if allocation not in (None, "uniform"):
        raise ValueError(
            f"A {pattern} pattern gives every block the same sparsity; leave out allocation={allocation!r}."
        )
