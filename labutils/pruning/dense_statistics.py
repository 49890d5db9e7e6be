"""What the dense model says about its blocks, before anything is pruned: what allocations read."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial

import torch
from torch import Tensor, nn

from labutils.models.experts import holds_experts
from labutils.models.structure import Layer, prunable_layers, weight_matrix
from labutils.pruning import allocation_rules as rules
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.gradient_passes import find_gradients, keep_gradients
from labutils.pruning.importance import wanda_score
from labutils.pruning.level_switching import LevelSearch
from labutils.pruning.matrices import UNREACHED, MatrixMethod, matrix_score
from labutils.pruning.reconstruction import Factor
from labutils.pruning.statistics import BlockInputs, Statistics
from labutils.pruning.thresholds import kth_lowest_of_parts

Scores = Callable[[], Iterable[Tensor]]  # of all matrices, one by one, as often as they are asked for


class DenseStatistics:
    """What the dense model says about its blocks, gathered when first asked for, once for any number of prunings."""

    def __init__(self, walk: BlockWalk, sparsities: Sequence[float] = ()):
        """`sparsities` are those that will be asked for, where that is known: one pass then serves them all."""
        self.walk, self.sparsities = walk, sparsities
        self._wanda: dict[float, tuple[Tensor, Tensor]] = {}
        self._global: dict[tuple, dict[float, list[float]]] = {}
        self.searches: dict[object, LevelSearch] = {}  # by what was asked for
        self.damages: dict[object, Tensor] = {}  # of probes, likewise

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
        return block_sizes(self.walk.blocks)

    def wanda_statistics(self, multiple: float) -> tuple[Tensor, Tensor]:
        """Per block, of the Wanda scores of its matrices: outlier share in percent (OWL's D), and mean (DLP's A).

        Matrices that no token reached have no scores; a block of such matrices has neither outliers nor activations.
        """
        if multiple not in self._wanda:
            shares, means = [], []
            for index, norms in enumerate(self.norms):
                layers = prunable_layers(self.walk.block(index))
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
        found = []
        for index in range(len(self.walk.blocks)):
            matrices = [weight_matrix(layer) for layer in prunable_layers(self.walk.block(index)).values()]
            found.append(torch.tensor([rules.hill_exponent(matrix) for matrix in matrices]))
        finite = torch.cat(found)[torch.cat(found).isfinite()]
        largest = finite.max() if len(finite) else torch.tensor(1.0)
        return torch.stack([exponents.minimum(largest).double().mean() for exponents in found])

    def global_sparsities(
        self, method: MatrixMethod, sparsity: float, *, standardise: bool, damping: float
    ) -> list[float]:
        """One threshold for all matrices: the share of each that lies among the lowest S · N scores of the model.

        Args:
            standardise: whether scores are compared in standard deviations of their own matrix.
            damping: of the Hessians, for a method that ranks by them.
        """
        known = self._global.setdefault((method, standardise, damping), {})
        if sparsity not in known:
            if needs_tokens([method], self.walk.blocks):
                scores = list(self._scores_of_inputs(method, standardise, damping))
                known |= self._cut_globally(lambda: scores, {sparsity, *self.sparsities})
            else:  # weights alone: their scores are computed again rather than kept
                scores_of_weights = partial(self._scores_of_weights, method, standardise)
                known |= self._cut_globally(scores_of_weights, {sparsity, *self.sparsities})
        return known[sparsity]

    def _cut_globally(self, scores: Scores, sparsities: set[float]) -> dict[float, list[float]]:
        total = int(self.sizes.sum())
        counts = {sparsity: round(sparsity * total) for sparsity in sparsities}
        thresholds = {0: -torch.inf, **kth_lowest_of_parts(scores, {count for count in counts.values() if count})}
        shares: dict[float, list[float]] = {sparsity: [] for sparsity in sparsities}
        sizes = []
        for score in scores():
            sizes.append(score.numel())
            for sparsity, count in counts.items():
                shares[sparsity].append(int((score <= thresholds[count]).count_nonzero()) / score.numel())
        weights = torch.tensor(sizes, dtype=torch.float64)
        return {
            sparsity: rules.project_to_budget(torch.tensor(own, dtype=torch.float64), weights, sparsity).tolist()
            for sparsity, own in shares.items()
        }

    def _scores_of_weights(self, method: MatrixMethod, standardise: bool) -> Iterator[Tensor]:
        """The scores of all matrices, by a method that reads no inputs."""
        for block in self.walk.blocks:
            for layer in prunable_layers(block).values():
                score = matrix_score(weight_matrix(layer), None, method).float()
                yield _standardised(score) if standardise else score

    def _scores_of_inputs(self, method: MatrixMethod, standardise: bool, damping: float) -> Iterator[Tensor]:
        """The scores of all matrices of the dense model, in a pass over it."""
        for _, _, layer, own, factor in self.matrices(method, damping, factorise=method.ranks_by_hessian):
            score = matrix_score(weight_matrix(layer), own, method, factor=factor).float()
            yield _standardised(score) if standardise else score

    def matrices(
        self, method: MatrixMethod, damping: float, *, factorise: bool
    ) -> Iterator[tuple[int, str, Layer, Statistics, Factor | None]]:
        """In a pass over the dense model: every matrix's block, name, layer, and what a method reads of its inputs."""
        self.walk.rewind()
        keep_gradients(self.walk, [method])
        for index, block in enumerate(self.walk.blocks):
            gradients = find_gradients(self.walk, index, method)
            inputs = BlockInputs(partial(self.walk.collect_and_advance, index))
            statistics = inputs.statistics(hessian=method.needs_hessian)
            factors = inputs.factors(damping, method.precision, inverse=method.needs_inverse) if factorise else {}
            for name, layer in prunable_layers(block).items():
                own = statistics[name]
                factor = factors.get(id(own))
                if name in gradients:
                    own = dataclasses.replace(own, gradient=gradients[name])
                yield index, name, layer, own, factor
        self.walk.rewind()


def needs_tokens(methods: Iterable[MatrixMethod], blocks: Iterable[nn.Module]) -> bool:
    """Whether tokens must be run for these methods' scores: not for scores of weights alone.

    Whether tokens reach an expert is only known after running them, and decides by what it is pruned; except by
    magnitude, which prunes those without tokens as well.
    """
    kinds = set(methods)
    return any(method.reads_inputs for method in kinds) or (kinds != {UNREACHED} and any(map(holds_experts, blocks)))


def block_sizes(blocks: Iterable[nn.Module]) -> Tensor:
    """Prunable weights per block; shapes are enough."""
    counts = [sum(layer.weight.numel() for layer in prunable_layers(block).values()) for block in blocks]
    return torch.tensor(counts, dtype=torch.float64)


def _standardised(score: Tensor) -> Tensor:
    deviation = score.std()
    return (score - score.mean()) / (deviation if deviation > 0 else 1.0)
