"""Standard errors of fixed effects, and Satterthwaite's degrees of freedom for their t-tests.

The variance of a contrast c'b is v(φ) = σ² c'(X'V⁻¹X)⁻¹c with φ = (θ, σ). Its own uncertainty is that of φ, so it is
compared with a multiple of chi-square of 2 v² / (g'Ag) degrees of freedom, where g is the gradient of v in φ and A
is the asymptotic covariance of φ, twice the inverse Hessian of the deviance (Giesbrecht & Burns 1985, Biometrics 41;
Kuznetsova, Brockhoff & Christensen 2017, Journal of Statistical Software 82(13)).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.special import stdtr

from labutils.multilevel.fit import Fit
from labutils.multilevel.products import Solution

STEP = 1e-4  # of central differences, relative to parameters of size one or more
COLUMNS = pd.Index(["estimate", "se", "df", "t", "p"])
FLAT = 1e-8  # curvatures below this share of the largest carry no information; as in lmerTest they are left out


@dataclass(frozen=True)
class Uncertainty:
    """How well the fixed effects of a fit are known, in the units of the data."""

    fit: Fit

    @cached_property
    def covariance(self) -> Float[np.ndarray, "fixed fixed"]:
        """σ² (X'V⁻¹X)⁻¹ at the estimated covariance parameters."""
        internal = self.fit.variance * _inverse_information(self.fit.solution)
        return self.fit.coordinates.fixed_covariance(internal)

    @cached_property
    def _derivatives(
        self,
    ) -> tuple[Float[np.ndarray, "parameters fixed fixed"], Float[np.ndarray, "parameters parameters"]]:
        """Derivative of the covariance in φ, and the covariance A of φ, by central differences of exact gradients."""
        # As lmerTest (Kuznetsova et al. 2017), but the Hessian is a difference of exact gradients, not of values.
        fit, sigma = self.fit, np.sqrt(self.fit.variance)
        hessian, jacobian = np.empty((len(fit.theta) + 1,) * 2), []
        for i, step in enumerate(STEP * np.maximum(1, np.abs(fit.theta))):
            ahead, behind = fit.theta.copy(), fit.theta.copy()
            ahead[i] += step
            behind[i] -= step
            slope_ahead, covariance_ahead = _slope(fit, ahead, sigma)
            slope_behind, covariance_behind = _slope(fit, behind, sigma)
            hessian[i] = (slope_ahead - slope_behind) / (2 * step)
            jacobian.append((covariance_ahead - covariance_behind) / (2 * step))
        hessian[-1] = _bend_in_sigma(fit, sigma)
        jacobian.append(2 * sigma * _inverse_information(fit.solution))
        # A = 2 H⁻¹: the deviance is −2 log-likelihood, so its Hessian is twice the observed information. Directions
        # without curvature, as at a variance of zero, are left out of the inverse.
        values, vectors = np.linalg.eigh((hessian + hessian.T) / 2)
        informative = values > FLAT * values[-1]
        known = vectors[:, informative]
        parameter_covariance = 2 * known / values[informative] @ known.T
        return fit.coordinates.fixed_covariance(np.array(jacobian)), parameter_covariance

    def degrees_of_freedom(self, contrast: Float[np.ndarray, " fixed"]) -> float:
        """Satterthwaite's degrees of freedom of the t-test of c'b."""
        jacobian, parameter_covariance = self._derivatives
        # Delta method: var(v) = g'Ag with g = dv/dφ. A multiple of χ² with mean v and variance g'Ag has 2v²/(g'Ag)
        # degrees of freedom.
        gradient = contrast @ jacobian @ contrast
        spread = float(gradient @ parameter_covariance @ gradient)
        variance = float(contrast @ self.covariance @ contrast)
        return 2 * variance**2 / spread if spread > 0 else float("inf")


def t_table(uncertainty: Uncertainty, contrasts: Float[np.ndarray, "rows fixed"], names: list[str]) -> pd.DataFrame:
    """t-tests of contrasts of the fixed effects: index `term`; columns estimate, se, df, t, p (two-sided)."""
    fit = uncertainty.fit
    estimates = contrasts @ fit.coordinates.coefficients(fit.solution.coefficients)
    errors = np.sqrt(np.einsum("ri,ij,rj->r", contrasts, uncertainty.covariance, contrasts))
    degrees = np.array([uncertainty.degrees_of_freedom(contrast) for contrast in contrasts])
    ratios = estimates / errors
    columns = np.column_stack([estimates, errors, degrees, ratios, 2 * stdtr(degrees, -np.abs(ratios))])
    return pd.DataFrame(columns, index=pd.Index(names, name="term"), columns=COLUMNS)


def _inverse_information(solution: Solution) -> Float[np.ndarray, "fixed fixed"]:
    """(X'V⁻¹X)⁻¹"""
    half = np.linalg.inv(solution.information_root)
    return half.T @ half


def _slope(
    fit: Fit, theta: Float[np.ndarray, " parameters"], sigma: float
) -> tuple[Float[np.ndarray, " _"], Float[np.ndarray, "fixed fixed"]]:
    """Gradient of the deviance in φ = (θ, σ), profiled over b only, and the covariance of b there."""
    found = fit.problem.solve(theta)
    products = fit.problem.products
    degrees = products.n_rows - products.n_fixed * fit.problem.reml
    # d/dσ of degrees · log(2πσ²) + r²/σ², the part of the deviance that depends on σ.
    slope_sigma = 2 * degrees / sigma - 2 * found.r2 / sigma**3
    slope = np.append(fit.problem.pull_back(theta, found, sigma**2), slope_sigma)
    return slope, sigma**2 * _inverse_information(found)


def _bend_in_sigma(fit: Fit, sigma: float) -> Float[np.ndarray, " _"]:
    """Derivative of the gradient of `_slope` in σ, at the estimate."""
    degrees = fit.problem.products.n_rows - fit.problem.products.n_fixed * fit.problem.reml
    # The slope in θ is a − c/σ², so that its derivative is 2c/σ³, and c/σ² is what it lacks to a.
    lacking = fit.problem.pull_back(fit.theta, fit.solution, np.inf)
    lacking -= fit.problem.pull_back(fit.theta, fit.solution, sigma**2)
    return np.append(2 * lacking / sigma, -2 * degrees / sigma**2 + 6 * fit.solution.r2 / sigma**4)
