"""Simulated adaptation studies whose coefficients are known.

A study draws K samples of texts, adapts a model on each under D configurations, and fine-tunes each of those under H
configurations: K·D·H scores. Text features are properties of a sample (level 2); the configurations are crossed
within every sample (level 1) and enter as one centred 0/1 column per configuration but the first, so that they
cannot be mistaken for differences between samples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from labutils.multilevel.design import build_design
from labutils.multilevel.formula import read_formula
from labutils.multilevel.syntax import quote_name
from labutils.multilevel.variance_shares import Components, implied_variances


@dataclass(frozen=True)
class StudyTruth:
    """The coefficients that a study is simulated with, all in units of the score.

    Attributes:
        text: effect of one unit of each text feature.
        adaptation: effect of adaptation configuration 2, 3, … against the first; D − 1 numbers.
        finetuning: the same for fine-tuning; H − 1 numbers.
        intercept: mean score over the configurations where all text features are zero.
        sample_sd: standard deviation between samples that the text features do not explain.
        slope_sd: standard deviation over samples of the effect of every configuration, independent of one another.
        residual_sd: standard deviation between runs of the same sample and configuration.
    """

    text: Mapping[str, float | int]
    adaptation: tuple[float | int, ...]
    finetuning: tuple[float | int, ...]
    intercept: float | int = 0.0
    sample_sd: float | int = 1.0
    slope_sd: float | int = 0.0
    residual_sd: float | int = 1.0

    def __post_init__(self) -> None:
        spreads = {name: getattr(self, name) for name in ("sample_sd", "slope_sd", "residual_sd")}
        wrong = {name: value for name, value in spreads.items() if not 0 <= value < np.inf}
        if wrong or self.residual_sd == 0:
            raise ValueError(f"Standard deviations must be finite and not negative, residual_sd positive: {spreads}.")
        if not self.adaptation and not self.finetuning:
            raise ValueError("Give an effect of adaptation or fine-tuning: with one configuration there is no level 1.")

    @property
    def configurations(self) -> dict[str, float | int]:
        """Column and effect of every configuration but the first ones: "adaptation_2", "finetuning_2", …"""
        numbered = {"adaptation": self.adaptation, "finetuning": self.finetuning}
        return {
            f"{kind}_{i}": effect for kind, effects in numbered.items() for i, effect in enumerate(effects, start=2)
        }

    @property
    def fixed(self) -> dict[str, float | int]:
        """True fixed effects by their names in a fit of `study_formula`."""
        return {"(Intercept)": self.intercept, **self.text, **self.configurations}


def draw_features(
    names: Sequence[str], n_samples: int, *, correlation: float = 0.0, seed: int | np.random.SeedSequence = 0
) -> pd.DataFrame:
    """Standard normal text features of some samples, each pair with the same correlation: index `sample`.

    >>> draw_features(["complexity", "term_share"], 24, correlation=0.3)

    Raises:
        ValueError: a correlation that not all pairs can have.
    """
    lowest = -1 / (len(names) - 1) if len(names) > 1 else -1
    if not lowest <= correlation <= 1:
        raise ValueError(f"correlation={correlation}: {len(names)} features allow {lowest:.3g} to 1 between all pairs.")
    values, vectors = np.linalg.eigh(np.where(np.eye(len(names), dtype=bool), 1.0, correlation))
    drawn = np.random.default_rng(seed).normal(size=(n_samples, len(names)))
    features = drawn @ (vectors * np.sqrt(values.clip(min=0))).T
    return pd.DataFrame(features, columns=list(names), index=pd.RangeIndex(n_samples, name="sample"))


def simulate_study(
    truth: StudyTruth, features: pd.DataFrame, *, seed: int | np.random.SeedSequence = 0
) -> pd.DataFrame:
    """Scores of one study: y = intercept + text + configurations + u_sample + slopes + e.

    >>> truth = StudyTruth({"complexity": -0.5}, adaptation=(0.3,), finetuning=(0.2, 0.1))
    >>> rows = simulate_study(truth, draw_features(["complexity"], 24, seed=1))
    >>> fit_multilevel(study_formula(truth), rows).fixed

    Args:
        features: one row per sample (its index names them), one column per entry of `truth.text`; measured ones or
            those of `draw_features`, with another seed: the same numbers would make text and samples one thing.

    Returns:
        K·D·H rows: sample, adaptation, finetuning (numbers of the configurations, from 1), their centred 0/1 columns,
        the features, score.

    Raises:
        LookupError: a text feature without a column.
        ValueError: two samples with the same name.
    """
    rows = _layout(truth, features)
    configured = rows[list(truth.configurations)].to_numpy()
    generator = np.random.default_rng(seed)
    n_samples, n_columns = len(features), configured.shape[1]
    samples = np.repeat(np.arange(n_samples), len(rows) // n_samples)
    shifts = truth.sample_sd * generator.normal(size=n_samples)
    slopes = np.array(list(truth.configurations.values())) + truth.slope_sd * generator.normal(
        size=(n_samples, n_columns)
    )
    text = rows[list(truth.text)].to_numpy() @ np.array(list(truth.text.values()), dtype=float)
    noise = truth.residual_sd * generator.normal(size=len(rows))
    score = truth.intercept + text + shifts[samples] + (configured * slopes[samples]).sum(1) + noise
    return rows.assign(score=score)


def study_formula(truth: StudyTruth) -> str:
    """The model that a study is simulated from: slopes vary, uncorrelated, where `slope_sd` is positive.

    >>> study_formula(StudyTruth({"complexity": -0.5}, adaptation=(0.3,), finetuning=()))
    'score ~ complexity + adaptation_2 + (1 | sample)'
    """
    columns = [*map(quote_name, truth.text), *truth.configurations]
    varying = "||".join([" + ".join(["1", *truth.configurations]), "sample"]) if truth.slope_sd > 0 else "1 | sample"
    return f"score ~ {' + '.join(columns)} + ({varying})"


def true_components(truth: StudyTruth, features: pd.DataFrame) -> Components:
    """The variances that the true coefficients imply; `MultilevelModel.components` estimates them."""
    rows = _layout(truth, features)
    design = build_design(read_formula(study_formula(truth)), rows.assign(score=np.arange(len(rows), dtype=float)))
    (grouping,) = design.groupings
    spreads = [truth.sample_sd if term == "(Intercept)" else truth.slope_sd for term in grouping.terms]
    coefficients = np.array([truth.fixed[term] for term in design.terms])
    return implied_variances(design, coefficients, np.diag(np.square(spreads)), truth.residual_sd**2)


def _layout(truth: StudyTruth, features: pd.DataFrame) -> pd.DataFrame:
    """Every sample with every pair of configurations, sample by sample."""
    missing = [name for name in truth.text if name not in features.columns]
    if missing:
        raise LookupError(f"No column for the text feature {missing[0]!r}; there are {', '.join(features.columns)}.")
    if not features.index.is_unique:
        raise ValueError("The rows of `features` are the samples: give each a name of its own in the index.")
    counts = {"adaptation": len(truth.adaptation) + 1, "finetuning": len(truth.finetuning) + 1}
    axes = [features.index, *(range(1, count + 1) for count in counts.values())]
    rows = pd.MultiIndex.from_product(axes, names=["sample", *counts]).to_frame(index=False)
    for kind, count in counts.items():
        for number in range(2, count + 1):
            rows[f"{kind}_{number}"] = (rows[kind] == number) - 1 / count
    n_cells = len(rows) // len(features)
    return rows.assign(**{name: np.repeat(features[name].to_numpy(dtype=float), n_cells) for name in truth.text})
