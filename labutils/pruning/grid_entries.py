"""The prunings of a grid: which of them come to the same model, and which need no tokens."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pandas as pd
import torch
from torch import nn

from labutils.models.structure import prunable_layers, weight_matrix
from labutils.pruning.allocations import Budgets
from labutils.pruning.blocks import prune_walk
from labutils.pruning.dense_statistics import DenseStatistics, needs_tokens
from labutils.pruning.matrices import MatrixMethod, ScoreMethod, matrix_score, prune_matrix
from labutils.pruning.methods import Request
from labutils.pruning.patterns import Cut, count_zeros, lowest_cuts, parse_pattern
from labutils.pruning.report import share_of_zeros


@dataclass(eq=False)
class GridEntry:
    """One pruned model of a grid, asked for by one or several requests.

    Attributes:
        request: the first of them.
        methods, budgets: per block and per matrix.
    """

    request: Request
    methods: list[MatrixMethod]
    budgets: Budgets
    planning_seconds: float
    blocks: nn.ModuleList = field(repr=False)

    @property
    def identity(self) -> tuple:
        """Equal for entries that come to the same model."""
        request = self.request
        return (tuple(self.methods), tuple(self.budgets.values()), request.pattern, request.permute, request.options)

    @property
    def reads_inputs(self) -> bool:
        """Whether tokens must be run."""
        return needs_tokens(self.methods, self.blocks)


class GridEntries:
    """Iterates over requests and their entries; budgets are settled at once, entries carried out one by one."""

    def __init__(self, statistics: DenseStatistics, requests: Sequence[Request]):
        self.statistics, self.blocks = statistics, statistics.walk.blocks
        self.requests, self.entries = requests, []
        distinct: dict[tuple, GridEntry] = {}
        for request in requests:
            entry = self._plan(request)
            self.entries.append(distinct.setdefault(entry.identity, entry))
        self.thresholds = SharedThresholds(self.entries)

    def __len__(self) -> int:
        return len(self.requests)

    def __iter__(self) -> Iterator[tuple[Request, GridEntry]]:
        return zip(self.requests, self.entries, strict=True)

    def _plan(self, request: Request) -> GridEntry:
        started = time.perf_counter()
        request = request.method.fit_to(self.statistics.walk, request)
        methods, budgets = request.method.plan(self.statistics, request)
        return GridEntry(request, methods, budgets, time.perf_counter() - started, self.blocks)

    @property
    def read_of_dense_model(self) -> set[bool] | None:
        """Whether Hessians are read of all blocks of the dense model, or norms alone, or both; None in sequence."""
        if self.requests[0].options.sequential:
            return None
        wanted: set[bool] = set()
        for entry in filter(lambda entry: entry.reads_inputs, self.entries):
            wanted |= {method.needs_hessian for method in entry.methods}
        return wanted

    def count_shared(self, seconds: float) -> None:
        """Let the first pruning that reads inputs bear the time of what was gathered for all."""
        if first := next((entry for entry in self.entries if entry.reads_inputs), None):
            first.planning_seconds += seconds

    def carry_out(self, entry: GridEntry) -> float:
        """Prune the dense model; returns the share of zeros."""
        if not entry.reads_inputs:
            return self._prune_weights_alone(entry)
        walk = self.statistics.walk
        return prune_walk(walk, entry.methods, entry.budgets, entry.request, errors=False).sparsity

    @torch.no_grad()
    def _prune_weights_alone(self, entry: GridEntry) -> float:
        rows, request = [], entry.request
        for index, block in enumerate(self.blocks):
            method = entry.methods[index]
            for name, layer in prunable_layers(block).items():
                weight, n_drop = weight_matrix(layer), entry.budgets[index, name]
                cut = self.thresholds.find(entry, index, name, weight)
                result = prune_matrix(
                    weight, None, method, n_drop=n_drop, pattern=parse_pattern(request.pattern),
                    permute=request.permute, group=request.options.group, cut=cut, ties=False,
                )  # fmt: skip
                weight.copy_(result.weight)
                share = count_zeros(weight) / weight.numel()
                rows.append({"rows": weight.shape[0], "cols": weight.shape[1], "sparsity": share})
        return share_of_zeros(pd.DataFrame(rows))


class SharedThresholds:
    """Where the scores of weights alone are cut: a matrix is sorted once per score, for all budgets of the grid."""

    def __init__(self, entries: Sequence[GridEntry]):
        self.entries = [entry for entry in entries if self._applies(entry)]
        self.known: dict[tuple[MatrixMethod, int, str], dict[int, Cut]] = {}

    @staticmethod
    def _applies(entry: GridEntry) -> bool:
        """Unstructured, by scores that compete over the matrix."""
        if entry.request.pattern != "unstructured" or entry.reads_inputs:
            return False
        asked = entry.request.options.group
        return all(isinstance(m, ScoreMethod) and m.competes_in(asked) == "matrix" for m in entry.methods)

    def find(self, entry: GridEntry, index: int, name: str, weight: torch.Tensor) -> Cut | None:
        """The cut of a matrix that is still dense; None where the entry has to find its own."""
        method, n_drop = entry.methods[index], entry.budgets[index, name]
        if entry not in self.entries or n_drop == 0:
            return None
        key = (method, index, name)
        if key not in self.known:
            alike = [other for other in self.entries if other.methods[index] == method]
            counts = {other.budgets[index, name] for other in alike} - {0}
            self.known[key] = lowest_cuts(matrix_score(weight, None, method), counts)
        return self.known[key][n_drop]
