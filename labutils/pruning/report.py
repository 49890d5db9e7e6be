"""What `prune` was asked for, and what it reports."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd
from torch import Tensor

from labutils.models.structure import Layer, weight_matrix
from labutils.pruning.matrices import MatrixResult
from labutils.pruning.methods import Request
from labutils.pruning.patterns import count_zeros
from labutils.pruning.reconstruction import Factor
from labutils.pruning.statistics import Statistics

LAYER_COLUMNS = [
    "name", "block", "rows", "cols", "target", "sparsity", "damping", "dead_columns", "relative_error", "seconds",
    "tokens", "ties",
]  # fmt: skip


@dataclass(frozen=True)
class PruneReport:
    """What `prune` did.

    Attributes:
        layers: one row per weight matrix: name, block, rows, cols, target and reached sparsity, damping used (NaN
            without a Hessian), dead input columns, relative squared error of the layer's output on the calibration
            tokens, seconds, calibration tokens that reached the matrix (of an expert, those routed to it; with none it
            lost its smallest weights, whatever the method, and has no error), and ties: the share of N:M groups, or of
            weights, that was decided among equal scores (NaN for SparseGPT, whose scores change as it goes, and after a
            mask search). Weights from blocks of 4 bits have many.
        sparsity: share of zeros over all pruned matrices, counted in the model's weights after the pruning.
        strategy: the method that pruned each block.
        candidates: what an allocation tried: of `measured` the damage of every probe, of `evopress` the path of its
            search, generation by generation; None for others.
        options: everything that `prune` was called with, the options of the method and the allocation included.
        permutations: layer name → channel order under which its mask is N:M.
        seconds: of the whole pruning, allocation included.
    """

    layers: pd.DataFrame
    sparsity: float
    strategy: pd.DataFrame
    options: dict
    permutations: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = float("nan")
    candidates: pd.DataFrame | None = None

    @property
    def block_sparsity(self) -> pd.Series:
        """Reached sparsity per block, weighted by parameters."""
        weights = self.layers["rows"] * self.layers["cols"]
        zeros = (weights * self.layers["sparsity"]).groupby(self.layers["block"]).sum()
        return (zeros / weights.groupby(self.layers["block"]).sum()).rename("sparsity")


def layer_row(
    name: str,
    block: int,
    result: MatrixResult,
    statistics: Statistics,
    factor: Factor | None,
    n_drop: int,
    error: float,
    seconds: float,
) -> dict:
    """One row of `PruneReport.layers`, but for its sparsity, which is counted in the model."""
    rows, columns = result.weight.shape
    return {
        "name": name,
        "block": block,
        "rows": rows,
        "cols": columns,
        "target": n_drop / result.weight.numel(),
        "sparsity": float("nan"),
        "damping": factor.damping if factor else float("nan"),
        "dead_columns": int((statistics.norms == 0).sum()),
        "relative_error": error,
        "seconds": seconds,
        "tokens": statistics.n_tokens,
        "ties": result.ties,
    }


def count_sparsities(rows: list[dict], layers: Mapping[str, Layer]) -> None:
    """Fill in the sparsities of a block's rows, counted in the weights that its matrices now have."""
    for row, layer in zip(rows, layers.values(), strict=True):
        weight = weight_matrix(layer)
        row["sparsity"] = count_zeros(weight) / weight.numel()


def make_report(
    rows: list[dict], strategy: pd.DataFrame, request: Request, permutations: dict[str, Tensor]
) -> PruneReport:
    """The report of the rows gathered."""
    layers = pd.DataFrame(rows, columns=LAYER_COLUMNS)
    return PruneReport(layers, share_of_zeros(layers), strategy, request.record(), permutations)


def share_of_zeros(layers: pd.DataFrame) -> float:
    """Over all matrices, from their rows, cols and own sparsity."""
    weights = layers["rows"] * layers["cols"]
    return float((layers["sparsity"] * weights).sum() / weights.sum())
