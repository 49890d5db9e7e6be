"""Which number that needs no task tells best what a task will lose? Fitted on some kinds of damage, tried on another.

"Task" is here what the model answers; flips need questions, but not their right answers.
"""

import numpy as np
import pandas as pd
from sklearn.isotonic import IsotonicRegression

from labutils.stats.bootstrap import Interval
from labutils.stats.evidence import keeps_evidence
from labutils.stats.few_units import interval_over_units
from labutils.stats.pairing import require_columns
from labutils.yardsticks.damage import BLOCKS, DENSE, parse_arm

PREDICTORS = {"added loss": "added_loss", "KL from the dense model": "kl", "flipped choices": "flips"}


def damage_table(questions: pd.DataFrame, texts: pd.DataFrame, *, target: str = "answer") -> pd.DataFrame:
    """Per model, arm and draw: what is lost on odd questions, and what could have told so without them.

    >>> damage_table(frames["questions"], frames["texts"])

    Predictors and target share no question: flips are counted on even ones.

    Returns:
        ``model, arm, kind`` (`damage_kind`), ``draw``, ``added_loss`` and ``kl`` (nats per token of the texts),
        ``flips`` (share of even questions with another choice than the dense model's, Dutta et al. 2024, 2407.09141),
        ``lost`` (share of what the dense model has on odd questions).
    """
    require_columns(questions, ["model", "arm", "draw", "item", "prediction", target])
    keys = ["model", "arm", "draw"]
    even, odd = questions[questions["item"] % 2 == 0], questions[questions["item"] % 2 == 1]
    flips = _with_dense(even, ["prediction"])
    flips = flips.assign(flips=flips["prediction"] != flips["prediction_dense"]).groupby(keys)["flips"].mean()
    drops = _with_dense(odd, [target])
    drops = (
        drops.assign(lost=drops[f"{target}_dense"] - drops[target]).groupby(keys)[["lost", f"{target}_dense"]].mean()
    )
    if (drops[f"{target}_dense"] <= 0).any():
        raise ValueError(f"a dense model has no odd question right by {target!r}: it has nothing to lose; leave it out")
    read = _with_dense(texts, ["loss"])
    read = read.assign(added_loss=read["loss"] - read["loss_dense"]).groupby(keys)[["added_loss", "kl"]].mean()
    table = pd.concat([read, flips, drops["lost"] / drops[f"{target}_dense"]], axis=1).reset_index()
    table = table.rename(columns={0: "lost"})
    return table.assign(kind=table["arm"].map(damage_kind))


def damage_kind(arm: str) -> str:
    """The kind of damage that an arm is: the method of a pruning, "rounded", "pruned and rounded" or "blocks".

    >>> damage_kind("wanda@0.5"), damage_kind("Q4_0"), damage_kind("rtn4+wanda@0.5")
    ('wanda', 'rounded', 'pruned and rounded')

    Roundings are one kind: two formats of as many bits are nearly the same model.
    """
    steps = parse_arm(arm)
    if len(steps) == 2:
        return "pruned and rounded"
    return steps[0].name if steps[0].prunes or steps[0].name == BLOCKS else "rounded"


def predictor_errors(table: pd.DataFrame) -> pd.DataFrame:
    """How far each predictor is off, for every kind of damage, when it was fitted on all others.

    >>> predictor_errors(damage_table(questions, texts))

    The fit is isotonic: more loss, more damage, whatever the curve. "no predictor" says the mean of the others.

    Returns:
        ``predictor, kind, error``: mean absolute error in shares of what the dense model has.

    Raises:
        ValueError: fewer than two kinds.
    """
    kinds = list(dict.fromkeys(table["kind"]))
    if len(kinds) < 2:
        raise ValueError(f"at least two kinds of damage are needed to try one on another, got {kinds}")
    found = []
    for kind in kinds:
        train, test = table[table["kind"] != kind], table[table["kind"] == kind]
        guess = np.full(len(test), train["lost"].mean())
        told = {"no predictor": guess}
        for name, column in PREDICTORS.items():
            fit = IsotonicRegression(out_of_bounds="clip").fit(train[column], train["lost"])
            told[name] = fit.predict(test[column])
        for name, values in told.items():
            error = float(np.abs(values - test["lost"].to_numpy()).mean())
            found.append({"predictor": name, "kind": kind, "error": error})
    return pd.DataFrame(found)


@keeps_evidence()
def predictor_gain(errors: pd.DataFrame, first: str, second: str, *, level: float = 0.95) -> Interval:
    """How much smaller the error of the second predictor is than the first's, over kinds of damage (Student's t).

    >>> predictor_gain(predictor_errors(table), "added loss", "flipped choices")
    """
    wide = errors.pivot(index="kind", columns="predictor", values="error")
    gain = (wide[first] - wide[second]).rename("estimate").reset_index()
    return interval_over_units(gain, unit="kind", level=level)


def _with_dense(rows: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    dense = rows[rows["arm"] == DENSE][["model", "item", *columns]]
    pruned = rows[rows["arm"] != DENSE]
    return pruned.merge(dense, on=["model", "item"], suffixes=("", "_dense"), validate="many_to_one")
