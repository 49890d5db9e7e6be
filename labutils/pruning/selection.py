"""`optiprune-auto`: how the sparsity is spread is chosen by measurement, on calibration tokens alone.

1. *Probes* prune one dense block at a time and read the model's output: what each block can spare gives an allocation.
2. *Candidates* are carried out block by block, as the model will be left: SparseGPT with that allocation and with
   OWL's. The less damaged model stays.

Damage is the divergence of the output from the dense model's on calibration tokens, the same for both candidates. It is
not the loss: on few tokens the loss is too noisy to tell candidates apart, and an encoder has none. Nothing is held
out: candidates that were pruned on the same tokens in the same way profit from them alike. That is also why relative
importance is no candidate: its weights were not fitted to these tokens, so they cannot tell the two apart fairly.

Where an input has few tokens to its name, the Hessian is damped more: the repair would fit their noise.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor

from labutils.models.structure import prunable_layers, weight_matrix
from labutils.pruning import allocation_rules as rules
from labutils.pruning.allocations import Allocation, Owl, Uniform, matrix_budgets
from labutils.pruning.blocks import prune_walk
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.dense_statistics import DenseStatistics
from labutils.pruning.given_allocation import Given
from labutils.pruning.importance import relative_importance_score
from labutils.pruning.matrices import MatrixMethod, SparseGPT
from labutils.pruning.methods import Method, Request, register_method
from labutils.pruning.output_divergence import DenseOutput
from labutils.pruning.patterns import inside_mask, unstructured_mask
from labutils.pruning.report import PruneReport
from labutils.pruning.restoring import WeightSnapshot
from labutils.pruning.scarcity import needed_damping

READ_TOKENS = 2048  # tokens that compare the candidates; the dense model's predictions of them are kept meanwhile
PROBE_STEP = 0.1
PROBE_COST = 0.25  # passes through a block that all probes together may take, in multiples of the calibration's


@dataclass(frozen=True)
class _Candidate:
    allocation: str
    damage: float
    report: PruneReport
    weights: list[Tensor]


class Measured(Allocation):
    """Half-way from uniform to what equalises the measured damage of one more weight in every block."""

    name = "measured"

    def reads_inputs(self, sparsity: float) -> bool:
        return True


@register_method("optiprune-auto")
@dataclass(frozen=True)
class OptiPruneAuto(Method):
    """SparseGPT with the allocation that damages the model's output least, found by measurement.

    Attributes:
        owl_lambda, owl_m: of the candidate that is allocated by OWL.
    """

    owl_lambda: float = Owl.owl_lambda
    owl_m: float = Owl.owl_m

    default_allocation = Measured
    streamable = False

    def matrix_method(self, sparsity: float) -> MatrixMethod:
        return SparseGPT()

    def has_choice(self, request: Request) -> bool:
        """Whether there is more than one candidate: no allocation was asked for, and something is to be removed."""
        return isinstance(request.allocation, Measured) and request.sparsity > 0

    def n_walks(self, request: Request) -> int:
        return 2 if self.has_choice(request) else 1

    def check(self, request: Request) -> None:
        if request.allocation.per_matrix:
            raise ValueError(
                f"{self.name} chooses sparsities per block; allocation={request.allocation.name!r} is per matrix. "
                "Leave it out."
            )

    def plan(self, statistics: DenseStatistics, request: Request) -> None:
        return None

    def carry_out(self, statistics: DenseStatistics, request: Request) -> PruneReport:
        """Carry out the candidates, and leave the dense model pruned as the least damaged of them."""
        request = _damped_by_scarcity(statistics, request)
        reader = _Reader(statistics.walk, request)
        tried, best = [], None
        with WeightSnapshot(statistics.walk.blocks) as dense:
            for allocation, sparsities in self._candidates(statistics, request).items():
                dense.restore()
                report = self._prune(statistics, request, sparsities)
                candidate = _Candidate(allocation, reader.damage(), report, dense.current())
                method = self.matrix_method(request.sparsity).name
                tried.append({"method": method, "allocation": allocation, "damage": candidate.damage})
                best = candidate if best is None or candidate.damage < best.damage else best
            dense.restore(best.weights)
        table = pd.DataFrame(tried)
        return replace(best.report, candidates=table.assign(chosen=table["allocation"] == best.allocation))

    def _candidates(self, statistics: DenseStatistics, request: Request) -> dict[str, Tensor]:
        """The sparsities per block that are tried, by the allocation's name."""
        dense = self.dense_model(statistics, request)
        if not self.has_choice(request):
            asked = Uniform() if isinstance(request.allocation, Measured) else request.allocation
            return {asked.name: asked.sparsities(dense)}
        # Half-way to uniform: dense neighbours make a block look easier to prune than pruned ones will.
        measured = (_measure(statistics, request) + request.sparsity) / 2
        return {"measured": measured, "owl": Owl(self.owl_lambda, self.owl_m).sparsities(dense)}

    def _prune(self, statistics: DenseStatistics, request: Request, sparsities: Tensor) -> PruneReport:
        dense = self.dense_model(statistics, request)
        budgets = matrix_budgets(dense, Given(sparsities.tolist()))
        return prune_walk(statistics.walk, [dense.method] * len(statistics.walk.blocks), budgets, request)


def _damped_by_scarcity(statistics: DenseStatistics, request: Request) -> Request:
    """The request with its damping raised where the model's widest input has few calibration tokens to its name."""
    damping = max(request.options.damping, needed_damping(statistics.walk))
    return replace(request, options=replace(request.options, damping=damping))


class _Reader:
    """Compares the model's output, as it is now, with the dense model's, on some batches of the walk."""

    def __init__(self, walk: BlockWalk, request: Request):
        self.walk, self.sequential = walk, request.options.sequential
        order = torch.randperm(len(walk.hidden), generator=torch.Generator().manual_seed(request.seed)).tolist()
        tokens_per_batch = walk.batch_inputs(0)["input_ids"].numel()
        self.batches = order[: max(1, READ_TOKENS // tokens_per_batch)]
        walk.rewind()
        walk.check_outputs()
        self.dense = [DenseOutput(walk.outputs_from(0, batch), walk.batch_inputs(batch)) for batch in self.batches]

    def damage(self) -> float:
        """Mean divergence; a walk that has just pruned the model in sequence stands before its last block."""
        first = len(self.walk.blocks) - 1
        if not self.sequential:
            first = 0
            self.walk.rewind()
        pairs = zip(self.dense, self.batches, strict=True)
        found = [dense.divergence(self.walk.outputs_from(first, batch)) for dense, batch in pairs]
        weights = [dense.weights.sum().item() for dense in self.dense]
        return sum(value * weight for value, weight in zip(found, weights, strict=True)) / sum(weights)


def _measure(statistics: DenseStatistics, request: Request) -> Tensor:
    """Prune one block at a time at two sparsities, and equalise what one more weight costs."""
    target, walk = request.sparsity, statistics.walk
    levels = (max(target - PROBE_STEP, target / 2), min(target + PROBE_STEP, rules.UPPER_SPARSITY))
    damages = torch.zeros(2, len(walk.blocks), dtype=torch.float64)
    # a probe runs the blocks from the pruned one on: half of them on average
    n_probe = max(1, round(PROBE_COST * walk.n_sequences / len(walk.blocks)))
    order = torch.randperm(walk.n_sequences, generator=torch.Generator().manual_seed(request.seed))[:n_probe]
    chosen = {key: value[order] for key, value in walk.inputs.items()}
    probes = BlockWalk(walk.model, chosen, batch_size=n_probe, prove=False)
    dense = DenseOutput(probes.outputs_from(0, 0), probes.batch_inputs(0))
    for index, norms in enumerate(statistics.norms):
        for row in _each_level(walk, index, norms, levels):
            damages[row, index] = dense.divergence(probes.outputs_from(index, 0))
        probes.advance(index)
    return rules.equal_marginal_damage(levels, damages, target, statistics.sizes)


def _each_level(walk: BlockWalk, index: int, norms: dict[str, Tensor], levels: tuple[float, float]) -> Iterator[int]:
    """Leave a block pruned by relative importance to one level after the other, then dense again.

    Relative importance is what probes are pruned by because it needs no solving.
    """
    weights = {name: weight_matrix(layer) for name, layer in prunable_layers(walk.blocks[index]).items()}
    scores = {name: relative_importance_score(weight.float(), norms[name]) for name, weight in weights.items()}
    with torch.no_grad(), WeightSnapshot([walk.blocks[index]], on_device=True) as dense:
        for row, level in enumerate(levels):
            for name, weight in weights.items():
                weight.copy_(inside_mask(weight, unstructured_mask(scores[name], round(level * weight.numel()))))
            yield row
            dense.restore()
