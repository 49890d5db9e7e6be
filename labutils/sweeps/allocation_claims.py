"""What C01 to C03 say of a rule that varies the sparsity over the blocks: in every model, and over models."""

from collections.abc import Mapping, Sequence

import pandas as pd

from labutils.stats.bootstrap import Interval, slope
from labutils.sweeps.contrasts import contrast
from labutils.sweeps.over_models import ModelEffects, effects_over_models, lowest_over_models, model_table

RuleEffects = Mapping[str, ModelEffects]  # claim → effects


def rule_gain(rows: pd.DataFrame, rule: str, scores: Sequence[str]) -> pd.DataFrame:
    """Loss with uniform sparsity minus loss with a rule, under every score: a frame of contrasts named by score.

    >>> rule_gain(rows, "owl", ["ria", "sparsegpt"])
    """
    return contrast(rows, {score: (f"{score}/uniform", f"{score}/{rule}") for score in scores})


def allocation_effects(
    rows: pd.DataFrame, rule: str, scores: Sequence[str], *, low: float, high: float
) -> dict[str, ModelEffects]:
    """The effects that C01, C02 and C03 are about, for one rule.

    >>> allocation_effects(rows, "owl", ["ria", "sparsegpt"], low=0.4, high=0.6)["C02"].overall

    C01, that uniform sparsity is no worse, must hold at every sparsity up to `low` and under every score: it is the
    lowest cell of loss(rule) − loss(uniform), since a mean over sparsities at which nothing can be lost would hide the
    one at which something is. C02 is the mean of loss(uniform) − loss(rule) over the sparsities from `high` on, C03 the
    slope of that difference over sparsity, in loss per unit of sparsity.

    Args:
        rows: of a sweep of one or more models with the arms `score/uniform` and `score/rule`.
    """
    gain = rule_gain(rows, rule, scores)
    lower = gain[gain["sparsity"] <= low]
    grid = sorted(gain["sparsity"].unique())
    grows = effects_over_models(gain, slope(grid)) if len(grid) > 1 else _undefined("a slope needs two sparsities")
    return {
        "C01": lowest_over_models(lower.assign(value=-lower["value"])),
        "C02": effects_over_models(gain[gain["sparsity"] >= high]),
        "C03": grows,
    }


def rule_table(effects: Mapping[str, RuleEffects], dense: Mapping[str, float], *, margin: float) -> pd.DataFrame:
    """All effects of all rules: ``rule, claim, model, estimate, low, high``, and `margin`, of its model, in loss.

    >>> rule_table({"owl": allocation_effects(rows, "owl", scores, low=0.4, high=0.6)}, dense, margin=0.01)

    Args:
        effects: rule → what `allocation_effects` gives.
        dense: model → loss of the dense model.
        margin: share of that loss; over models that of the mean loss.
    """
    parts = [
        model_table(own, rule=rule, claim=claim) for rule, claims in effects.items() for claim, own in claims.items()
    ]
    table = pd.concat(parts, ignore_index=True)
    mean = sum(dense.values()) / len(dense)
    return table.assign(margin=[margin * dense.get(model, mean) for model in table["model"]])


def _undefined(reason: str) -> ModelEffects:
    return ModelEffects({}, Interval.undefined(reason))
