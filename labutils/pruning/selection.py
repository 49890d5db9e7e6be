"""`optiprune-auto`: strategy and allocation chosen by measurement on held-out calibration sequences.

Candidates are tried on the dense model with the statistics of one dense pass, all blocks pruned at once; what they do
to the model's output on the held-out sequences decides. Only the winner is then carried out block by block, on all
calibration sequences. Evaluation data are never seen. A candidate's damage is the held-out loss plus the divergence of
its next-token distributions from the dense model's: the loss is what counts but is noisy on few tokens, the divergence
is steady but blind to what the text says. An encoder has no loss and is judged by the divergence of its embeddings.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from labutils.models import is_causal, prunable_layers, weight_matrix
from labutils.pruning import allocation as rules
from labutils.pruning.budgets import DenseModel, DenseStatistics, block_sparsities, matrix_budgets
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.matrices import matrix_method, prune_matrix
from labutils.pruning.patterns import parse_pattern
from labutils.pruning.pipeline import factor_all, prune_walk, restored_on_failure
from labutils.pruning.reconstruction import Factor
from labutils.pruning.report import PruneReport, Request
from labutils.pruning.statistics import Statistics

STRATEGIES = ("ria", "ria+obs", "sparsegpt")
PROBE = "ria"  # measures how much each block can spare: cheap, since it solves nothing
PROBE_STEP = 0.1
PROBE_COST = 0.75  # sequences that all probes together may run, in multiples of the calibration


def prune_by_measurement(statistics: DenseStatistics, request: Request) -> PruneReport:
    """Choose among the candidates, then prune the dense model with the winner.

    Raises:
        ValueError: fewer than two calibration sequences, so that none can be held out.
    """
    trial = _Trial.start(statistics, request)
    candidates = trial.choose()
    best = min(candidates, key=lambda candidate: candidate.damage)
    method = matrix_method(best.method)
    dense = DenseModel(statistics, method, request.sparsity, request.options)
    budgets = matrix_budgets(dense, best.sparsities.tolist())
    report = prune_walk(statistics.walk, [method] * len(statistics.walk.blocks), budgets, request)
    table = pd.DataFrame(
        [{"method": c.method, "allocation": c.allocation, "damage": c.damage, "chosen": c is best} for c in candidates]
    )
    return replace(report, candidates=table)


@dataclass(frozen=True)
class _Candidate:
    method: str
    allocation: str
    sparsities: Tensor
    damage: float


class _Trial:
    """The dense model with its statistics on the fitting sequences, and the held-out sequences to read it on."""

    def __init__(self, statistics: DenseStatistics, request: Request, fit: BlockWalk, held_out: dict[str, Tensor]):
        self.dense, self.request, self.fit, self.held_out = statistics, request, fit, held_out
        self.model, self.blocks = fit.model, fit.blocks
        self.pattern = parse_pattern(request.pattern)
        self.statistics: list[dict[str, Statistics]] = []
        self.factors: list[dict[int, Factor]] = []

    @classmethod
    def start(cls, statistics: DenseStatistics, request: Request) -> "_Trial":
        walk = statistics.walk
        if walk.n_sequences < 2:
            raise ValueError("optiprune-auto holds out part of the calibration; give it at least two sequences.")
        order = torch.randperm(walk.n_sequences, generator=torch.Generator().manual_seed(request.seed))
        n_held = min(max(1, round(request.options.held_out * walk.n_sequences)), walk.n_sequences - 1)
        held, kept = order[:n_held].sort().values, order[n_held:].sort().values
        fit = BlockWalk(
            walk.model, {key: value[kept] for key, value in walk.inputs.items()}, batch_size=request.options.batch_size
        )
        trial = cls(statistics, request, fit, {key: value[held] for key, value in walk.inputs.items()})
        for index in range(len(fit.blocks)):
            found = fit.collect_and_advance(index, hessian=True)
            trial.statistics.append(found)
            trial.factors.append(factor_all(found, request.options.damping))
        trial.reference = trial.outputs(trial.held_out)
        return trial

    def choose(self) -> list[_Candidate]:
        """All candidates that were tried: the strategies under one allocation, then the other allocations."""
        allocations = self._allocations()
        first = next(iter(allocations))
        tried = [self._try(method, first, allocations[first]) for method in STRATEGIES]
        best = min(tried, key=lambda candidate: candidate.damage).method
        return tried + [self._try(best, name, allocations[name]) for name in list(allocations)[1:]]

    def _allocations(self) -> dict[str, Tensor]:
        request = self.request
        dense = DenseModel(self.dense, matrix_method(PROBE), request.sparsity, request.options)
        if self.pattern or request.allocation is not None or request.sparsity == 0:
            asked = request.allocation or "uniform"
            if asked == "global":
                raise ValueError(
                    'optiprune-auto chooses sparsities per block; allocation="global" is per matrix. Leave it out.'
                )
            return {asked if isinstance(asked, str) else "given": block_sparsities(dense, asked)}
        measured = self._measured()
        return {
            "measured": measured,
            "half measured": (measured + request.sparsity) / 2,
            "owl": block_sparsities(dense, "owl"),
            "uniform": block_sparsities(dense, "uniform"),
        }

    def _measured(self) -> Tensor:
        """Prune one block at a time at two sparsities, and equalise what one more weight costs."""
        target, sizes = self.request.sparsity, self.dense.sizes
        levels = (max(target - PROBE_STEP, target / 2), min(target + PROBE_STEP, rules.UPPER_SPARSITY))
        damages = torch.zeros(2, len(self.blocks), dtype=torch.float64)
        n_probe = max(1, round(PROBE_COST * self.dense.walk.n_sequences / damages.numel()))
        probe = {key: value[:n_probe] for key, value in self.held_out.items()}
        reference = self.outputs(probe)
        for row, level in enumerate(levels):
            for index in range(len(self.blocks)):
                uniform = torch.full_like(sizes, level)
                with self._pruned(PROBE, uniform, [index]):
                    damages[row, index] = self.divergence(reference, self.outputs(probe), probe)
        return rules.equal_marginal_damage(levels, damages, target, sizes)

    def _try(self, method: str, name: str, sparsities: Tensor) -> _Candidate:
        with self._pruned(method, sparsities, range(len(self.blocks))):
            outputs = self.outputs(self.held_out)
        damage = self.divergence(self.reference, outputs, self.held_out) + self.loss(outputs, self.held_out)
        return _Candidate(method, name, sparsities, damage)

    @contextmanager
    def _pruned(self, method: str, sparsities: Tensor, indices: Sequence[int]) -> Iterator[None]:
        """Some blocks pruned from the dense statistics, until the context ends."""
        chosen, options = matrix_method(method), self.request.options
        with restored_on_failure(self.blocks[index] for index in indices) as dense:
            for index in indices:
                for name, layer in prunable_layers(self.blocks[index]).items():
                    own, weight = self.statistics[index][name], weight_matrix(layer)
                    result = prune_matrix(
                        weight, own, chosen, n_drop=round(weight.numel() * sparsities[index].item()),
                        pattern=self.pattern, factor=self.factors[index][id(own)], block_size=options.block_size,
                        group=options.group,
                    )  # fmt: skip
                    weight.copy_(result.weight)
            yield
            dense.restore()

    @torch.no_grad()
    def outputs(self, inputs: dict[str, Tensor]) -> list[Tensor]:
        """What the model puts out, by batch: next-token log-probabilities, or an encoder's pooled unit vectors."""
        found, size = [], self.request.options.batch_size
        for start in range(0, len(inputs["input_ids"]), size):
            batch = {key: value[start : start + size].to(self.model.device) for key, value in inputs.items()}
            output = self.model(**batch)
            if is_causal(self.model):
                found.append(output.logits.float().log_softmax(dim=-1))
            else:
                mask = batch.get("attention_mask", torch.ones_like(batch["input_ids"])).unsqueeze(-1)
                found.append(F.normalize((output.last_hidden_state.float() * mask).sum(dim=1), dim=-1))
        return found

    def divergence(self, dense: list[Tensor], pruned: list[Tensor], inputs: dict[str, Tensor]) -> float:
        """Mean Kullback–Leibler divergence per token (nats), or 1 − cosine per sequence for an encoder."""
        if not is_causal(self.model):
            return (
                1 - torch.cat([(a * b).sum(dim=-1) for a, b in zip(dense, pruned, strict=True)]).double().mean().item()
            )
        moved = torch.cat([(a.exp() * (a - b)).sum(dim=-1) for a, b in zip(dense, pruned, strict=True)])
        return _masked_mean(moved, inputs)

    def loss(self, outputs: list[Tensor], inputs: dict[str, Tensor]) -> float:
        """Mean next-token loss (nats); 0 for an encoder, which has none."""
        if not is_causal(self.model):
            return 0.0
        log_probabilities = torch.cat(outputs)[:, :-1]
        targets = inputs["input_ids"][:, 1:].to(log_probabilities.device)
        losses = -log_probabilities.gather(2, targets.unsqueeze(-1)).squeeze(-1)
        return _masked_mean(losses, {key: value[:, 1:] for key, value in inputs.items()})


def _masked_mean(values: Tensor, inputs: dict[str, Tensor]) -> float:
    """Mean over the tokens that are not padding."""
    mask = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])).to(values.device)
    return ((values * mask).sum() / mask.sum()).item()
