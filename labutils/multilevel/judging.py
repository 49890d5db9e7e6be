"""Numbers that claims are judged by, each with its interval: the weakest of several effects, a ratio of shares."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import norm

from labutils.multilevel.model import MultilevelModel
from labutils.multilevel.resampling import Bootstrap, bias_shift
from labutils.stats.bootstrap import Interval


def standardised_effects(model: MultilevelModel, signs: Mapping[str, float | int]) -> pd.DataFrame:
    """Fixed effects in standard deviations of the response, each times its sign: estimate, se, df, t, p.

    >>> standardised_effects(model, {"word_length": -1, "term_share": 1})["estimate"]

    Args:
        signs: term → the sign that makes it positive where a claim holds. Predictors are taken as they are: scale them
            beforehand, so that an effect is per standard deviation.

    Raises:
        LookupError: a term that the model does not have.
    """
    spread = float(np.std(model.design.y, ddof=1))
    rows = {term: model.contrast({term: sign / spread}) for term, sign in signs.items()}
    return pd.DataFrame(rows).T.rename_axis("term")


def smallest_effect(
    model: MultilevelModel,
    signs: Mapping[str, float | int],
    *,
    n_draws: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The smallest of some standardised effects, for a claim that all of them are positive.

    >>> lab.judge("C11", interval=smallest_effect(model, {"word_length": -1, "term_share": 1}), scope=scope)

    The effects are drawn together from the multivariate t-distribution around their estimates, with the smallest of
    their Satterthwaite degrees of freedom; the interval holds the middle of the smallest of each draw. It lies above
    zero only where each single t-interval does, and errs downwards where the effects are about equal.

    Args:
        signs: as for `standardised_effects`.

    Returns:
        an interval over `n_items` runs and `n_draws` groups of the model.
    """
    table = standardised_effects(model, signs)
    scale = np.array([sign for sign in signs.values()]) / np.std(model.design.y, ddof=1)
    covariance = model.fixed_covariance.loc[list(signs), list(signs)].to_numpy() * np.outer(scale, scale)
    generator, degrees = np.random.default_rng(seed), table["df"].min()
    normal = generator.multivariate_normal(np.zeros(len(table)), covariance, size=n_draws)
    drawn = table["estimate"].to_numpy() + normal * np.sqrt(degrees / generator.chisquare(degrees, size=(n_draws, 1)))
    return _interval(float(table["estimate"].min()), drawn.min(axis=1), level, model)


def share_ratio(bootstrap: Bootstrap, above: str, below: str, model: MultilevelModel) -> Interval:
    """Logarithm of the ratio of two shares of the total variance, bias-corrected as `bootstrap` does it.

    >>> share_ratio(bootstrap(model), "f1", "f2", model)  # above zero: more variance within groups than between

    The samples of the interval are the resamples moved in the same way, so that their percentiles are the interval.

    Raises:
        LookupError: a share that the bootstrap does not hold.
    """
    for name in (above, below):
        if ("total", name) not in bootstrap.table.index:
            raise LookupError(f"the bootstrap holds no share {name!r} of the total variance")
    shares = {name: bootstrap.table.loc[("total", name), "estimate"] for name in (above, below)}
    estimate = float(np.log(shares[above] / shares[below]))
    samples = np.log(bootstrap.samples[("total", above)] / bootstrap.samples[("total", below)]).to_numpy(dtype=float)
    return _interval(estimate, corrected_samples(samples, estimate), bootstrap.level, model)


def corrected_samples(samples: Float[np.ndarray, " n"], estimate: float) -> Float[np.ndarray, " n"]:
    """Resamples whose percentiles are the bias-corrected ones (Efron 1981): quantiles at Φ(z + 2 Φ⁻¹(share below))."""
    n = len(samples)
    return np.quantile(samples, norm.cdf(norm.ppf((np.arange(n) + 0.5) / n) + bias_shift(samples, estimate)))


def model_size(model: MultilevelModel) -> tuple[int, int]:
    """Rows, and groups of the first grouping factor."""
    return model.design.n_rows, len(model.design.groupings[0].levels)


def _interval(estimate: float, samples: Float[np.ndarray, " n"], level: float, model: MultilevelModel) -> Interval:
    n_rows, n_groups = model_size(model)
    units = ("run", model.design.groupings[0].name)
    return Interval.from_samples(estimate, samples, level=level, n_items=n_rows, n_draws=n_groups, units=units)
