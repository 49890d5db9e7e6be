"""Cross-validated correlations against scipy, and their contributions against resampling."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr, spearmanr

from labutils.adaptation.correlations import fold_correlations, pearson_contributions


def predictions(n: int, n_folds: int, *, seed: int = 0, slope: float = 0.7) -> pd.DataFrame:
    """Folds of unequal size, ties in the gold scores, and a level and scale of the predictions in every fold."""
    generator = np.random.default_rng(seed)
    fold = np.sort(generator.permutation(np.arange(n) % n_folds))[generator.permutation(n)]
    gold = generator.integers(0, 6, size=n).astype(float)
    predicted = (slope * gold + generator.normal(size=n)) * (1 + fold) + 10 * fold
    return pd.DataFrame({"item": np.arange(n), "fold": fold, "gold": gold, "predicted": predicted})


@pytest.mark.parametrize(("n", "n_folds"), [(40, 1), (47, 5), (9, 3)])
def test_scores_are_weighted_means_of_scipys(n, n_folds):
    frame = predictions(n, n_folds)
    sizes, pearson, spearman = [], [], []
    for _, part in frame.groupby("fold"):
        sizes.append(len(part))
        pearson.append(pearsonr(part["gold"], part["predicted"]).statistic)
        spearman.append(spearmanr(part["gold"], part["predicted"]).statistic)
    expected = (np.average(pearson, weights=sizes), np.average(spearman, weights=sizes))
    assert fold_correlations(frame) == pytest.approx(expected, abs=1e-12)
    assert pearson_contributions(frame).mean() == pytest.approx(expected[0], abs=1e-12)


def test_the_order_of_the_pairs_does_not_matter():
    frame = predictions(30, 3)
    shuffled = frame.sample(frac=1, random_state=0)
    assert fold_correlations(shuffled) == pytest.approx(fold_correlations(frame), abs=1e-12)
    pd.testing.assert_series_equal(pearson_contributions(shuffled).sort_index(), pearson_contributions(frame))


def test_contributions_are_the_influence_of_each_pair():
    """Leaving a pair out changes the correlation by its contribution's distance from it, over n − 1."""
    frame = predictions(400, 1)
    whole = fold_correlations(frame)[0]
    left_out = [fold_correlations(frame.drop(index=index))[0] for index in frame.index[:60]]
    jackknife = (len(frame) - 1) * (whole - np.array(left_out))
    influence = pearson_contributions(frame).to_numpy()[:60] - whole
    np.testing.assert_allclose(jackknife, influence, atol=0.04)
    assert np.ptp(influence) > 1


def test_contributions_resample_like_the_correlation():
    frame = predictions(200, 1, seed=4)
    generator = np.random.default_rng(0)
    gold, predicted = frame["gold"].to_numpy(), frame["predicted"].to_numpy()
    values = pearson_contributions(frame).to_numpy()
    chosen = generator.integers(0, 200, size=(1500, 200))
    anew = [np.corrcoef(gold[rows], predicted[rows])[0, 1] for rows in chosen]
    assert np.std(values[chosen].mean(axis=1)) == pytest.approx(np.std(anew), rel=0.08)


@pytest.mark.parametrize(
    ("column", "value"), [("predicted", 1.0), ("gold", 2.0), ("predicted", np.nan), ("predicted", np.inf)]
)
def test_no_correlation_is_an_error_that_names_the_fold(column, value):
    frame = predictions(20, 2)
    frame.loc[frame["fold"] == 1, column] = value
    for compute in (fold_correlations, pearson_contributions):
        with pytest.raises(ValueError, match=f"{column} scores .* in fold 1 are equal or not finite"):
            compute(frame)


def test_a_fold_of_one_pair_has_no_correlation():
    with pytest.raises(ValueError, match="the 1 pairs"):
        fold_correlations(predictions(20, 2).drop_duplicates("fold"))
