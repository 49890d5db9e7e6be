"""Shares of the variance of the response: the decomposition of Rights & Sterba, and the R² of Nakagawa.

y_ij = x_ij' b + z_ij' u_j + e_ij with u_j ~ N(0, T) and e ~ N(0, σ²). Rights & Sterba (2019, Psychological Methods
24(3)) divide the variance that the model implies into

    f1        fixed effects of what varies within groups, b_w' Φ_w b_w
    f2        fixed effects of what varies between groups, b_b' Φ_b b_b
    v         slopes that vary over groups, tr(T Σ_z)
    m         group means that the fixed effects leave unexplained, z̄' T z̄
    residual  σ²

where Φ and Σ_z are covariances over all rows, with n − 1. This takes level-1 predictors that are centred in every
single group; one centred at its grand mean mixes both levels. Without it only f = b'Φb can be told from v, m and σ².
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from labutils.core.options import suggest
from labutils.multilevel.coding import read_column
from labutils.multilevel.matrices import Design

CENTRED = 1e-4  # mean of a group relative to the root mean square of the column, below which the group is centred
COLUMNS = ["f1", "f2", "v", "m", "residual", "f", "fv", "fvm"]
Covariance = Float[np.ndarray, "terms terms"]


class Components(NamedTuple):
    """Variances in squared units of the response; f1, f2 and their sum f are fixed effects.

    f1 and f2 are NaN, and `note` says why, where the levels cannot be told apart.
    """

    f1: float
    f2: float
    f: float
    v: float
    m: float
    residual: float
    note: str


def implied_variances(
    design: Design, coefficients: Float[np.ndarray, " fixed"], random: Covariance, residual: float
) -> Components:
    """The model-implied variances of a design with one grouping factor.

    Args:
        coefficients: fixed effects b.
        random: covariance T of the random coefficients.
        residual: σ².

    Raises:
        ValueError: several grouping factors, for which this decomposition is not defined.
    """
    if len(design.groupings) != 1:
        names = ", ".join(grouping.name for grouping in design.groupings)
        raise ValueError(f"The decomposition is for one grouping factor, not for {names}: use nakagawa().")
    (grouping,) = design.groupings
    phi, sigma_z, mean_z = _covariance(design.x), _covariance(grouping.columns), grouping.columns.mean(0)
    within, between = levels_of_columns(design.x, grouping.codes)
    # tr(T Σ_z): a slope that varies over groups adds variance as far as its predictor varies. z̄'T z̄: the means of
    # groups differ where the random coefficients act on the mean of z, of which the intercept is the usual case.
    v, m = float(np.trace(random @ sigma_z)), float(mean_z @ random @ mean_z)
    note = _why_undivided(design, within | between)
    if note:
        f = float(coefficients @ phi @ coefficients)
        return Components(float("nan"), float("nan"), f, v, m, residual, note)
    # A column varies at one level only, so that b_w'Φb_w and b_b'Φb_b take the coefficients of one level each.
    f1, f2 = (float(part @ phi @ part) for part in (coefficients * within, coefficients * between))
    return Components(f1, f2, f1 + f2, v, m, residual, "")


def share_table(components: Components) -> pd.DataFrame:
    """Each component as a share of the total variance, of the variance within groups, and of that between groups.

    Rows total, within, between (only total where the levels cannot be told apart); columns f1, f2, v, m, residual and
    the sums f (fixed), fv, fvm. A component that has no part in a variance is NaN there.
    """
    f1, f2, f, v, m, residual, note = components
    total = f + v + m + residual
    rows = {"total": {"f1": f1, "f2": f2, "v": v, "m": m, "residual": residual, "f": f, "fv": f + v, "fvm": f + v + m}}
    rows["total"] = {name: value / total for name, value in rows["total"].items()}
    if not note:
        # Within groups vary f1, v and the residual; between groups f2 and m (Rights & Sterba 2019).
        inside, outside = f1 + v + residual, f2 + m
        rows["within"] = {"f1": f1 / inside, "v": v / inside, "residual": residual / inside, "fv": (f1 + v) / inside}
        rows["between"] = {"f2": f2 / outside, "m": m / outside} if outside > 0 else {}
    return pd.DataFrame.from_dict(rows, orient="index", columns=COLUMNS).rename_axis("variance").astype(float)


def block_shares(
    design: Design,
    coefficients: Float[np.ndarray, " fixed"],
    random: Covariance,
    residual: float,
    blocks: Mapping[str, Sequence[str]],
) -> pd.DataFrame:
    """Share of the total variance that goes through each block of predictors.

    Columns: `fixed`, the variance of the block's part of the fixed effects; `slopes`, that of its varying slopes. The
    last row, "shared", is what covariances between blocks add or take away; it is zero in balanced designs.

    Args:
        blocks: name of each block and its terms; together they must be all fixed effects but the intercept.

    Raises:
        ValueError: the blocks overlap, or leave out a fixed effect.
        LookupError: a term that the model does not have.
    """
    components = implied_variances(design, coefficients, random, residual)
    (grouping,) = design.groupings
    named = [term for terms in blocks.values() for term in terms]
    expected = [term for term in design.terms if term != "(Intercept)"]
    unknown = [term for term in named if term not in expected]
    if unknown:
        hint = suggest(unknown[0], expected)
        raise LookupError(f"The model has no fixed effect {unknown[0]!r}.{hint} It has {', '.join(expected)}.")
    if sorted(named) != sorted(expected):
        raise ValueError(f"The blocks must hold every fixed effect once: {', '.join(expected)}; they hold {named}.")
    total = components.f + components.v + components.m + components.residual
    phi, sigma_z = _covariance(design.x), _covariance(grouping.columns)
    rows = {}
    for name, terms in blocks.items():
        part = coefficients * np.isin(design.terms, list(terms))
        slopes = np.isin(grouping.terms, list(terms))
        # The block's part of tr(T Σ_z); covariances with slopes of other blocks go to "shared".
        varying = np.trace(random[np.ix_(slopes, slopes)] @ sigma_z[np.ix_(slopes, slopes)])
        rows[name] = {"fixed": float(part @ phi @ part) / total, "slopes": float(varying) / total}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("block")
    table.loc["shared"] = np.array([components.f, components.v]) / total - table.sum().to_numpy()
    return table


def nakagawa_r2(
    design: Design,
    coefficients: Float[np.ndarray, " fixed"],
    random: Sequence[Float[np.ndarray, "_ _"]],
    residual: float,
) -> pd.Series:
    """Marginal and conditional R² (Nakagawa & Schielzeth 2013; with slopes Johnson 2014, Methods Ecol. Evol. 4, 5).

    `random` holds the covariance of every grouping factor; the variance of the random part is the mean of diag(Z T Z').
    """
    fixed = float(np.var(design.x @ coefficients, ddof=1))
    varying = random_variance(design, random)
    total = fixed + varying + residual
    return pd.Series({"marginal": fixed / total, "conditional": (fixed + varying) / total})


def random_variance(design: Design, random: Sequence[Float[np.ndarray, "_ _"]]) -> float:
    """Mean over the rows of the variance that all random terms give a row: mean of diag(Z T Z')."""
    parts = zip(design.groupings, random, strict=True)
    return float(sum(np.einsum("ri,ij,rj->r", part.columns, t, part.columns).mean() for part, t in parts))


def centre_within(data: pd.DataFrame, columns: Sequence[str], group: str) -> pd.DataFrame:
    """A copy of the data with every predictor split in two: `<name>_within`, its deviation from the mean of its group,
    and `<name>_between`, that mean.

    >>> rows = centre_within(rows, ["word_length"], "sample")
    >>> fit_multilevel("score ~ word_length_within + word_length_between + (1 | sample)", rows).r2()

    Raises:
        LookupError: an unknown column.
    """
    for name in [*columns, group]:
        read_column(data, name)
    means = data.groupby(group, observed=True)[list(columns)].transform("mean")
    return data.assign(
        **{f"{name}_within": data[name] - means[name] for name in columns},
        **{f"{name}_between": means[name] for name in columns},
    )


def levels_of_columns(
    columns: Float[np.ndarray, "rows terms"], codes: Int[np.ndarray, " rows"]
) -> tuple[Bool[np.ndarray, " terms"], Bool[np.ndarray, " terms"]]:
    """Which columns have mean zero in every single group, and which are constant in every group; possibly neither."""
    sizes = np.bincount(codes)
    means = np.column_stack([np.bincount(codes, column) / sizes for column in columns.T])
    tolerance = CENTRED * np.sqrt(np.square(columns).mean(0))
    within = (np.abs(means) <= tolerance).all(0)
    between = (np.abs(columns - means[codes]) <= tolerance).all(0)
    return within, between


def _covariance(columns: Float[np.ndarray, "rows terms"]) -> Covariance:
    return np.atleast_2d(np.cov(columns, rowvar=False))


def _why_undivided(design: Design, fixed_divided: Bool[np.ndarray, " terms"]) -> str:
    """The reason why within and between cannot be told apart; empty where they can."""
    (grouping,) = design.groupings
    mixed = [term for term, divided in zip(design.terms, fixed_divided, strict=True) if not divided]
    centred, constant = levels_of_columns(grouping.columns, grouping.codes)
    everywhere = np.ptp(grouping.columns, axis=0) == 0
    mixed += [t for t, fine in zip(grouping.terms, centred | everywhere, strict=True) if not fine and t not in mixed]
    if not mixed:
        return ""
    return (
        f"Only totals: {', '.join(map(repr, mixed))} not centred in every {grouping.name!r}, so that the parts within "
        "and between groups cannot be told apart; `centre_within` splits a predictor in two."
    )
