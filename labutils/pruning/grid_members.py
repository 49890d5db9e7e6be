"""The prunings of a grid: which of them come to the same model, and which need no tokens."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pandas as pd
import torch
from torch import nn

from labutils.models.experts import holds_experts
from labutils.models.structure import prunable_layers, weight_matrix
from labutils.pruning.blocks import prune_walk
from labutils.pruning.budgets import Budgets, DenseStatistics
from labutils.pruning.matrices import MatrixMethod, matrix_score, prune_matrix
from labutils.pruning.patterns import Cut, count_zeros, lowest_cuts, parse_pattern
from labutils.pruning.pipeline import plan_pruning, prune_request
from labutils.pruning.report import share_of_zeros
from labutils.pruning.requests import Request


@dataclass(eq=False)
class Member:
    """One pruned model of a grid, asked for by one or several requests.

    Attributes:
        request: the first of them.
        methods, budgets: per block and per matrix; None where they are found by measurement.
    """

    request: Request
    methods: list[MatrixMethod] | None
    budgets: Budgets | None
    planning_seconds: float
    blocks: nn.ModuleList = field(repr=False)

    @property
    def identity(self) -> tuple:
        """Equal for members that come to the same model, in one grid with one set of options."""
        if self.methods is None:
            request = self.request
            return (request.method, request.sparsity, str(request.allocation), request.pattern, request.permute)
        methods = tuple(method.name for method in self.methods)
        return (methods, tuple(self.budgets.values()), self.request.pattern, self.request.permute)

    @property
    def reads_inputs(self) -> bool:
        """Whether tokens must be run: not for scores of weights alone.

        Whether tokens reach an expert is only known after running them, and decides by what it is pruned; except by
        magnitude, which prunes those without tokens as well.
        """
        if self.methods is None or any(method.reads_inputs for method in self.methods):
            return True
        return {method.name for method in self.methods} != {"magnitude"} and any(map(holds_experts, self.blocks))


class Members:
    """Iterates over requests and their members; budgets are settled at once, members carried out one by one."""

    def __init__(self, statistics: DenseStatistics, requests: Sequence[Request]):
        self.statistics, self.blocks = statistics, statistics.walk.blocks
        self.requests, self.members = requests, []
        distinct: dict[tuple, Member] = {}
        for request in requests:
            member = self._plan(request)
            self.members.append(distinct.setdefault(member.identity, member))
        self.cuts = SharedCuts(self.members)

    def __len__(self) -> int:
        return len(self.requests)

    def __iter__(self) -> Iterator[tuple[Request, Member]]:
        return zip(self.requests, self.members, strict=True)

    def _plan(self, request: Request) -> Member:
        started = time.perf_counter()
        methods, budgets = None, None
        if request.method != "optiprune-auto":
            methods, budgets = plan_pruning(self.statistics, request)
        return Member(request, methods, budgets, time.perf_counter() - started, self.blocks)

    @property
    def read_of_dense_model(self) -> set[bool] | None:
        """Whether Hessians are read of all blocks of the dense model, or norms alone, or both; None in sequence."""
        if self.requests[0].options.sequential:
            return None
        wanted: set[bool] = set()
        for member in filter(lambda member: member.reads_inputs, self.members):
            wanted |= {True, False} if member.methods is None else {method.needs_hessian for method in member.methods}
        return wanted

    def count_shared(self, seconds: float) -> None:
        """Let the first pruning that reads inputs bear the time of what was gathered for all."""
        if first := next((member for member in self.members if member.reads_inputs), None):
            first.planning_seconds += seconds

    def carry_out(self, member: Member) -> float:
        """Prune the dense model; returns the share of zeros."""
        if member.methods is None:
            return prune_request(self.statistics, member.request).sparsity
        if not member.reads_inputs:
            return self._prune_weights_alone(member)
        walk = self.statistics.walk
        return prune_walk(walk, member.methods, member.budgets, member.request, errors=False).sparsity

    @torch.no_grad()
    def _prune_weights_alone(self, member: Member) -> float:
        rows, request = [], member.request
        for index, block in enumerate(self.blocks):
            method = member.methods[index]
            for name, layer in prunable_layers(block).items():
                weight, n_drop = weight_matrix(layer), member.budgets[index, name]
                cut = self.cuts.find(member, index, name, weight)
                result = prune_matrix(
                    weight, None, method, n_drop=n_drop, pattern=parse_pattern(request.pattern),
                    permute=request.permute, group=request.options.group, cut=cut,
                )  # fmt: skip
                weight.copy_(result.weight)
                share = count_zeros(weight) / weight.numel()
                rows.append({"rows": weight.shape[0], "cols": weight.shape[1], "sparsity": share})
        return share_of_zeros(pd.DataFrame(rows))


class SharedCuts:
    """Where the scores of weights alone are cut: a matrix is sorted once per score, for all budgets of the grid."""

    def __init__(self, members: Sequence[Member]):
        self.members = [member for member in members if self._applies(member)]
        self.known: dict[tuple[str, int, str], dict[int, Cut]] = {}

    @staticmethod
    def _applies(member: Member) -> bool:
        """Unstructured, by one score that competes over the matrix."""
        if member.methods is None or member.request.pattern != "unstructured" or member.reads_inputs:
            return False
        return all(method.group(member.request.options.group) == "matrix" for method in member.methods)

    def find(self, member: Member, index: int, name: str, weight: torch.Tensor) -> Cut | None:
        """The cut of a matrix that is still dense; None where the member has to find its own."""
        method, n_drop = member.methods[index], member.budgets[index, name]
        if member not in self.members or n_drop == 0:
            return None
        key = (method.name, index, name)
        if key not in self.known:
            alike = [other for other in self.members if other.methods[index] == method]
            counts = {other.budgets[index, name] for other in alike} - {0}
            self.known[key] = lowest_cuts(matrix_score(weight, None, method), counts)
        return self.known[key][n_drop]
