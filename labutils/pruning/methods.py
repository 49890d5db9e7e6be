"""Pruning methods: which matrix method prunes each block, and what `prune` and its forecast need to know of it.

A method name is a registered method (`sparsegpt`, `optiprune`, …), or a registered score (`magnitude`, `wanda`, `ri`,
`ria`, …), which a mask search and a reconstruction may follow: `ria+obs`, `wanda+ls`, `magnitude+swaps+ls`.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from numbers import Real
from typing import TypeVar

from torch import Tensor

from labutils.core.options import suggest
from labutils.pruning.allocations import Allocation, Budgets, DenseModel, Uniform, matrix_budgets
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.dense_statistics import DenseStatistics
from labutils.pruning.dual_importance import GENERAL_STRENGTH, LOSS_SCALE
from labutils.pruning.gradient_scores import ALPHA, MIXED
from labutils.pruning.importance import SCORES, STEP
from labutils.pruning.matrices import MatrixMethod, ScoreMethod, SparseGPT
from labutils.pruning.prune_options import PruneOptions
from labutils.pruning.reconstructions import RECONSTRUCTIONS, SEARCHES
from labutils.pruning.registry import NO_OPTION, Registry, own_options
from labutils.pruning.step_names import parse_steps


class Method:
    """What prunes a model. The fields of a subclass that is a dataclass are its options.

    A subclass defines `matrix_method`; one whose blocks differ also `block_methods`; one whose options depend on the
    tokens at hand also `fit_to`, and it is not `streamable`.

    Attributes:
        name: the name under which it is registered.
        default_allocation: how it spreads the sparsity where nothing else is asked for.
        streamable: whether `prune_checkpoint`, which sees one block at a time, can carry it out.
        reads_inputs: whether calibration tokens decide what it prunes.
    """

    name: str
    default_allocation: type[Allocation] = Uniform
    streamable = True
    reads_inputs = True

    def matrix_method(self, sparsity: float) -> MatrixMethod:
        """What prunes the matrices of a model of this sparsity; what its forecast is made of."""
        raise NotImplementedError(f"{type(self).__name__} must define `matrix_method`.")

    def block_methods(self, budgets: Budgets, sizes: Tensor, sparsity: float) -> list[MatrixMethod]:
        """What prunes each block, once the budgets are known. `sizes` are the prunable weights per block."""
        return [self.matrix_method(sparsity)] * len(sizes)

    def fit_to(self, walk: BlockWalk, request: "Request") -> "Request":
        """The request with its options as the calibration asks for them."""
        return request

    def check(self, request: "Request") -> None:
        """Refuse what the method cannot do with a ValueError, before anything runs."""
        self._check_target(request)
        if not request.options.sequential and self.matrix_method(request.sparsity).runs_block:
            raise ValueError(
                f"method={self.name!r} runs every block behind the pruned ones before it; sequential=False prunes all "
                "by what the dense model reads. Leave it out, or choose another method."
            )

    def _check_target(self, request: "Request") -> None:
        own = self.matrix_method(request.sparsity)
        if request.options.output_target == "dense" and (not own.needs_hessian or own.of_block is not None):
            raise ValueError(
                f'output_target="dense" needs a method that reads Hessians of single matrices, which {self.name!r} '
                "does not. Leave it out, or choose one such as wanda+ls or sparsegpt."
            )

    def dense_model(self, statistics: DenseStatistics, request: "Request") -> DenseModel:
        """What an allocation is asked about."""
        method = self.matrix_method(request.sparsity)
        return DenseModel(statistics, method, request.sparsity, request.options, request.seed)

    def plan(self, statistics: DenseStatistics, request: "Request") -> tuple[list[MatrixMethod], Budgets]:
        """The matrix method of each block and the budgets."""
        budgets = matrix_budgets(self.dense_model(statistics, request), request.allocation)
        return self.block_methods(budgets, statistics.sizes, request.sparsity), budgets


@dataclass(frozen=True)
class Request:
    """What one call of `prune` asks for, checked.

    Attributes:
        asked: the allocation as it was asked for; None for the method's own.
    """

    method: Method
    sparsity: float
    allocation: Allocation
    asked: str | Sequence[float] | None
    pattern: str
    permute: bool
    seed: int
    options: PruneOptions

    @property
    def reads_inputs(self) -> bool:
        """Whether another calibration may give another model; of matrices that some token reaches."""
        return self.method.reads_inputs or self.reads_dense_model

    @property
    def reads_dense_model(self) -> bool:
        """Whether tokens are run through the dense model for the allocation."""
        if self.allocation.reads_scores_alone and not self.method.reads_inputs:
            return False
        return self.allocation.reads_inputs(self.sparsity)

    def record(self) -> dict[str, object]:
        """Everything that `prune` was called with, by name, defaults included."""
        return {
            "method": self.method.name,
            "sparsity": self.sparsity,
            "allocation": self.asked,
            "pattern": self.pattern,
            "permute": self.permute,
            "seed": self.seed,
            **dataclasses.asdict(self.options),
            **own_options(self.method),
            **own_options(self.allocation),
        }


METHODS: Registry[type[Method]] = Registry("pruning method")
Kind = TypeVar("Kind", bound=type[Method])


def register_method(name: str) -> Callable[[Kind], Kind]:
    """A decorator that makes a subclass of `Method` available under a name.

    >>> @lab.register_method("careful-end")
    ... class CarefulEnd(lab.pruning.Method):
    ...     '''SparseGPT in the last block, Wanda in the others.'''
    ...     def matrix_method(self, sparsity):
    ...         return lab.pruning.matrix_method("wanda")
    ...     def block_methods(self, budgets, sizes, sparsity):
    ...         *first, _ = super().block_methods(budgets, sizes, sparsity)
    ...         return [*first, lab.pruning.matrix_method("sparsegpt")]
    >>> lab.prune(model, tokens, method="careful-end", sparsity=0.5)

    Raises:
        ValueError: the name is taken, or the method has `fit_to` and says that it is streamable.
    """
    METHODS.refuse_taken(name)
    SCORES.refuse_taken(name)

    def register(kind: Kind) -> Kind:
        if kind.fit_to is not Method.fit_to and kind.streamable is not False:
            raise ValueError(
                f"{name!r} has `fit_to`, which a pruning from disk to disk passes over: it must say streamable = False."
            )
        kind.name = name
        METHODS.add(name, kind)
        return kind

    return register


class _ByScore(Method):
    def __init__(self, method: ScoreMethod):
        self.method, self.name, self.reads_inputs = method, method.name, method.reads_inputs
        self.streamable = method.gradients in STREAMED

    def matrix_method(self, sparsity: float) -> MatrixMethod:
        return self.method


@dataclass(frozen=True)
class _ByOptions(Method):
    """A score with options; those that are not at their defaults are handed to its function."""

    method: ScoreMethod = field(metadata=NO_OPTION)

    def __post_init__(self) -> None:
        for name, value in own_options(self).items():
            if isinstance(value, Real) and not 0 <= value < math.inf:
                raise ValueError(f"{name}={value!r} must be 0 or more, and finite; at 0 what it weighs does not count.")

    @property
    def name(self) -> str:
        return self.method.name

    @property
    def streamable(self) -> bool:
        return self.method.gradients in STREAMED

    def matrix_method(self, sparsity: float) -> MatrixMethod:
        usual = {each.name: each.default for each in dataclasses.fields(self)}
        given = tuple((name, value) for name, value in own_options(self).items() if value != usual[name])
        return dataclasses.replace(self.method, options=given)


@dataclass(frozen=True)
class _ByGradients(_ByOptions):
    """A score that weighs gradients beside the norms of the inputs.

    Attributes:
        alpha: of the gradient.
        average_inputs: whether the norms are a mean over sequences; None for what the score's own formula has.
    """

    alpha: float = ALPHA
    average_inputs: bool | None = None


@dataclass(frozen=True)
class _ByDualImportance(_ByOptions):
    """D-Pruner: the strength of general importance, and what gradients are multiplied by."""

    general_strength: float = GENERAL_STRENGTH
    loss_scale: float = LOSS_SCALE


@dataclass(frozen=True)
class _ByMixture(_ByOptions):
    """GAPrune: its β, α and γ, and whether Fisher information is brought to the scale of magnitudes."""

    general_weight: float = MIXED["general_weight"]
    alignment_weight: float = MIXED["alignment_weight"]
    magnitude_weight: float = MIXED["magnitude_weight"]
    normalise: bool = False


STREAMED = (None, "block")  # gradients that need no more than one block in memory
WITH_OPTIONS = {"mixture": _ByMixture, "dual": _ByDualImportance}  # by what a score reads; others weigh by `alpha`


def method_kind(name: str) -> Callable[..., Method]:
    """What makes the method of that name from its options.

    Raises:
        LookupError: no such method; the nearest known one is named.
    """
    if name in METHODS:
        return METHODS[name]
    try:
        method = ScoreMethod(*parse_steps(name))
    except LookupError as error:
        raise LookupError(_explain_unknown(name)) from error
    if not SCORES[method.score].options:
        return partial(_ByScore, method)
    return partial(WITH_OPTIONS.get(method.gradients, _ByGradients), method)


def _explain_unknown(name: str) -> str:
    """The message about a name that no method has: with the nearest of those that do, and how names are made."""
    steps = ["", *(f"{STEP}{step}" for step in (*SEARCHES, *RECONSTRUCTIONS) if step != "none")]
    made = [f"{score}{step}" for score in SCORES for step in steps]
    return (
        f"There is no pruning method {name!r}.{suggest(name, [*made, *METHODS])} Known: {', '.join(METHODS)}; scores: "
        f"{', '.join(SCORES)}, each alone or with {STEP!r} and one mask search ({', '.join(SEARCHES)}), one "
        f"reconstruction ({', '.join(RECONSTRUCTIONS)}), or both in this order."
    )


def matrix_method(name: str) -> MatrixMethod:
    """The one matrix method that a method of this name prunes every block with.

    >>> matrix_method("ria+obs").needs_hessian

    Raises:
        LookupError: no such method; the nearest known one is named.
        ValueError: the method has several.
    """
    method = method_kind(name)()
    kind = type(method)
    own = (kind.fit_to, kind.block_methods, kind.plan)
    if own != (Method.fit_to, Method.block_methods, Method.plan):
        raise ValueError(f"{name!r} has no single way to prune every block; give a score or a method that has.")
    return method.matrix_method(0.0)


@register_method("sparsegpt")
class _SparseGPT(Method):
    """Mask and update together, column by column, by each layer's Hessian (arXiv 2301.00774)."""

    def matrix_method(self, sparsity: float) -> MatrixMethod:
        return SparseGPT()
