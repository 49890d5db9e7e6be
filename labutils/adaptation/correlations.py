"""Cross-validated correlations of predicted with gold similarities, as one number and as one value per pair."""

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import rankdata


def fold_correlations(predictions: pd.DataFrame) -> tuple[float, float]:
    """Pearson's r and Spearman's ρ: computed within every fold, averaged over folds weighted by their size.

    >>> fold_correlations(rows.predictions)

    Within folds, because each fold has a regression of its own, whose level and scale differ from its neighbours'.

    Args:
        predictions: columns `fold`, `gold`, `predicted` of one run.

    Raises:
        ValueError: a fold of fewer than two pairs, or one whose gold or predicted scores are all equal or not finite.
    """
    found = []
    for fold, pairs in predictions.groupby("fold"):
        gold, predicted = (pairs[name].to_numpy(dtype=float) for name in ("gold", "predicted"))
        pearson = np.mean(_standardised(gold, "gold", fold) * _standardised(predicted, "predicted", fold))
        ranks = [_standardised(rankdata(values), "ranked", fold) for values in (gold, predicted)]
        found.append((pearson, np.mean(ranks[0] * ranks[1]), len(pairs)))
    pearson, spearman, sizes = np.array(found).T
    return float(np.average(pearson, weights=sizes)), float(np.average(spearman, weights=sizes))


def pearson_contributions(predictions: pd.DataFrame) -> pd.Series:
    """One value per pair, whose mean over all pairs is the cross-validated Pearson correlation.

    >>> pearson_contributions(run).mean()  # the mean of the folds' correlations

    Within a fold with correlation r the value is r + ab − r(a² + b²)/2, where a and b are the standardised gold and
    predicted score: r plus the influence of the pair on it (Hampel 1974, JASA 69; for correlations Devlin, Gnanadesikan
    & Kettenring 1975, Biometrika 62). To first order, resampling these values is resampling the pairs and computing the
    correlation anew, so that differences of correlations can be paired pair by pair.

    Raises:
        ValueError: as `fold_correlations`.
    """
    values = pd.Series(np.nan, index=predictions.index)
    for fold, pairs in predictions.groupby("fold"):
        a = _standardised(pairs["gold"].to_numpy(dtype=float), "gold", fold)
        b = _standardised(pairs["predicted"].to_numpy(dtype=float), "predicted", fold)
        r = np.mean(a * b)
        values.loc[pairs.index] = r + a * b - r * (a**2 + b**2) / 2
    return values


def _standardised(values: Float[np.ndarray, " n"], name: str, fold: object) -> Float[np.ndarray, " n"]:
    """Shifted and scaled to mean 0 and population variance 1."""
    if len(values) < 2 or not np.isfinite(values).all() or np.ptp(values) == 0:
        raise ValueError(
            f"the {name} scores of the {len(values)} pairs in fold {fold} are equal or not finite, so no correlation "
            "is defined there: take fewer folds, or a lower learning rate"
        )
    return (values - values.mean()) / values.std()
