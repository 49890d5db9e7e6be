"""How the sparsity is spread: the allocations, and how many weights each matrix drops.

An allocation looks at the *dense* model before anything is pruned, most of them in at most one pass over the tokens.
`ALLOCATIONS` names them all; `register_allocation` adds one, and `prune`, grids, streaming and forecasts then know it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import pandas as pd
import torch
from torch import Tensor

from labutils.models.structure import prunable_layers
from labutils.pruning import allocation_rules as rules
from labutils.pruning.dense_statistics import DenseStatistics
from labutils.pruning.matrices import MatrixMethod
from labutils.pruning.prune_options import PruneOptions
from labutils.pruning.registry import Registry

Budgets = dict[tuple[int, str], int]  # weights to drop, by block index and layer name


@dataclass(frozen=True)
class DenseModel:
    """What an allocation is asked about: the dense model's statistics, and the target.

    Attributes:
        method: the method that will prune, for allocations that rank weights by its score.
        sparsity: the target S.
        options: those of the call of `prune`.
        seed: of what an allocation draws.
    """

    statistics: DenseStatistics
    method: MatrixMethod
    sparsity: float
    options: PruneOptions
    seed: int = 0

    @property
    def sizes(self) -> Tensor:
        """Prunable weights per block."""
        return self.statistics.sizes


class Readings(NamedTuple):
    """What an allocation reads of the model's output to compare what it tries; for forecasts.

    Attributes:
        tokens: in all; `at_once` of them together.
        share: of the blocks that run for one of them.
    """

    tokens: int
    at_once: int
    share: float = 1.0


class Allocation:
    """How a sparsity is spread over blocks or matrices. The fields of a subclass that is a dataclass are its options.

    Attributes:
        name: the name under which it is registered.
        per_matrix: whether `sparsities` has one value per matrix instead of one per block.
        streamable: whether `prune_checkpoint`, which sees one block at a time, can use it.
        reads_scores_alone: whether it reads the weights' scores and nothing else of the dense model, so that tokens are
            run for it only where the method reads inputs.
        score_copies: how often it holds the scores of all weights at once, in float32; for forecasts of memory.
        n_levels: so many prunings of every matrix it makes beforehand and holds at once; for forecasts.
    """

    name: str
    per_matrix = False
    streamable = True
    reads_scores_alone = False
    score_copies = 0
    n_levels = 0

    def reads_inputs(self, sparsity: float) -> bool:
        """Whether tokens are run through the dense model for it."""
        return False

    def reads_hessians(self, method: MatrixMethod) -> bool:
        """Whether Hessians are gathered in that pass."""
        return False

    def readings(self, n_sequences: int, length: int, n_blocks: int) -> Readings | None:
        """What it reads of the model's output, for a calibration of `n_sequences` × `length` tokens, if anything."""
        return None

    def sparsities(self, dense: DenseModel) -> Tensor | Sequence[float]:
        """The rule: sparsities whose parameter-weighted mean is the target."""
        raise NotImplementedError(f"{type(self).__name__} must define `sparsities`.")

    def tried(self, dense: DenseModel) -> pd.DataFrame | None:
        """How it came to them, for the report, where it searched; the model is not dense any more."""
        return None


ALLOCATIONS: Registry[type[Allocation]] = Registry("allocation")
Kind = TypeVar("Kind", bound=type[Allocation])


def register_allocation(name: str) -> Callable[[Kind], Kind]:
    """A decorator that makes a subclass of `Allocation` available under a name.

    >>> @lab.register_allocation("tapered")
    ... @dataclass(frozen=True)
    ... class Tapered(lab.pruning.Allocation):
    ...     '''The last block denser, the others alike.'''
    ...     taper: float = 0.1
    ...     def sparsities(self, dense):
    ...         raw = torch.full_like(dense.sizes, dense.sparsity)
    ...         raw[-1] -= self.taper
    ...         return lab.pruning.project_to_budget(raw, dense.sizes, dense.sparsity)
    >>> lab.prune(model, tokens, method="wanda", sparsity=0.5, allocation="tapered", taper=0.2)

    Raises:
        ValueError: the name is taken.
    """
    ALLOCATIONS.refuse_taken(name)

    def register(kind: Kind) -> Kind:
        kind.name = name
        ALLOCATIONS.add(name, kind)
        return kind

    return register


@register_allocation("uniform")
class Uniform(Allocation):
    """The same sparsity in every block."""

    def sparsities(self, dense: DenseModel) -> Tensor:
        return torch.full_like(dense.sizes, dense.sparsity)


@register_allocation("owl")
@dataclass(frozen=True)
class Owl(Allocation):
    """More outliers, denser (OWL, arXiv 2310.05175).

    Attributes:
        owl_lambda: half the range of the block densities.
        owl_m: an outlier is above M × the block's mean score.
    """

    owl_lambda: float = 0.08
    owl_m: float = 5.0

    def reads_inputs(self, sparsity: float) -> bool:
        return True

    def sparsities(self, dense: DenseModel) -> Tensor:
        shares, _ = dense.statistics.wanda_statistics(self.owl_m)
        return rules.owl(shares, dense.sparsity, dense.sizes, deviation=self.owl_lambda)


@register_allocation("alpha")
@dataclass(frozen=True)
class Alpha(Allocation):
    """Heavier eigenvalue tail, denser (AlphaPruning, arXiv 2410.10912).

    Attributes:
        epsilon: half the relative range of the block sparsities.
    """

    epsilon: float = 0.3

    def sparsities(self, dense: DenseModel) -> Tensor:
        return rules.alpha(dense.statistics.hill_exponents, dense.sparsity, dense.sizes, epsilon=self.epsilon)


@register_allocation("dlp")
@dataclass(frozen=True)
class Dlp(Allocation):
    """Larger share of the activation, sparser (DLP, arXiv 2505.23807).

    Attributes:
        dlp_lambda: half the range of the block densities.
    """

    dlp_lambda: float = 0.15

    def reads_inputs(self, sparsity: float) -> bool:
        return True

    def sparsities(self, dense: DenseModel) -> Tensor:
        _, means = dense.statistics.wanda_statistics(Owl.owl_m)  # the means do not depend on M
        return rules.dlp(means, dense.sparsity, dense.sizes, deviation=self.dlp_lambda)


@register_allocation("arithmetic")
@dataclass(frozen=True)
class Arithmetic(Allocation):
    """Sparser by the same step from each block to the next.

    Attributes:
        slope: sparsity added per block.
    """

    slope: float = 0.02

    def sparsities(self, dense: DenseModel) -> Tensor:
        return rules.arithmetic(len(dense.sizes), dense.sparsity, dense.sizes, slope=self.slope)


class _OneThreshold(Allocation):
    """One threshold for the scores of all matrices, which are compared as they are or as `standardise` says."""

    standardise: bool
    per_matrix = True
    streamable = False
    reads_scores_alone = True
    score_copies = 1

    def reads_inputs(self, sparsity: float) -> bool:
        return True

    def reads_hessians(self, method: MatrixMethod) -> bool:
        return method.needs_hessian

    def sparsities(self, dense: DenseModel) -> list[float]:
        return dense.statistics.global_sparsities(
            dense.method, dense.sparsity, standardise=self.standardise, damping=dense.options.damping
        )


@register_allocation("global")
@dataclass(frozen=True)
class Global(_OneThreshold):
    """One threshold for the scores of all matrices.

    Attributes:
        standardise: whether scores are compared in standard deviations of their own matrix.
    """

    standardise: bool = True


@register_allocation("global-raw")
class RawGlobal(_OneThreshold):
    """One threshold for the raw scores of all matrices; with magnitudes the class-blind pruning of arXiv 1606.09274."""

    standardise = False


@register_allocation("optiprune")
@dataclass(frozen=True)
class AdaptiveOwl(Allocation):
    """Uniform at low sparsities, OWL with a growing range at higher ones (OptiPrune's λ(S)).

    Attributes:
        lambda_low, lambda_high, lambda_max: λ rises from 0 at the first sparsity to its largest value at the second.
        owl_m: as OWL's.
    """

    lambda_low: float = 0.4
    lambda_high: float = 0.7
    lambda_max: float = 0.08
    owl_m: float = Owl.owl_m

    def owl_lambda(self, sparsity: float) -> float:
        """λ(S)."""
        return rules.adaptive_deviation(sparsity, low=self.lambda_low, high=self.lambda_high, largest=self.lambda_max)

    def reads_inputs(self, sparsity: float) -> bool:
        return self.owl_lambda(sparsity) > 0

    def sparsities(self, dense: DenseModel) -> Tensor:
        if not self.reads_inputs(dense.sparsity):
            return Uniform().sparsities(dense)
        return Owl(self.owl_lambda(dense.sparsity), self.owl_m).sparsities(dense)


def matrix_budgets(dense: DenseModel, allocation: Allocation) -> Budgets:
    """How many weights each matrix drops; the total is round(S · N) exactly."""
    keys, sizes, blocks = [], [], []
    for index, block in enumerate(dense.statistics.walk.blocks):
        for name, layer in prunable_layers(block).items():
            keys.append((index, name))
            sizes.append(layer.weight.numel())
            blocks.append(index)
    sparsities = [float(value) for value in allocation.sparsities(dense)]
    if not allocation.per_matrix:
        sparsities = [sparsities[index] for index in blocks]
    return dict(zip(keys, rules.integer_budgets(sizes, sparsities, dense.sparsity), strict=True))
