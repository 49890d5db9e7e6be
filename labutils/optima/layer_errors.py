"""Every matrix of a dense model pruned by every method: its error, and how far it is from the best one known.

All methods face the same problem here: the matrix, and what it reads in the dense model. So one layer's error says
nothing of what pruning the layers before it has done; that is what losses of whole models are for.

An error is the squared difference of the layer's output over its square, ‖X (W − V)ᵀ‖² / ‖X Wᵀ‖². It is the product of
two ratios and the best known error: of the error over that of exact least squares on the same mask (what the
reconstruction leaves undone), and of that one over the best of all methods' masks (what the mask does).
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from labutils.core.progress import progress
from labutils.models.structure import prunable_layers, weight_matrix
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.gradient_passes import find_gradients, keep_gradients
from labutils.pruning.least_squares import least_squares
from labutils.pruning.matrices import MatrixMethod, prune_matrix
from labutils.pruning.patterns import parse_pattern
from labutils.pruning.reconstruction import Factor, factor_hessian, relative_output_error
from labutils.pruning.requests import matrix_method
from labutils.pruning.statistics import Statistics

KEYS = ["model", "draw", "block", "layer", "pattern", "sparsity"]  # of one problem that methods are compared on
DAMPING = 0.01


def layer_errors(
    model: nn.Module,
    calibration: Int64[Tensor, "n seq_len"],
    held_out: Int64[Tensor, "m seq_len"],
    /,
    *,
    methods: Sequence[str],
    sparsities: Sequence[float] = (),
    patterns: Sequence[str] = (),
    blocks: Sequence[int] | None = None,
    damping: float = DAMPING,
    **about: object,
) -> pd.DataFrame:
    """Prune every matrix of the dense model by itself, in every way; the model stays dense.

    >>> layer_errors(model, tokens, unseen, methods=["wanda", "wanda+ls", "alps"], sparsities=[0.5], draw=0)

    Args:
        held_out: tokens on which the error is measured once more.
        methods: with one way to prune a matrix; those that change a whole block have none.
        sparsities, patterns: of every matrix, each at its own.
        blocks: their numbers, where not all are wanted.
        damping: of the Hessians, in what is solved; errors are measured without it.
        **about: columns of all rows, as model and draw.

    Returns:
        a row per matrix, method and sparsity: the columns `about`, block, depth (0 to 1), layer (its name), kind (the
        last part of it), pattern, sparsity, method, reached, error, held_out, solved and solved_held_out (of least
        squares on the same mask), dispersion (of kept weights over the inputs, against a binomial) and
        tokens_per_input.

    Raises:
        ValueError, LookupError: an unknown method, or one without a way to prune a matrix by itself.
    """
    asked = {name: _checked(name) for name in methods}
    problems = [(None, float(sparsity)) for sparsity in sparsities]
    problems += [(parsed, 1 - parsed[0] / parsed[1]) for parsed in map(parse_pattern, patterns)]
    if not problems:
        raise ValueError("layer_errors needs at least one sparsity or N:M pattern.")
    walk, unseen = BlockWalk(model, calibration), BlockWalk(model, held_out, prove=False)
    reading = {method.gradients: method for method in asked.values()}  # one of each kind
    keep_gradients(walk, reading.values())
    rows, n_blocks = [], len(walk.blocks)
    for index in progress(range(n_blocks), description="layer errors", unit="block"):
        wanted = blocks is None or index in blocks
        gradients = {kind: find_gradients(walk, index, method) for kind, method in reading.items()} if wanted else {}
        own = walk.collect_and_advance(index, hessian=True)
        other = unseen.collect_and_advance(index, hessian=True)
        for name, layer in prunable_layers(walk.block(index)).items() if wanted else ():
            if not own[name].n_tokens or not other[name].n_tokens:
                continue  # an expert that no token reached has no error
            place = {**about, "block": index, "depth": index / max(n_blocks - 1, 1), "layer": f"{index}.{name}"}
            place |= {"kind": name.rpartition(".")[2], "tokens_per_input": own[name].n_tokens / len(own[name].norms)}
            found = {kind: each.get(name) for kind, each in gradients.items()}
            matrix = _Matrix(weight_matrix(layer).float(), own[name], other[name].hessian, found, damping)
            rows += [{**place, **row} for row in matrix.rows(asked, problems)]
    return pd.DataFrame(rows)


def _checked(name: str) -> MatrixMethod:
    method = matrix_method(name)
    if method.of_block is not None:
        raise ValueError(f"{name!r} changes a whole block, so it has no error of one layer; leave it out.")
    return method


class _Matrix:
    """One matrix, what it reads, and least squares on the masks that were tried."""

    def __init__(
        self, weight: Tensor, statistics: Statistics, held_out: Tensor, gradients: dict[str | None, Tensor | None],
        damping: float,
    ):  # fmt: skip
        self.weight, self.statistics, self.unseen, self.gradients = weight, statistics, held_out, gradients
        self.factors: dict[tuple[torch.dtype, bool], Factor] = {}
        self.damping, self.solved = damping, {}

    def rows(
        self, methods: dict[str, MatrixMethod], problems: Sequence[tuple[tuple[int, int] | None, float]]
    ) -> Iterator[dict]:
        for pattern, sparsity in problems:
            for name, method in methods.items():
                yield self._row(name, method, pattern, sparsity)

    def _row(self, name: str, method: MatrixMethod, pattern: tuple[int, int] | None, sparsity: float) -> dict:
        own = dataclasses.replace(self.statistics, gradient=self.gradients.get(method.gradients))
        result = prune_matrix(
            self.weight, own, method, n_drop=round(sparsity * self.weight.numel()), pattern=pattern,
            factor=self._factor(method), ties=False,
        )  # fmt: skip
        solved = self._solve(result.mask)
        return {
            "pattern": f"{pattern[0]}:{pattern[1]}" if pattern else "unstructured", "sparsity": sparsity,
            "method": name, "reached": 1 - result.mask.float().mean().item(),
            **self._errors(result.weight, ""), **self._errors(solved, "solved"),
            "dispersion": input_dispersion(result.mask),
        }  # fmt: skip

    def _errors(self, pruned: Tensor, name: str) -> dict[str, float]:
        names = (name or "error", f"{name}_held_out" if name else "held_out")
        hessians = (self.statistics.hessian, self.unseen)
        return {
            each: relative_output_error(self.weight.double(), pruned.double(), hessian.double())
            for each, hessian in zip(names, hessians, strict=True)
        }

    def _factor(self, method: MatrixMethod) -> Factor | None:
        if not method.needs_factor:
            return None
        key = method.precision, method.needs_inverse
        if key not in self.factors:
            hessian = self.statistics.hessian.to(method.precision)
            self.factors[key] = factor_hessian(hessian, damping=self.damping, inverse=method.needs_inverse)
        return self.factors[key]

    def _solve(self, mask: Bool[Tensor, "out in"]) -> Float[Tensor, "out in"]:
        """Least squares on a mask, once for all methods that share it."""
        key = mask.cpu().numpy().tobytes()
        if key not in self.solved:
            self.solved = {key: least_squares(self.weight, mask, self.statistics.hessian, damping=self.damping),
                           **dict(list(self.solved.items())[:8])}  # fmt: skip
        return self.solved[key]


def input_dispersion(mask: Bool[Tensor, "out in"]) -> float:
    """The variance over inputs of the number of kept weights, over a binomial's: 1 where they are spread at random.

    >>> input_dispersion(torch.tensor([[True, False], [True, False]]))  # whole inputs are kept or dropped

    NaN where all or none are kept, or of one input.
    """
    share, rows = mask.float().mean().item(), mask.shape[0]
    expected = rows * share * (1 - share)
    if not expected or mask.shape[1] < 2:
        return float("nan")
    return mask.float().sum(dim=0).var(correction=1).item() / expected


def ratios_to_best(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of `layer_errors` with the best known error of each problem, and the ratios that lead to it.

    >>> ratios_to_best(errors).groupby("method")["ratio"].median()

    Returns:
        with the columns best (the lowest error that any method, or least squares on any method's mask, has reached),
        ratio = error / best, of_reconstruction = error / solved, and of_mask = solved / best; of a problem whose best
        error is zero they are NaN.
    """
    keys = [key for key in KEYS if key in rows]
    lowest = rows[["error", "solved"]].min(axis=1)
    best = lowest.groupby([rows[key] for key in keys]).transform("min")
    best = best.where(best > 0)
    return rows.assign(
        best=best, ratio=rows["error"] / best, of_reconstruction=rows["error"] / rows["solved"],
        of_mask=rows["solved"] / best,
    )  # fmt: skip


def ratio_table(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Geometric means of the ratios of `ratios_to_best`, and the middle nine tenths of the first.

    >>> ratio_table(ratios_to_best(errors), ["method", "sparsity"])
    """
    logs = rows.assign(**{name: np.log(rows[name]) for name in ("ratio", "of_reconstruction", "of_mask")})
    groups = logs.groupby(list(by), sort=False)
    means = groups[["ratio", "of_reconstruction", "of_mask"]].mean().pipe(np.exp)
    spread = groups["ratio"].quantile([0.05, 0.95]).unstack().pipe(np.exp).set_axis(["low", "high"], axis=1)
    return means.join(spread).reset_index()
