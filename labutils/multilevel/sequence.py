"""The models of a study of adaptation, one built on the other, every step with its test.

    M0  score ~ 1 + (1 | sample)       how alike are the runs of one sample?
    M1  + hyperparameters              adaptation and fine-tuning, a 0/1 column per configuration but the first
    M2  + slopes that vary             one at a time, each kept if a likelihood-ratio test asks for it
    M3  + text features                of the samples, in standard deviations
    M4  + cross-level interactions     of one text feature with one kind of hyperparameter, kept by the same test

The columns of the hyperparameters are centred in every sample, so that what they explain lies within samples and what
the text explains between them; nothing is counted twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from labutils.multilevel.likelihood_ratio import ModelComparison, compare_models
from labutils.multilevel.model import MultilevelModel, fit_multilevel
from labutils.multilevel.simulation import StudyTruth
from labutils.multilevel.syntax import quote_name
from labutils.stats.pairing import require_columns

FACTORS = ("adaptation", "finetuning")
GROUP = "sample"


@dataclass(frozen=True)
class StudyTable:
    """Runs made ready for the models.

    Attributes:
        frame: a row per run: sample, the outcome, the text features (mean 0 and standard deviation 1 over the samples),
            and the columns of the hyperparameters.
        outcome: name of the score.
        text: names of the text features.
        hyperparameters: kind (adaptation, finetuning) → its columns, named after the configurations.
        first: the configurations that the others are compared with.
    """

    frame: pd.DataFrame
    outcome: str
    text: list[str]
    hyperparameters: dict[str, list[str]]
    first: list[str]

    @property
    def level_1(self) -> list[str]:
        """All columns of hyperparameters."""
        return [column for columns in self.hyperparameters.values() for column in columns]


@dataclass(frozen=True)
class ModelSequence:
    """`models`: M0 to M4, by REML. `steps`: a row per test, with the columns model, step, statistic, reference, p,
    kept, note; p-values are not corrected for their number. A slope that the runs are too few for has no p-value."""

    models: dict[str, MultilevelModel]
    steps: pd.DataFrame

    def __getitem__(self, name: str) -> MultilevelModel:
        return self.models[name]


def study_table(
    runs: pd.DataFrame, text: Sequence[str], *, outcome: str = "pearson", fisher: bool = False
) -> StudyTable:
    """Make the rows of a study ready; runs of the base model, which has no sample of text, are left out.

    >>> table = study_table(runs, ["complexity", "term_share"], fisher=True)

    Args:
        runs: rows of `run_study`: sample, adaptation, finetuning, the outcome, the text features.
        text: columns that are constant within a sample.
        fisher: take Fisher's z of the outcome, a correlation, whose spread does not depend on how high it is.

    Raises:
        LookupError: a column is missing.
        ValueError: fewer samples than the text features need, a feature that does not vary between samples or does
            within one, missing values, or a kind of hyperparameter without a second configuration.
    """
    require_columns(runs, [GROUP, *FACTORS, outcome, *text])
    adapted = runs[runs["adaptation"] != "none"].reset_index(drop=True)
    features = adapted.groupby(GROUP)[list(text)].agg(["min", "max"])
    for name in text:
        if features[name].isna().any(axis=None) or (features[name]["min"] != features[name]["max"]).any():
            raise ValueError(f"the text feature {name!r} must have one value per sample, the same in all its runs")
    values = features.xs("min", axis="columns", level=1)[list(text)]
    if len(values) < len(text) + 2:
        raise ValueError(f"{len(values)} samples cannot tell {len(text)} text features apart: run more, or name fewer")
    if constant := [name for name in text if values[name].nunique() == 1]:
        raise ValueError(f"the text feature {constant[0]!r} is {values[constant[0]].iloc[0]:g} in all samples")
    scaled = ((values - values.mean()) / values.std(ddof=1)).reset_index()
    frame = adapted[[GROUP, *FACTORS, outcome]].merge(scaled, on=GROUP, validate="many_to_one")
    if fisher:
        frame[outcome] = np.arctanh(frame[outcome])
    hyperparameters, first = {}, []
    for factor in FACTORS:
        levels = list(dict.fromkeys(frame[factor]))
        first.append(str(levels[0]))
        hyperparameters[factor] = [str(level) for level in levels[1:]]
        for level in levels[1:]:
            column = (frame[factor] == level).astype(float)
            frame[str(level)] = column - column.groupby(frame[GROUP]).transform("mean")
    if not any(hyperparameters.values()):
        raise ValueError("the study has one adaptation and one fine-tuning: there is no hyperparameter to analyse")
    return StudyTable(frame, outcome, list(text), hyperparameters, first)


def fit_sequence(table: StudyTable, *, alpha: float = 0.05) -> ModelSequence:
    """Fit M0 to M4 and test every step.

    >>> sequence = fit_sequence(table)
    >>> sequence["M3"].fixed

    Args:
        alpha: level at which a slope, or an interaction, is kept.

    Raises:
        ValueError: the rows are too few for a model, or its predictors are collinear; see `fit_multilevel`.
    """
    found: list[dict[str, object]] = []
    models = {"M0": _fit(table, [], []), "M1": _fit(table, table.level_1, [])}
    _note(found, "M1", "hyperparameters", compare_models(models["M0"], models["M1"]))
    slopes, models["M2"] = _choose_slopes(table, models["M1"], alpha, found)
    fixed = [*table.level_1, *map(quote_name, table.text)]
    models["M3"] = _fit(table, fixed, slopes)
    _note(found, "M3", "text features", compare_models(models["M2"], models["M3"]))
    crossed = []
    for feature in table.text:
        for kind, columns in table.hyperparameters.items():
            terms = [f"{quote_name(feature)}:{column}" for column in columns]
            if terms:
                test = compare_models(models["M3"], _fit(table, [*fixed, *terms], slopes))
                kept = _note(found, "M4", f"{feature} × {kind}", test, alpha)
                crossed += terms if kept else []
    models["M4"] = _fit(table, [*fixed, *crossed], slopes) if crossed else models["M3"]
    return ModelSequence(models, pd.DataFrame(found))


def model_table(models: Mapping[str, MultilevelModel]) -> pd.DataFrame:
    """A row per model: ICC (share of the samples in what the fixed effects leave), R² of Nakagawa, AIC.

    >>> model_table(sequence.models)
    """
    rows = []
    for name, model in models.items():
        r2 = model.nakagawa()
        numbers = {"ICC": model.icc, "marginal R²": r2["marginal"], "conditional R²": r2["conditional"]}
        rows.append({"model": name, **numbers, "AIC (ML)": model.refit(reml=False).aic, "singular": model.singular})
    return pd.DataFrame(rows)


def truth_like(model: MultilevelModel, table: StudyTable, text: Mapping[str, float]) -> StudyTruth:
    """A study to simulate, like the one that a model was fitted to, but with text effects of one's own choice.

    >>> truth = truth_like(sequence["M3"], table, {"complexity": -0.01})
    >>> text_effect_power(truth, [20, 40, 80])

    Configurations have the effects that the model estimated; the spread of slopes is the same for all of them, with the
    mean of the variances estimated.

    Args:
        text: name → effect per standard deviation of the feature, in units of the outcome.
    """
    variances = pd.Series(np.diag(model.covariances[GROUP]), index=model.covariances[GROUP].index)
    effects = {
        kind: tuple(model.fixed.loc[columns, "estimate"].tolist()) for kind, columns in table.hyperparameters.items()
    }
    return StudyTruth(
        text=dict(text), intercept=float(model.fixed.loc["(Intercept)", "estimate"]), **effects,
        sample_sd=float(np.sqrt(variances["(Intercept)"])),
        slope_sd=float(np.sqrt(variances.drop("(Intercept)").sum() / len(table.level_1))),
        residual_sd=float(np.sqrt(model.residual_variance)),
    )  # fmt: skip


def _choose_slopes(
    table: StudyTable, model: MultilevelModel, alpha: float, found: list[dict[str, object]]
) -> tuple[list[str], MultilevelModel]:
    """Let one slope after the other vary over the samples, and keep it if its test says so."""
    slopes: list[str] = []
    n_rows, n_groups = len(table.frame), table.frame[GROUP].nunique()
    for column in table.level_1:
        if (len(slopes) + 2) * n_groups >= n_rows:  # a coefficient for every row would leave no residual
            note = f"not tested: {n_rows} runs of {n_groups} samples are too few to let {len(slopes) + 1} slopes vary"
            found.append({"model": "M2", "step": f"slope of {column} varies", "kept": False, "note": note})
            continue
        larger = _fit(table, table.level_1, [*slopes, column])
        if _note(found, "M2", f"slope of {column} varies", compare_models(model, larger), alpha):
            slopes, model = [*slopes, column], larger
    return slopes, model


def _fit(table: StudyTable, fixed: Sequence[str], slopes: Sequence[str]) -> MultilevelModel:
    varying = " + ".join(["1", *slopes])
    formula = f"{quote_name(table.outcome)} ~ {' + '.join(['1', *fixed])} + ({varying} | {GROUP})"
    return fit_multilevel(formula, table.frame)


def _note(
    found: list[dict[str, object]], model: str, step: str, test: ModelComparison, alpha: float | None = None
) -> bool:
    """Write a test down; whether it asks for the larger model (without alpha the model is kept in any case)."""
    kept = alpha is None or test.p < alpha
    numbers = {"statistic": test.statistic, "reference": test.reference, "p": test.p}
    found.append({"model": model, "step": step, **numbers, "kept": kept, "note": test.note})
    return kept
