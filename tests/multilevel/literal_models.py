"""Mixed models written out literally: the covariance of the rows entry by entry, everything else by its definition."""

import numpy as np
import pandas as pd

from labutils.multilevel.design import Design


def row_covariance(design: Design, covariances: list[np.ndarray], residual: float) -> np.ndarray:
    """Cov(y_i, y_k) = Σ_f [same level] z_i' T_f z_k + σ²/w_i [i = k], pair by pair."""
    n = design.n_rows
    v = np.zeros((n, n))
    for i in range(n):
        for k in range(i + 1):
            for grouping, t in zip(design.groupings, covariances, strict=True):
                if grouping.codes[i] == grouping.codes[k]:
                    v[i, k] += grouping.columns[i] @ t @ grouping.columns[k]
            v[k, i] = v[i, k]
        v[i, i] += residual if design.weights is None else residual / design.weights[i]
    return v


def literal_fixed(design: Design, covariances: list[np.ndarray], residual: float) -> tuple[np.ndarray, np.ndarray]:
    """Generalised least squares estimate (X'V⁻¹X)⁻¹X'V⁻¹y and its covariance."""
    inverse = np.linalg.inv(row_covariance(design, covariances, residual))
    covariance = np.linalg.inv(design.x.T @ inverse @ design.x)
    return covariance @ design.x.T @ inverse @ design.y, covariance


def literal_deviance(design: Design, covariances: list[np.ndarray], residual: float, reml: bool) -> float:
    """−2 log-likelihood of the normal density, after integrating the fixed effects out for REML."""
    v = row_covariance(design, covariances, residual)
    fixed, covariance = literal_fixed(design, covariances, residual)
    left = design.y - design.x @ fixed
    n, p = design.x.shape
    value = n * np.log(2 * np.pi) + np.linalg.slogdet(v)[1] + left @ np.linalg.solve(v, left)
    return value - reml * (p * np.log(2 * np.pi) + np.linalg.slogdet(covariance)[1])


def grouped_data(seed: int, *, n_groups: int = 8, size: int = 6, sd: tuple[float, float] = (1.0, 0.6)) -> pd.DataFrame:
    """Unbalanced groups with a random intercept and slope in x; w is constant in the groups, c has three levels."""
    generator = np.random.default_rng(seed)
    sizes = generator.integers(size - 2, size + 3, n_groups)
    g = np.repeat(np.arange(n_groups), sizes)
    x, w = generator.normal(size=len(g)), generator.normal(size=n_groups)[g]
    intercepts, slopes = generator.normal(size=(2, n_groups)) * np.array(sd)[:, None]
    y = 1 + 0.5 * x + 0.3 * w + intercepts[g] + slopes[g] * x + generator.normal(size=len(g))
    c = np.array(["a", "b", "c"])[generator.integers(3, size=len(g))]
    other = np.array([f"h{i}" for i in generator.integers(4, size=len(g))])
    return pd.DataFrame({"y": y, "x": x, "w": w, "c": c, "g": [f"g{i}" for i in g], "h": other})


def balanced_data(seed: int, *, n_groups: int = 10, size: int = 5, sd: float = 1.0) -> pd.DataFrame:
    """Equal groups with a random intercept; x is the same centred sequence in each, w is constant in the groups."""
    generator = np.random.default_rng(seed)
    g = np.repeat(np.arange(n_groups), size)
    x, w = np.tile(np.arange(size) - (size - 1) / 2, n_groups), generator.normal(size=n_groups)[g]
    y = 2 + 0.4 * x - 0.7 * w + sd * generator.normal(size=n_groups)[g] + generator.normal(size=len(g))
    return pd.DataFrame({"y": y, "x": x, "w": w, "g": g})
