"""The best covariance parameters of a mixed model: descents from several starts, each with a first-order proof.

The parameters θ are the free entries of the relative factors Λ. They are not bounded: Λ and Λ with a column's sign
turned give the same covariance, so the deviance is smooth through zero, and a variance of zero is an ordinary minimum
in θ. That has a price: every Λ with a zero column is stationary in θ, also where the deviance would fall with a
variance above zero. So a descent is over only when no direction into the cone of covariances leads down, which is to
say that the matrices of `covariance_gradients` have no negative eigenvalue; otherwise it goes on along that direction.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float

from labutils.multilevel.coordinates import Coordinates, orthogonalise
from labutils.multilevel.curvature import expected_curvature
from labutils.multilevel.descent import Descent, close_enough, descend
from labutils.multilevel.deviance import (
    covariance_gradients,
    profiled_deviance,
    residual_left,
    residual_variance,
    solve,
)
from labutils.multilevel.matrices import Design
from labutils.multilevel.products import Products, Solution, beside_fixed
from labutils.multilevel.scoring import Factors, SlopesAndTraces, scored

Theta = Float[np.ndarray, " parameters"]
STARTS = (1.0, 0.1)  # relative standard deviations from which descents begin
NEAR_ZERO = 0.01  # relative variance at the end of the first descent, below which the second start is tried too
ZERO_VARIANCE = 1e-8  # relative to the residual variance: what is below is zero (lme4 has 1e-4 for its square root)
MOST_RESTARTS = 8
ABSORBED = 1e-10  # share of a random term that is left beside the fixed effects, below which nothing is left
EXACT = (1e4, 1e-7)  # with this standard deviation of every random coefficient, a residual this small counts as none


@dataclass(frozen=True)
class Problem:
    """A deviance to be minimised over the entries of the relative factors that `free` marks."""

    products: Products
    free: tuple[Bool[np.ndarray, "_ _"], ...]
    reml: bool
    last: dict[bytes, Solution] = field(default_factory=dict, repr=False, compare=False)  # the latest solution

    def factors(self, theta: Theta) -> list[Float[np.ndarray, "_ _"]]:
        found, start = [], 0
        for mask, count in zip(self.free, self._counts, strict=True):
            factor = np.zeros(mask.shape)
            factor[mask] = theta[start : start + count]
            found.append(factor)
            start += count
        return found

    @cached_property
    def _counts(self) -> tuple[int, ...]:
        return tuple(int(mask.sum()) for mask in self.free)

    def theta(self, factors: Sequence[Float[np.ndarray, "_ _"]]) -> Theta:
        return np.concatenate([factor[mask] for factor, mask in zip(factors, self.free, strict=True)])

    def solve(self, theta: Theta) -> Solution:
        key = theta.tobytes()
        if key not in self.last:
            found = solve(self.products, self.factors(theta))
            self.last.clear()
            self.last[key] = found
        return self.last[key]

    def value_and_gradient(self, theta: Theta) -> tuple[float, Theta]:
        """Profiled deviance and its derivative in θ; infinite where rounding leaves no residual."""
        try:
            found = self.solve(theta)
        except np.linalg.LinAlgError:
            return float("inf"), np.zeros_like(theta)
        variance = residual_variance(found, self.products, self.reml)
        return profiled_deviance(found, self.products, self.reml), self.pull_back(theta, found, variance)

    def curvature(self, theta: Theta) -> Float[np.ndarray, "parameters parameters"]:
        """About the second derivative in θ: see `expected_curvature`."""
        found = self.solve(theta)
        slopes = covariance_gradients(found, self.reml, residual_variance(found, self.products, self.reml))
        levels = [levels for levels, _ in self.products.sizes]
        return expected_curvature(self.factors(theta), self.free, found.projected, slopes, levels)

    def pull_back(self, theta: Theta, found: Solution, variance: float) -> Theta:
        """The derivative in θ, from that in Ψ = ΛΛ' (chain rule): tr(G dΨ) = 2 <GΛ, dΛ>."""
        gradients = covariance_gradients(found, self.reml, variance)
        return self.theta([2 * slope @ factor for slope, factor in zip(gradients, self.factors(theta), strict=True)])


@dataclass(frozen=True)
class Fit:
    """The estimate in internal coordinates, and the way back.

    Attributes:
        theta: free entries of the relative factors.
        variance: residual variance.
        deviance: −2 log-likelihood (restricted under REML), in the units of the data.
        converged: whether the descent ended at a minimum.
        singular: whether a variance is zero, or a correlation ±1, up to rounding.
    """

    problem: Problem
    coordinates: Coordinates
    theta: Theta
    solution: Solution
    variance: float
    deviance: float
    converged: bool
    singular: bool


def fit_design(design: Design, *, reml: bool = True, start: Theta | None = None) -> Fit:
    """Fit a model by restricted or full maximum likelihood.

    Args:
        start: where to begin, as the `theta` of another fit of the same model; without it, a second descent from
            another point runs where the first ends near a variance of zero, and the lower end counts.

    Raises:
        ValueError: the model reproduces the response exactly, so that there is no residual variance; or the fixed
            effects already contain a random term.
    """
    products, coordinates = orthogonalise(design)
    free = tuple(_free_entries([*design.groupings[i].blocks]) for i in coordinates.order)
    problem = Problem(products, free, reml)
    _refuse_absorbed(problem, [design.groupings[i].name for i in coordinates.order])
    _refuse_exact(problem, design.response)
    best = _lowest(problem) if start is None else _minimise(problem, start)
    theta, singular = _snap_to_boundary(problem, best)
    solution = problem.solve(theta)
    value = profiled_deviance(solution, products, reml) + coordinates.deviance_shift(design.n_rows, reml)
    variance = residual_variance(solution, products, reml)
    return Fit(problem, coordinates, theta, solution, variance, value, best.converged, singular)


def _free_entries(blocks: list[slice]) -> Bool[np.ndarray, "terms terms"]:
    free = np.zeros((blocks[-1].stop,) * 2, dtype=bool)
    for block in blocks:
        free[block, block] = True
    return np.tril(free)


def _refuse_absorbed(problem: Problem, names: list[str]) -> None:
    """Where X already contains columns of Z, the deviance under REML does not depend on their variance at all."""
    for name, left in zip(names, beside_fixed(problem.products), strict=True):
        if np.linalg.eigvalsh(left)[0] < ABSORBED * problem.products.n_rows:
            raise ValueError(
                f"The fixed effects already tell the levels of {name!r} apart, so that no variance is left for its "
                "random term: take out that term, or predictors that are constant within its levels."
            )


def _refuse_exact(problem: Problem, response: str) -> None:
    """With almost free random coefficients, is there any residual left?"""
    size, smallest = EXACT
    try:
        left = residual_left(problem.products, [size * np.eye(len(mask)) for mask in problem.free])
    except np.linalg.LinAlgError:
        left = 0.0
    if left / problem.products.n_rows < smallest:
        raise ValueError(
            f"The fixed and random terms reproduce {response!r} exactly: no residual variance is left to compare "
            "with. Is the response constant within the groups?"
        )


def _lowest(problem: Problem) -> Descent:
    """The lower end of the descents from both starts; of the first alone where no variance comes near zero."""
    identity = problem.theta([np.eye(len(mask)) for mask in problem.free])
    first = _minimise(problem, _scored(problem, STARTS[0] * identity))
    smallest = min(float(np.linalg.eigvalsh(factor @ factor.T)[0]) for factor in problem.factors(first.point))
    if smallest > NEAR_ZERO:
        return first
    return min(first, _minimise(problem, STARTS[1] * identity), key=lambda found: found.value)


def _scored(problem: Problem, start: Theta) -> Theta:
    def evaluate(factors: Factors) -> SlopesAndTraces:
        try:
            found = problem.solve(problem.theta(factors))
        except np.linalg.LinAlgError:
            return float("inf"), [], []
        variance = residual_variance(found, problem.products, problem.reml)
        slopes = covariance_gradients(found, problem.reml, variance)
        return profiled_deviance(found, problem.products, problem.reml), slopes, found.projected

    levels = [levels for levels, _ in problem.products.sizes]
    return problem.theta(scored(evaluate, problem.factors(start), [_blocks(mask) for mask in problem.free], levels))


def _minimise(problem: Problem, start: Theta) -> Descent:
    """Descend, and go on from where a variance of zero, or a correlation of ±1, was reached too early."""
    best = descend(problem.value_and_gradient, start, problem.curvature)
    for _ in range(MOST_RESTARTS):
        inside = _descent_into_cone(problem, best.point)
        if inside is None:
            break
        again = descend(problem.value_and_gradient, inside, problem.curvature)
        if again.value > best.value - close_enough(best.value):
            break
        best = again
    return best


def _descent_into_cone(problem: Problem, theta: Theta) -> Theta | None:
    """A point further inside the cone of covariances with a lower deviance; None if there is none nearby."""
    factors = problem.factors(theta)
    found = problem.solve(theta)
    value = profiled_deviance(found, problem.products, problem.reml)
    gradients = covariance_gradients(found, problem.reml, residual_variance(found, problem.products, problem.reml))
    parts = zip(gradients, factors, problem.free, found.projected, problem.products.sizes, strict=True)
    for number, (slope, factor, mask, projected, (levels, _)) in enumerate(parts):
        for block in _blocks(mask):
            # Karush–Kuhn–Tucker at a boundary of the cone: G must be positive semidefinite. Its lowest eigenvalue is
            # the steepest descent among the directions vv' that lead inside.
            values, vectors = np.linalg.eigh(slope[block, block])
            # What can be gained along vv' with slope s is about s²/2J(v'Av)²: see `expected_curvature`.
            bent = float(vectors[:, 0] @ projected[block, block] @ vectors[:, 0]) ** 2 / levels
            if values[0] > 0 or values[0] ** 2 / (2 * bent) < close_enough(value):
                continue
            for step in np.logspace(-1, -7, 7):
                inside = factor.copy()
                # A triangular root of ΛΛ' + step · vv' is the R of QR of its stacked roots, without forming the sum.
                stacked = np.vstack([factor[block, block].T, np.sqrt(step) * vectors[:, 0]])
                inside[block, block] = np.linalg.qr(stacked, mode="r").T
                point = problem.theta([*factors[:number], inside, *factors[number + 1 :]])
                if problem.value_and_gradient(point)[0] < value - close_enough(value):
                    return point
    return None


def _blocks(mask: Bool[np.ndarray, "terms terms"]) -> list[slice]:
    """The blocks whose lower triangles a mask marks."""
    starts = [row for row in range(len(mask)) if not mask[row, :row].any()]
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], len(mask)], strict=True)]


def _snap_to_boundary(problem: Problem, found: Descent) -> tuple[Theta, bool]:
    """θ with variances that are zero up to rounding set to zero, unless that costs anything; and whether any is."""
    cleaned, singular = [], False
    for factor, mask in zip(problem.factors(found.point), problem.free, strict=True):
        clean = np.zeros_like(factor)
        for block in _blocks(mask):
            # Drop the eigenvalues of ΛΛ' that are rounding, and take the triangular root of what is left.
            values, vectors = np.linalg.eigh(factor[block, block] @ factor[block, block].T)
            kept = np.where(values < ZERO_VARIANCE, 0.0, values)
            singular |= bool((kept == 0).any())
            clean[block, block] = np.linalg.qr((vectors * np.sqrt(kept)).T, mode="r").T
        cleaned.append(clean)
    if not singular:  # the same θ but for signs and rounding
        return found.point, False
    theta = problem.theta(cleaned)
    same = problem.value_and_gradient(theta)[0] < found.value + 100 * close_enough(found.value)
    return (theta if same else found.point), singular
