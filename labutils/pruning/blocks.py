"""Prune the blocks of a walk one after the other, each with its method and budgets."""

import time

import pandas as pd
from torch import Tensor

from labutils.core.progress import progress
from labutils.models.structure import prunable_layers, weight_matrix
from labutils.pruning.allocations import Budgets
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.matrices import MatrixMethod, output_error, prune_matrix
from labutils.pruning.methods import Request
from labutils.pruning.patterns import parse_pattern
from labutils.pruning.report import PruneReport, count_sparsities, layer_row, make_report
from labutils.pruning.scarcity import warn_if_scarce


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
    for index in progress(range(len(walk.blocks)), description=f"prune {request.method.name}", unit="block"):
        found, orders = prune_block(walk, index, methods[index], budgets, request, errors=errors)
        rows += found
        permutations |= orders
        if request.options.sequential and index + 1 < len(walk.blocks):
            walk.advance(index)
    return make_report(rows, strategy_table(methods), request, permutations)


def prune_block(
    walk: BlockWalk, index: int, method: MatrixMethod, budgets: Budgets, request: Request, *, errors: bool = True
) -> tuple[list[dict], dict[str, Tensor]]:
    """Prune the block that the walk has come to; returns the report's rows, and channel orders by layer name.

    Without `errors`, the layers' output errors and shares of ties are left out.
    """
    options, rows, permutations = request.options, [], {}
    inputs = walk.inputs_of(index, move_on=not options.sequential)
    statistics = inputs.statistics(hessian=method.needs_hessian)
    factors = inputs.factors(options.damping, method.precision) if method.needs_factor else {}
    block = walk.block(index)
    for name, layer in prunable_layers(block).items():
        started = time.perf_counter()
        own, weight, full_name = statistics[name], weight_matrix(layer), f"{walk.prefix}.{index}.{name}"
        result = prune_matrix(
            weight, own, method, n_drop=budgets[index, name], pattern=parse_pattern(request.pattern),
            permute=request.permute, factor=factors.get(id(own)), block_size=options.block_size, group=options.group,
            ties=errors,
        )  # fmt: skip
        if result.order is not None:
            permutations[full_name] = result.order.cpu()
        error = output_error(weight, result.weight, own) if errors else float("nan")
        weight.copy_(result.weight)
        rows.append(
            layer_row(full_name, index, result, own, factors.get(id(own)), budgets[index, name], error, started)
        )
    count_sparsities(rows, block)
    return rows, permutations


def strategy_table(methods: list[MatrixMethod]) -> pd.DataFrame:
    """Which method prunes each block."""
    return pd.DataFrame({"block": range(len(methods)), "method": [method.name for method in methods]})
