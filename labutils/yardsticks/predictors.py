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

    Predictors and target share no question: flips are counted on even ones. Arms of which only texts were read are left
    out.

    Returns:
        ``model, arm, kind`` (`damage_kind`), ``amount`` (`damage_amount`), ``draw``, ``added_loss`` and ``kl`` (nats
        per token of the texts), ``flips`` (share of even questions with another choice than the dense model's, Dutta et
        al. 2024, 2407.09141), ``lost`` (share of what the dense model has on odd questions).
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
    table = pd.concat([read, flips, drops["lost"] / drops[f"{target}_dense"]], axis=1, join="inner").reset_index()
    table = table.rename(columns={0: "lost"})
    return table.assign(kind=table["arm"].map(damage_kind), amount=table["arm"].map(damage_amount))


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


def damage_amount(arm: str) -> str:
    """How much an arm does, as far as other kinds of damage do as much: its share of zeros, or its own steps.

    >>> damage_amount("wanda@0.5"), damage_amount("Q4_0"), damage_amount("blocks@2")
    ('0.5', 'Q4_0', 'blocks@2')
    """
    (first, *more) = parse_arm(arm)
    return f"{first.amount:g}" if first.prunes and not more else arm


def predictor_errors(table: pd.DataFrame) -> pd.DataFrame:
    """How far each predictor is off where it was not fitted: on another kind of damage, of another amount.

    >>> predictor_errors(damage_table(questions, texts))

    Every kind at every amount is left out in turn, and with it all of the same kind and all of the same amount. The fit
    is isotonic: more loss, more damage, whatever the curve. "no predictor" says the mean of the others.

    Args:
        table: of `damage_table`; without ``amount`` only the kinds are left out.

    Returns:
        ``predictor, kind, error``: mean absolute error in shares of what the dense model has, over a kind's amounts.

    Raises:
        ValueError: fewer than two kinds, or nothing to fit on.
    """
    kinds = list(dict.fromkeys(table["kind"]))
    if len(kinds) < 2:
        raise ValueError(f"at least two kinds of damage are needed to try one on another, got {kinds}")
    amounts = table["amount"] if "amount" in table else pd.Series(range(len(table)), index=table.index).astype(str)
    cells = table["kind"] if "amount" not in table else table["kind"] + " " + amounts
    found = []
    for cell in dict.fromkeys(cells):
        tried = cells == cell
        train = table[~table["kind"].isin(table.loc[tried, "kind"]) & ~amounts.isin(amounts[tried])]
        if train.empty:
            raise ValueError(f"nothing of another kind and amount than {cell} is there to fit on: give more amounts")
        found += _errors(train, table[tried])
    errors = pd.DataFrame(found)
    return errors.groupby(["predictor", "kind"], as_index=False, sort=False)["error"].mean()


def _errors(train: pd.DataFrame, test: pd.DataFrame) -> list[dict]:
    told = {"no predictor": np.full(len(test), train["lost"].mean())}
    for name, column in PREDICTORS.items():
        fit = IsotonicRegression(out_of_bounds="clip").fit(train[column], train["lost"])
        told[name] = fit.predict(test[column])
    off = {name: float(np.abs(values - test["lost"].to_numpy()).mean()) for name, values in told.items()}
    return [{"predictor": name, "kind": test["kind"].iloc[0], "error": error} for name, error in off.items()]


@keeps_evidence()
def predictor_gain(errors: pd.DataFrame, first: str, second: str, *, level: float = 0.95) -> Interval:
    """How much smaller the error of the second predictor is than the first's, over kinds of damage (Student's t).

    >>> predictor_gain(predictor_errors(table), "added loss", "flipped choices")
    """
    wide = errors.pivot(index="kind", columns="predictor", values="error")
    gain = (wide[first] - wide[second]).rename("estimate").reset_index()
    return interval_over_units(gain, unit="kind", level=level)


def predictor_gains(errors: pd.DataFrame, first: str, *, level: float = 0.95) -> dict[str, Interval]:
    """`predictor_gain` of every other predictor over the first, the best in the mean first.

    >>> predictor_gains(predictor_errors(table), "added loss")

    They hold all at once (Bonferroni), so that the one that came out best may be looked at.
    """
    mean = errors.groupby("predictor")["error"].mean().sort_values()
    rivals = [name for name in mean.index if name in PREDICTORS and name != first]
    shared = 1 - (1 - level) / max(len(rivals), 1)
    return {name: predictor_gain(errors, first, name, level=shared) for name in rivals}


def _with_dense(rows: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    dense = rows[rows["arm"] == DENSE][["model", "item", *columns]]
    pruned = rows[rows["arm"] != DENSE]
    return pruned.merge(dense, on=["model", "item"], suffixes=("", "_dense"), validate="many_to_one")
