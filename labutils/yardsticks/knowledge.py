"""What is lost by which yardstick: differences of arms, and shares of what the dense model has, item by item."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd
from scipy.stats import binomtest

from labutils.stats.bootstrap import Interval
from labutils.stats.few_units import interval_over_units
from labutils.stats.pairing import require_columns
from labutils.stats.tables import interval_table, mean_interval
from labutils.yardsticks.damage import DENSE
from labutils.yardsticks.reading import CHOSEN, YARDSTICKS

FLOOR = 0.05  # of what is said without choices
KEYS = ["model", "contrast", "sparsity", "draw", "item", "value"]


def yardstick_check(rows: pd.DataFrame, *, arm: str = DENSE, level: float = 0.95) -> pd.DataFrame:
    """Can the dense model do it at all? What it cannot do it cannot lose.

    >>> yardstick_check(frames["questions"]).query("usable")

    Args:
        arm: another one than the dense model; its draws are averaged first.

    Returns:
        per model and yardstick ``items, dense`` (share right), ``low, high`` (Clopper & Pearson 1934),
        ``chance`` (0 where nothing is shown to choose from), ``usable`` (the interval lies above chance, or above 5 %
        of what is generated: a floor at zero is no chance level).

    Raises:
        LookupError: a column or an arm that the rows do not have.
    """
    require_columns(rows, ["model", "arm", *YARDSTICKS, "chance"])
    if arm not in set(rows["arm"]):
        raise LookupError(f"no rows of the arm {arm!r}; there are {', '.join(rows['arm'].unique())}")
    found = []
    for model, part in rows[rows["arm"] == arm].groupby("model", sort=False):
        n = part["item"].nunique()
        for yardstick in YARDSTICKS:
            share = float(part[yardstick].mean())
            low, high = binomtest(round(n * share), n).proportion_ci(level, method="exact")
            chance = float(part["chance"].mean()) if yardstick in CHOSEN else 0.0
            about = {"model": model, "yardstick": YARDSTICKS[yardstick], "items": n, "dense": share}
            usable = bool(low > (chance or FLOOR))
            found.append({**about, "low": float(low), "high": float(high), "chance": chance, "usable": usable})
    return pd.DataFrame(found)


def telling(rows: pd.DataFrame, compared: Mapping[str, Sequence[tuple[str, str]]]) -> list[str]:
    """The comparisons that can show a difference: in every model one side at least is above the floor.

    >>> telling(rows, {"rtn2": [("rtn2", "answer"), ("wanda@0.9", "answer")]})
    []

    Where nothing is left on either side the difference is zero whatever was done, and a mean over such would shrink.

    Args:
        compared: label → its sides, each an arm and a yardstick.

    Raises:
        LookupError: an arm or yardstick that the rows do not have.
    """
    above: dict[str, pd.DataFrame] = {}
    for arm in {arm for sides in compared.values() for arm, _ in sides}:
        above[arm] = yardstick_check(rows, arm=arm).pivot(index="model", columns="yardstick", values="usable")
    return [
        label
        for label, sides in compared.items()
        if pd.concat([above[arm][YARDSTICKS[yardstick]] for arm, yardstick in sides], axis=1).any(axis=1).all()
    ]


def accuracy_differences(
    rows: pd.DataFrame, pairs: Mapping[str, tuple[str, str]], *, yardstick: str = "answer"
) -> pd.DataFrame:
    """Right by the first arm minus right by the second, question by question and draw by draw.

    >>> accuracy_differences(rows, {"rtn4 − pruned": ("rtn4", "wanda@0.77")})

    Returns:
        ``model, contrast`` (the label), ``sparsity`` (0: the arms tell), ``draw, item, value``, as contrasts of sweeps.

    Raises:
        LookupError: an arm or yardstick that the rows do not have.
    """
    parts = []
    for label, (first, second) in pairs.items():
        pair = beside(rows, first, second, [yardstick])
        value = pair[f"{yardstick}_first"] - pair[f"{yardstick}_second"]
        parts.append(pair.assign(contrast=label, sparsity=0.0, value=value)[KEYS])
    return pd.concat(parts, ignore_index=True)


def usable_yardsticks(check: pd.DataFrame) -> list[str]:
    """The columns of the yardsticks by which every dense model is above guessing.

    >>> usable_yardsticks(yardstick_check(rows))
    """
    usable = check.groupby("yardstick")["usable"].all()
    return [column for column, label in YARDSTICKS.items() if usable.get(label, False)]


def pattern_costs(
    rows: pd.DataFrame, unstructured: Sequence[str], patterned: Sequence[str], *, yardstick: str
) -> pd.DataFrame:
    """What patterns lose to as many unstructured zeros and to the dense model, as means over pairs of arms.

    >>> pattern_costs(rows, ["wanda@0.5"], ["wanda/2:4"], yardstick="answer")

    Returns:
        as `accuracy_differences`, with the contrasts "unstructured" and "dense".
    """
    parts = []
    for free, bound in zip(unstructured, patterned, strict=True):
        pairs = {"unstructured": (free, bound), "dense": (DENSE, bound)}
        parts.append(accuracy_differences(rows, pairs, yardstick=yardstick))
    keys = [key for key in KEYS if key != "value"]
    return pd.concat(parts).groupby(keys, as_index=False, sort=False)["value"].mean()


def interval_of_models(differences: pd.DataFrame, **options: Any) -> Interval:
    """The mean ``value``: of one model over items and draws, of several by Student's t over the models' means.

    >>> interval_table(changes, ["arm"], interval_of_models)
    """
    means = differences.groupby("model", sort=False)["value"].mean()
    if len(means) == 1:
        return mean_interval(differences, **options)
    return interval_over_units(means.rename("estimate").reset_index(), n_items=differences["item"].nunique())


def block_table(
    rows: pd.DataFrame, texts: pd.DataFrame, shortened: Mapping[int, str], yardsticks: Collection[str]
) -> pd.DataFrame:
    """What leaving out blocks costs: accuracy minus the dense one by each yardstick, and the rise of the loss.

    >>> block_table(rows, texts, {1: "blocks@1", 2: "blocks@2"}, ["choice"])

    Returns:
        ``blocks left out, yardstick, accuracy, low, high`` (`interval_of_models`), ``rise of the loss``.
    """
    losses, found = texts.groupby("arm")["loss"].mean(), []
    for n, arm in shortened.items():
        for column in sorted(yardsticks):
            change = accuracy_differences(rows, {arm: (arm, DENSE)}, yardstick=column)
            (row,) = interval_table(change, ["contrast"], interval_of_models).to_dict("records")
            ends = {"accuracy": row["estimate"], "low": row["low"], "high": row["high"]}
            about = {"blocks left out": n, "yardstick": YARDSTICKS[column]}
            found.append({**about, **ends, "rise of the loss": losses[arm] / losses[DENSE] - 1})
    columns = ["blocks left out", "yardstick", "accuracy", "low", "high", "rise of the loss"]
    return pd.DataFrame(found, columns=columns).sort_values("yardstick", ascending=False, ignore_index=True)


def beside(rows: pd.DataFrame, first: str, second: str, columns: Sequence[str]) -> pd.DataFrame:
    """Two arms side by side, columns ending in ``_first`` and ``_second``; the dense model beside every draw.

    >>> beside(rows, "dense", "wanda@0.5", ["answer"])

    Raises:
        LookupError: an arm or a column that the rows do not have.
        ValueError: arms that were not read on the same questions and draws.
    """
    require_columns(rows, ["model", "arm", "draw", "item", *columns])
    parts = []
    for arm in (first, second):
        part = rows[rows["arm"] == arm]
        if part.empty:
            raise LookupError(f"no rows of the arm {arm!r}; there are {', '.join(rows['arm'].unique())}")
        parts.append(part)
    keys = ["model", "item"] + ([] if DENSE in (first, second) else ["draw"])
    pair = parts[0].merge(parts[1], on=keys, suffixes=("_first", "_second"), validate=None)
    if len(pair) != max(map(len, parts)):
        raise ValueError(f"{first} and {second} were not read on the same questions and draws")
    if "draw" not in pair:
        pair["draw"] = pair["draw_second"] if first == DENSE else pair["draw_first"]
    return pair
