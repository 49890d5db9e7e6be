"""How many weights each matrix of a model drops: an allocation's name, resolved on the dense model.

An allocation that depends on activations looks at the *dense* model, in one pass over the calibration tokens before
anything is pruned. `ALLOCATIONS` names every allocation; a new one is a function from `DenseModel` to sparsities.
"""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from labutils.models.structure import prunable_layers, weight_matrix
from labutils.pruning import allocation as rules
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.importance import wanda_score
from labutils.pruning.matrices import MatrixMethod, matrix_score
from labutils.pruning.patterns import kth_lowest
from labutils.pruning.reconstruction import factor_hessian
from labutils.pruning.requests import PruneOptions

Budgets = dict[tuple[int, str], int]  # weights to drop, by block index and layer name


class DenseStatistics:
    """What the dense model says about its blocks, gathered when first asked for, once for any number of prunings."""

    def __init__(self, walk: BlockWalk, sparsities: Sequence[float] = ()):
        """`sparsities` are those that will be asked for, where that is known: one pass then serves them all."""
        self.walk, self.sparsities = walk, sparsities
        self._wanda: dict[float, tuple[Tensor, Tensor]] = {}
        self._global: dict[tuple, dict[float, list[float]]] = {}

    @cached_property
    def norms(self) -> list[dict[str, Tensor]]:
        """Per block, by layer name: ‖X_:j‖₂ of the layer's inputs in the dense model."""
        self.walk.rewind()
        found = []
        for index in range(len(self.walk.blocks)):
            statistics = self.walk.collect_and_advance(index, hessian=False)
            found.append({name: own.norms for name, own in statistics.items()})
        self.walk.rewind()
        return found

    @cached_property
    def sizes(self) -> Tensor:
        """Prunable weights per block."""
        counts = [sum(layer.weight.numel() for layer in prunable_layers(block).values()) for block in self.walk.blocks]
        return torch.tensor(counts, dtype=torch.float64)

    def wanda_statistics(self, multiple: float) -> tuple[Tensor, Tensor]:
        """Per block, of the Wanda scores of its matrices: outlier share in percent (OWL's D), and mean (DLP's A).

        Matrices that no token reached have no scores; a block of such matrices has neither outliers nor activations.
        """
        if multiple not in self._wanda:
            shares, means = [], []
            for block, norms in zip(self.walk.blocks, self.norms, strict=True):
                layers = prunable_layers(block)
                reached = {name: own for name, own in norms.items() if own.any()}
                scores = [wanda_score(weight_matrix(layers[name]).float(), own) for name, own in reached.items()]
                shares.append(rules.outlier_share(scores, multiple) if scores else 0.0)
                count = sum(s.numel() for s in scores)
                means.append(sum(s.sum().item() for s in scores) / count if scores else 0.0)
            self._wanda[multiple] = (
                torch.tensor(shares, dtype=torch.float64),
                torch.tensor(means, dtype=torch.float64),
            )
        return self._wanda[multiple]

    @cached_property
    def hill_exponents(self) -> Tensor:
        """Mean Hill exponent of a block's matrices; one without a tail counts as the lightest tail of the model."""
        found = [
            torch.tensor([rules.hill_exponent(weight_matrix(layer)) for layer in prunable_layers(block).values()])
            for block in self.walk.blocks
        ]
        finite = torch.cat(found)[torch.cat(found).isfinite()]
        largest = finite.max() if len(finite) else torch.tensor(1.0)
        return torch.stack([exponents.minimum(largest).double().mean() for exponents in found])

    def global_sparsities(self, method: MatrixMethod, options: PruneOptions, sparsity: float) -> list[float]:
        """One threshold for all matrices: the share of each that lies among the lowest S · N scores of the model."""
        known = self._global.setdefault((method.name, options.damping, options.standardise), {})
        if sparsity not in known:
            known |= self._measure_global(method, options, {sparsity, *self.sparsities})
        return known[sparsity]

    def _measure_global(
        self, method: MatrixMethod, options: PruneOptions, sparsities: set[float]
    ) -> dict[float, list[float]]:
        scores = self._scores(method, options)
        sizes = torch.tensor([score.numel() for score in scores], dtype=torch.float64)
        everything, found = torch.cat([score.reshape(-1) for score in scores]), {}
        for sparsity in sparsities:
            count = round(sparsity * len(everything))
            threshold = kth_lowest(everything, count) if count else -torch.inf
            shares = [(score <= threshold).double().mean().item() for score in scores]
            shares = torch.tensor(shares, dtype=torch.float64)
            found[sparsity] = rules.project_to_budget(shares, sizes, sparsity).tolist()
        return found

    def _scores(self, method: MatrixMethod, options: PruneOptions) -> list[Tensor]:
        """The scores of all matrices of the dense model, standardised where the options say so."""
        self.walk.rewind()
        scores = []
        for index, block in enumerate(self.walk.blocks):
            statistics = self.walk.collect_and_advance(index, hessian=method.needs_hessian)
            factors = {}
            for name, layer in prunable_layers(block).items():
                own = statistics[name]
                if method.score is None and id(own) not in factors:
                    factors[id(own)] = factor_hessian(own.hessian, damping=options.damping)
                score = matrix_score(weight_matrix(layer), own, method, factor=factors.get(id(own))).float()
                scores.append(_standardised(score) if options.standardise else score)
        self.walk.rewind()
        return scores


@dataclass(frozen=True)
class DenseModel:
    """One request for budgets: the dense model's statistics, and what is asked of it.

    Attributes:
        method: the method that will prune, for allocations that rank weights by its score.
    """

    statistics: DenseStatistics
    method: MatrixMethod
    sparsity: float
    options: PruneOptions

    @property
    def walk(self) -> BlockWalk:
        return self.statistics.walk

    @property
    def sizes(self) -> Tensor:
        return self.statistics.sizes

    def wanda_statistics(self) -> tuple[Tensor, Tensor]:
        return self.statistics.wanda_statistics(self.options.outlier_multiple)


Allocation = Callable[[DenseModel], Tensor]


def _uniform(dense: DenseModel) -> Tensor:
    return torch.full_like(dense.sizes, dense.sparsity)


def _owl(dense: DenseModel) -> Tensor:
    deviation = 0.08 if dense.options.deviation is None else dense.options.deviation
    return rules.owl(dense.wanda_statistics()[0], dense.sparsity, dense.sizes, deviation=deviation)


def _dlp(dense: DenseModel) -> Tensor:
    deviation = 0.15 if dense.options.deviation is None else dense.options.deviation
    return rules.dlp(dense.wanda_statistics()[1], dense.sparsity, dense.sizes, deviation=deviation)


def _alpha(dense: DenseModel) -> Tensor:
    return rules.alpha(dense.statistics.hill_exponents, dense.sparsity, dense.sizes, epsilon=dense.options.epsilon)


def _arithmetic(dense: DenseModel) -> Tensor:
    return rules.arithmetic(len(dense.sizes), dense.sparsity, dense.sizes, slope=dense.options.slope)


def _optiprune(dense: DenseModel) -> Tensor:
    options = dense.options
    deviation = rules.adaptive_deviation(
        dense.sparsity, low=options.deviation_low, high=options.deviation_high, largest=options.largest_deviation
    )
    if deviation == 0:
        return _uniform(dense)
    return rules.owl(dense.wanda_statistics()[0], dense.sparsity, dense.sizes, deviation=deviation)


ALLOCATIONS: dict[str, Allocation] = {
    "uniform": _uniform,
    "owl": _owl,
    "alpha": _alpha,
    "dlp": _dlp,
    "arithmetic": _arithmetic,
    "optiprune": _optiprune,
}


def block_sparsities(dense: DenseModel, allocation: str | Sequence[float]) -> Tensor:
    """One sparsity per block, by an allocation's name or as given.

    Raises:
        LookupError: no such allocation.
        ValueError: numbers that are not one per block, lie outside [0, 0.99], or do not average to the target.
    """
    if isinstance(allocation, str):
        if allocation not in ALLOCATIONS:
            known = [*ALLOCATIONS, "global"]
            nearest = difflib.get_close_matches(allocation, known, n=1)
            hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
            raise LookupError(
                f"There is no allocation {allocation!r}.{hint} Known: {', '.join(known)}, or one number per block."
            )
        return ALLOCATIONS[allocation](dense)
    given = torch.tensor([float(value) for value in allocation], dtype=torch.float64)
    inside = (given >= 0) & (given <= rules.UPPER_SPARSITY)  # False for NaN
    if len(given) != len(dense.sizes) or not inside.all():
        raise ValueError(
            f"The allocation must be {len(dense.sizes)} numbers, one per block, within [0, {rules.UPPER_SPARSITY}]; "
            f"got {given.tolist()}."
        )
    mean = ((given * dense.sizes).sum() / dense.sizes.sum()).item()
    if abs(mean - dense.sparsity) > 1e-3:
        raise ValueError(
            f"The allocation's parameter-weighted mean is {mean:.4f}, not the target sparsity {dense.sparsity}."
        )
    return rules.project_to_budget(given, dense.sizes, dense.sparsity)


def matrix_budgets(dense: DenseModel, allocation: str | Sequence[float]) -> Budgets:
    """How many weights each matrix drops; the total is round(S · N) exactly."""
    keys, sizes, blocks = [], [], []
    for index, block in enumerate(dense.walk.blocks):
        for name, layer in prunable_layers(block).items():
            keys.append((index, name))
            sizes.append(layer.weight.numel())
            blocks.append(index)
    if allocation == "global":
        sparsities = dense.statistics.global_sparsities(dense.method, dense.options, dense.sparsity)
    else:
        per_block = block_sparsities(dense, allocation)
        sparsities = [per_block[index].item() for index in blocks]
    return dict(zip(keys, rules.integer_budgets(sizes, sparsities, dense.sparsity), strict=True))


def _standardised(score: Tensor) -> Tensor:
    deviation = score.std()
    return (score - score.mean()) / (deviation if deviation > 0 else 1.0)
