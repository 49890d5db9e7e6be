"""p-values that count how many comparisons were made."""

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import studentized_range

ADJUSTMENTS = ("tukey", "holm", "bonferroni", "sidak", "none")


def adjusted_p(table: pd.DataFrame, adjust: str, kind: str, n_means: int) -> Float[np.ndarray, " comparisons"]:
    """Adjusted two-sided p-values of one family of t-tests.

    >>> adjusted_p(pd.DataFrame({"t": [2.0], "df": [10.0], "p": [0.03]}), "holm", "pairs", 2)
    array([0.03])

    Tukey's holds the chance of any false difference among all pairs of means (exact for equal standard errors, Tukey
    1953; otherwise conservative, Kramer 1956, Biometrics 12; Hayter 1984, Annals of Statistics 12); Holm (1979,
    Scandinavian Journal of Statistics 6), Bonferroni and Šidák (1967, JASA 62) hold it for any comparisons.

    Args:
        table: t, df and p of every comparison.
        kind: "pairs" or "contrasts"; Tukey's is for all pairs.
        n_means: that are compared.

    Raises:
        ValueError: an unknown adjustment, or Tukey's for contrasts of one's own.
    """
    if adjust not in ADJUSTMENTS:
        raise ValueError(f"adjust={adjust!r} is not known: use one of {', '.join(map(repr, ADJUSTMENTS))}.")
    p, count = table["p"].to_numpy(dtype=float), len(table)
    if adjust == "none" or count == 1:
        return p
    if adjust == "tukey":
        if kind != "pairs":
            raise ValueError("adjust='tukey' is for all pairs of means: use 'holm' for contrasts of your own.")
        found = studentized_range.sf(np.sqrt(2) * table["t"].abs().to_numpy(), n_means, table["df"].to_numpy())
        # One of the comparisons is that of `p`, and there are no more than `count`: bounds where the integral has no
        # digits left.
        return np.clip(found, p, np.minimum(1, count * p))
    if adjust == "bonferroni":
        return np.minimum(1, count * p)
    if adjust == "sidak":
        return -np.expm1(count * np.log1p(-p))
    order = np.argsort(p, kind="stable")
    adjusted = np.minimum(1, np.maximum.accumulate((count - np.arange(count)) * p[order]))
    return adjusted[np.argsort(order, kind="stable")]
