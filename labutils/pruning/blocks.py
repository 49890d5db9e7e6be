"""Prune the blocks of a walk one after the other, each with its method and budgets."""

import dataclasses
import time

import pandas as pd
from torch import Tensor

from labutils.core.progress import progress
from labutils.models.structure import prunable_layers, weight_matrix
from labutils.pruning.allocations import Budgets
from labutils.pruning.block_matching import PrunedBlock
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.dense_targets import DensePath, dense_target
from labutils.pruning.gradient_passes import find_gradients, keep_gradients
from labutils.pruning.matrices import MatrixMethod, MatrixResult, prune_matrix
from labutils.pruning.methods import Request
from labutils.pruning.patterns import parse_pattern
from labutils.pruning.reconstruction import Factor, factor_hessian
from labutils.pruning.report import PruneReport, count_sparsities, layer_row, make_report
from labutils.pruning.scarcity import warn_if_scarce
from labutils.pruning.statistics import Statistics, output_error


def prune_walk(
    walk: BlockWalk, methods: list[MatrixMethod], budgets: Budgets, request: Request, *, errors: bool = True
) -> PruneReport:
    """Prune every block of a walk with its method and budgets, from the first to the last; returns the report.

    In sequence, a pruned block makes the next one's inputs; else the dense block does, before it is pruned. Without
    `errors`, the layers' output errors and shares of ties, which only a report needs, are left out.
    """
    rows, permutations = [], {}
    warn_if_scarce(walk, methods, request)
    walk.rewind()
    path = DensePath(walk) if request.options.output_target == "dense" else None
    keep_gradients(walk, methods)
    for index in progress(range(len(walk.blocks)), description=f"prune {request.method.name}", unit="block"):
        found, orders = prune_block(walk, index, methods[index], budgets, request, errors=errors, path=path)
        rows += found
        permutations |= orders
        if request.options.sequential and index + 1 < len(walk.blocks):
            walk.advance(index)
    return make_report(rows, strategy_table(methods), request, permutations)


def prune_block(
    walk: BlockWalk, index: int, method: MatrixMethod, budgets: Budgets, request: Request, *, errors: bool = True,
    path: DensePath | None = None,
) -> tuple[list[dict], dict[str, Tensor]]:  # fmt: skip
    """Prune the block that the walk has come to; returns the report's rows, and channel orders by layer name.

    Without `errors`, the layers' output errors and shares of ties are left out. With the dense model's `path`, which
    has come to the same block, its outputs are the target.
    """
    matrices = _BlockMatrices(walk, index, method, budgets, request, errors=errors)
    if path is not None and (crosses := path.step(index)) and index:  # the first block reads the same in both
        matrices.crosses = crosses
    if method.of_block is None:
        matrices.prune()
    else:
        targets = walk.run(index)
        dense = {name: weight_matrix(layer).clone() for name, layer in matrices.layers.items()}
        matrices.prune()
        block = PrunedBlock(
            walk, index, targets, lambda: matrices.masks, matrices.prune, dense, matrices.prune_as,
            request.options.damping,
        )  # fmt: skip
        method.of_block.reconstruct_block(block)
        matrices.find_errors(dense)
    return matrices.rows(), matrices.permutations()


class _BlockMatrices:
    """The matrices of a block, what is known of their inputs, and how they were last pruned."""

    def __init__(
        self, walk: BlockWalk, index: int, method: MatrixMethod, budgets: Budgets, request: Request, *, errors: bool
    ):
        self.index, self.method, self.budgets, self.request = index, method, budgets, request
        self.prefix, self.layers = f"{walk.prefix}.{index}", prunable_layers(walk.block(index))
        options = request.options
        inputs = walk.inputs_of(index, move_on=not options.sequential)
        self.statistics = inputs.statistics(hessian=method.needs_hessian)
        self.factors = {}
        if method.needs_factor:
            self.factors = inputs.factors(options.damping, method.precision, inverse=method.needs_inverse)
        self.gradients = find_gradients(walk, index, method)
        self.crosses: dict[str, Tensor] = {}  # of the dense model's inputs with these, where its outputs are the target
        self.results: dict[str, MatrixResult] = {}
        self.with_errors, self.errors = errors, dict.fromkeys(self.layers, float("nan"))
        self.seconds = dict.fromkeys(self.layers, 0.0)

    def prune(self) -> None:
        """Every matrix, in place, by the scores of what it is now."""
        for name, layer in self.layers.items():
            own = self.statistics[name]
            if name in self.gradients:
                own = dataclasses.replace(own, gradient=self.gradients[name])
            self._prune(name, weight_matrix(layer), own, self._factor(name))

    def prune_as(self, name: str, weight: Tensor, statistics: Statistics) -> None:
        """One matrix, from another weight and what is known of other inputs, into the block."""
        factor = None
        if self.method.needs_factor:
            hessian = statistics.hessian.to(self.method.precision)
            damping, inverse = self.request.options.damping, self.method.needs_inverse
            factor = factor_hessian(hessian, damping=damping, inverse=inverse)
        self._prune(name, weight, statistics, factor)

    def _prune(self, name: str, weight: Tensor, own: Statistics, factor: Factor | None) -> None:
        options, started, place = self.request.options, time.perf_counter(), weight_matrix(self.layers[name])
        target = weight
        if name in self.crosses:
            target = dense_target(weight, own.hessian, self.crosses[name], damping=options.damping)
        result = prune_matrix(
            target, own, self.method, n_drop=self.budgets[self.index, name], factor=factor,
            pattern=parse_pattern(self.request.pattern), permute=self.request.permute, block_size=options.block_size,
            group=options.group, ties=self.with_errors,
        )  # fmt: skip
        if self.with_errors:
            self.errors[name] = output_error(weight, result.weight, own)
        place.copy_(result.weight)
        self.results[name] = result
        self.seconds[name] += time.perf_counter() - started

    def find_errors(self, dense: dict[str, Tensor]) -> None:
        """The output errors of what the matrices are now, against what they were."""
        for name, layer in self.layers.items() if self.with_errors else ():
            self.errors[name] = output_error(dense[name], weight_matrix(layer), self.statistics[name])

    def _factor(self, name: str) -> Factor | None:
        return self.factors.get(id(self.statistics[name]))

    @property
    def masks(self) -> dict[str, Tensor]:
        return {name: result.mask for name, result in self.results.items()}

    def permutations(self) -> dict[str, Tensor]:
        orders = {f"{self.prefix}.{name}": result.order for name, result in self.results.items()}
        return {name: order.cpu() for name, order in orders.items() if order is not None}

    def rows(self) -> list[dict]:
        """The report's rows."""
        rows = [
            layer_row(
                f"{self.prefix}.{name}", self.index, self.results[name], self.statistics[name], self._factor(name),
                self.budgets[self.index, name], self.errors[name], self.seconds[name],
            )
            for name in self.layers
        ]  # fmt: skip
        count_sparsities(rows, self.layers)
        return rows


def strategy_table(methods: list[MatrixMethod]) -> pd.DataFrame:
    """Which method prunes each block."""
    return pd.DataFrame({"block": range(len(methods)), "method": [method.name for method in methods]})
