"""What a study of given size can see, by simulation: recovery of known coefficients, and power for text effects."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy.stats import binomtest
from scipy.stats import t as student

from labutils.core.progress import progress
from labutils.multilevel.model import MultilevelModel, fit_multilevel
from labutils.multilevel.simulation import StudyTruth, draw_features, simulate_study, study_formula, true_components
from labutils.multilevel.variance_shares import share_table


def recovery(
    truth: StudyTruth, features: pd.DataFrame, *, n_studies: int = 200, level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Simulate studies with known coefficients, fit each, and compare.

    >>> truth = StudyTruth({"complexity": -0.5}, adaptation=(0.3,), finetuning=(0.2,))
    >>> recovery(truth, draw_features(["complexity"], 24)).loc["fixed", ["truth", "mean", "coverage"]]

    Studies run through joblib, so `joblib.parallel_config` spreads them over processes.

    Args:
        features: text features of the samples, the same in all studies; see `simulate_study`.
        level: of the t-intervals of the fixed effects, with Satterthwaite's degrees of freedom.

    Returns:
        index (kind, name), kinds fixed, variance and share (of the total variance). Columns: truth; mean (of the
        estimates); bias, and bias_se, its simulation error; for fixed effects coverage of the interval, with the Wilson
        interval coverage_low, coverage_high of the simulation; n_studies; singular, the share of singular fits.

    Raises:
        ValueError: fewer than two studies, or a level outside (0, 1).
    """
    if n_studies < 2 or not 0 < level < 1:
        raise ValueError(f"n_studies={n_studies}, level={level}: at least two studies, a level between 0 and 1.")
    expected = _expected(truth, features)
    seeds = np.random.SeedSequence(seed).spawn(n_studies)
    run = Parallel(return_as="generator")(delayed(_recover)(truth, features, level, each) for each in seeds)
    found = list(progress(run, total=n_studies, description="simulated studies", unit="study"))
    estimates = pd.DataFrame([values for values, _, _ in found])[list(expected.index)]
    covered = pd.DataFrame([hits for _, hits, _ in found]).sum()
    table = pd.DataFrame({"truth": expected, "mean": estimates.mean()})
    table["bias"] = table["mean"] - table["truth"]
    table["bias_se"] = estimates.std(ddof=1) / np.sqrt(n_studies)
    for key, hits in covered.items():
        table.loc[key, ["coverage", "coverage_low", "coverage_high"]] = _proportion(int(hits), n_studies)
    return table.assign(n_studies=n_studies, singular=np.mean([singular for _, _, singular in found]))


def text_effect_power(
    truth: StudyTruth,
    n_samples: Sequence[int],
    *,
    correlation: float = 0.0,
    n_studies: int = 500,
    alpha: float = 0.05,
    seed: int = 0,
) -> pd.DataFrame:
    """How often a study of K samples finds each text effect significant, two-sided, in its t-test.

    >>> text_effect_power(StudyTruth({"complexity": -0.5}, (0.3,), (0.2,)), [20, 40, 80])[["n_samples", "power"]]

    Every study draws text features anew (standard normal, so that an effect is per standard deviation).

    Args:
        n_samples: the K to try.
        correlation: between the text features.

    Returns:
        one row per K and text feature: n_samples, runs (K·D·H), feature, effect, power, with the Wilson interval low,
        high of the simulation, n_studies.

    Raises:
        ValueError: no study, alpha outside (0, 1), or K too small for the number of text features.
    """
    if n_studies < 1 or not 0 < alpha < 1:
        raise ValueError(f"n_studies={n_studies}, alpha={alpha}: at least one study, alpha between 0 and 1.")
    smallest = len(truth.text) + 2
    if not truth.text or min(n_samples, default=0) < smallest:
        raise ValueError(f"{len(truth.text)} text effects need at least {smallest} samples, got {list(n_samples)}.")
    sizes = np.random.SeedSequence(seed).spawn(len(n_samples))
    jobs = [(k, each) for k, size in zip(n_samples, sizes, strict=True) for each in size.spawn(n_studies)]
    run = Parallel(return_as="generator")(delayed(_text_p)(truth, k, correlation, each) for k, each in jobs)
    found = progress(run, total=len(jobs), description="simulated studies", unit="study")
    p = pd.DataFrame(list(found), index=pd.Index([k for k, _ in jobs], name="n_samples"))
    cells = (len(truth.adaptation) + 1) * (len(truth.finetuning) + 1)
    rows = []
    for k, values in p.groupby(level="n_samples", sort=False):
        for name, effect in truth.text.items():
            power, low, high = _proportion(int((values[name] < alpha).sum()), len(values))
            about = {"n_samples": k, "runs": k * cells, "feature": name, "effect": effect}
            rows.append({**about, "power": power, "low": low, "high": high, "n_studies": len(values)})
    return pd.DataFrame(rows)


def _expected(truth: StudyTruth, features: pd.DataFrame) -> pd.Series:
    """True values by (kind, name), in the order of the table."""
    components = true_components(truth, features)
    variances = {"m": components.m, "v": components.v, "residual": components.residual}
    return _labelled(truth.fixed, variances, share_table(components).loc["total"].dropna().to_dict())


def _estimates(model: MultilevelModel) -> pd.Series:
    components = model.components
    variances = {"m": components.m, "v": components.v, "residual": components.residual}
    return _labelled(model.fixed["estimate"].to_dict(), variances, share_table(components).loc["total"].to_dict())


def _labelled(fixed: dict[str, float | int], variances: dict[str, float], shares: dict[str, float]) -> pd.Series:
    kinds = {"fixed": fixed, "variance": variances, "share": shares}
    values = {(kind, name): value for kind, named in kinds.items() for name, value in named.items()}
    series = pd.Series(values, dtype=float)
    return series.rename_axis(["kind", "name"])


def _recover(
    truth: StudyTruth, features: pd.DataFrame, level: float, seed: np.random.SeedSequence
) -> tuple[pd.Series, dict[tuple[str, str], bool], bool]:
    """Estimates of one study, whether each fixed effect's interval holds the truth, and whether the fit is singular."""
    model = fit_multilevel(study_formula(truth), simulate_study(truth, features, seed=seed))
    fixed = model.fixed
    half = fixed["se"] * student.ppf((1 + level) / 2, fixed["df"])
    off = (fixed["estimate"] - pd.Series(truth.fixed)).abs()
    covered = {("fixed", str(name)): bool(off[name] <= half[name]) for name in fixed.index}
    return _estimates(model), covered, model.singular


def _text_p(truth: StudyTruth, n_samples: int, correlation: float, seed: np.random.SeedSequence) -> dict[str, float]:
    for_features, for_scores = seed.spawn(2)
    features = draw_features(list(truth.text), n_samples, correlation=correlation, seed=for_features)
    model = fit_multilevel(study_formula(truth), simulate_study(truth, features, seed=for_scores))
    return model.fixed.loc[list(truth.text), "p"].to_dict()


def _proportion(hits: int, n: int) -> tuple[float, float, float]:
    """A proportion and its Wilson (1927) interval at 95 %."""
    interval = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    return hits / n, float(interval.low), float(interval.high)
