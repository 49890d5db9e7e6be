"""`measured`: what each block can spare is measured by the model's output, on calibration tokens alone.

Probes prune one dense block at a time, at a sparsity below the target and at one above it, and read how far the output
moves. That is not the loss: on few tokens the loss is too noisy to tell blocks apart, and an encoder has none.
"""

from collections.abc import Iterator

import pandas as pd
import torch
from torch import Tensor

from labutils.models.structure import prunable_layers, weight_matrix
from labutils.pruning import allocation_rules as rules
from labutils.pruning.allocations import Allocation, DenseModel, Readings, Uniform, register_allocation
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.importance import relative_importance_score
from labutils.pruning.output_divergence import DenseOutput
from labutils.pruning.patterns import inside_mask, unstructured_mask
from labutils.pruning.restoring import WeightSnapshot

PROBE_STEP = 0.1
PROBE_COST = 0.25  # passes through a block that all probes together may take, in multiples of the calibration's


@register_allocation("measured")
class Measured(Allocation):
    """Half-way from uniform to what equalises the measured damage of one more weight in every block."""

    streamable = False

    def reads_inputs(self, sparsity: float) -> bool:
        return sparsity > 0

    def readings(self, n_sequences: int, length: int, n_blocks: int) -> Readings:
        at_once = _probe_size(n_sequences, n_blocks) * length
        return Readings(2 * n_blocks * at_once, at_once, share=0.5)

    def sparsities(self, dense: DenseModel) -> Tensor:
        """Raises a LookupError: the model's head reads more than what its last block puts out."""
        if dense.sparsity == 0:
            return Uniform().sparsities(dense)
        levels, damages = _levels(dense.sparsity), self._damages(dense)
        equal = rules.equal_marginal_damage(levels, damages, dense.sparsity, dense.sizes)
        # Half-way to uniform: dense neighbours make a block look easier to prune than pruned ones will.
        return (equal + dense.sparsity) / 2

    def tried(self, dense: DenseModel) -> pd.DataFrame | None:
        """The damage of every probe: block, its sparsity, divergence of the output."""
        if (damages := dense.statistics.damages.get(self._key(dense))) is None:
            return None
        rows = [
            {"block": block, "sparsity": level, "damage": damages[row, block].item()}
            for block in range(damages.shape[1])
            for row, level in enumerate(_levels(dense.sparsity))
        ]
        return pd.DataFrame(rows)

    def _key(self, dense: DenseModel) -> tuple:
        return _levels(dense.sparsity), dense.seed

    def _damages(self, dense: DenseModel) -> Tensor:
        """Of the probes, [2, blocks], found once for all who ask for them."""
        known = dense.statistics.damages
        if self._key(dense) not in known:
            known[self._key(dense)] = probe_blocks(dense, _levels(dense.sparsity))
        return known[self._key(dense)]


def probe_blocks(dense: DenseModel, levels: tuple[float, ...]) -> Tensor:
    """Divergence of the output with one block at a time pruned to each level, [levels, blocks]; the model stays dense.

    >>> probe_blocks(dense, (0.4, 0.6))[:, 0]  # of the first block
    """
    walk, norms = dense.statistics.walk, dense.statistics.norms
    walk.check_outputs()
    n_probe = _probe_size(walk.n_sequences, len(walk.blocks))
    order = torch.randperm(walk.n_sequences, generator=torch.Generator().manual_seed(dense.seed))[:n_probe]
    chosen = {key: value[order] for key, value in walk.inputs.items()}
    probes = BlockWalk(walk.model, chosen, batch_size=n_probe, prove=False)
    damages = torch.zeros(len(levels), len(walk.blocks), dtype=torch.float64)
    output = DenseOutput(probes.outputs_from(0, 0), probes.batch_inputs(0))
    for index in range(len(walk.blocks)):
        for row in _each_level(walk, index, norms[index], levels):
            damages[row, index] = output.divergence(probes.outputs_from(index, 0))
        probes.advance(index)
    return damages


def _levels(target: float) -> tuple[float, float]:
    return max(target - PROBE_STEP, target / 2), min(target + PROBE_STEP, rules.UPPER_SPARSITY)


def _probe_size(n_sequences: int, n_blocks: int) -> int:
    """Sequences of one probe, which runs the blocks from the pruned one on: half of them on average."""
    return max(1, round(PROBE_COST * n_sequences / n_blocks))


def _each_level(walk: BlockWalk, index: int, norms: dict[str, Tensor], levels: tuple[float, ...]) -> Iterator[int]:
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
