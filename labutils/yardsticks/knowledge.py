"""What is lost by which yardstick: differences of arms, and shares of what the dense model has, item by item."""

from collections.abc import Collection, Mapping, Sequence

import pandas as pd
from scipy.stats import binomtest

from labutils.stats.pairing import require_columns
from labutils.stats.tables import interval_table
from labutils.yardsticks.damage import DENSE
from labutils.yardsticks.reading import CHOSEN, YARDSTICKS

KEYS = ["model", "contrast", "sparsity", "draw", "item", "value"]


def yardstick_check(rows: pd.DataFrame, *, level: float = 0.95) -> pd.DataFrame:
    """Can the dense model do it at all? What it cannot do it cannot lose.

    >>> yardstick_check(frames["questions"]).query("usable")

    Returns:
        per model and yardstick ``items, dense`` (share right), ``low, high`` (Clopper & Pearson 1934),
        ``chance`` (0 where nothing is shown to choose from), ``usable`` (the interval lies above chance, or above 5 %
        of what is generated: a floor at zero is no chance level).
    """
    require_columns(rows, ["model", "arm", *YARDSTICKS, "chance"])
    found = []
    for model, part in rows[rows["arm"] == DENSE].groupby("model", sort=False):
        for yardstick in YARDSTICKS:
            right, n = int(part[yardstick].sum()), len(part)
            low, high = binomtest(right, n).proportion_ci(level, method="exact")
            chance = float(part["chance"].mean()) if yardstick in CHOSEN else 0.0
            about = {"model": model, "yardstick": YARDSTICKS[yardstick], "items": n, "dense": right / n}
            usable = bool(low > (chance or 0.05))
            found.append({**about, "low": float(low), "high": float(high), "chance": chance, "usable": usable})
    return pd.DataFrame(found)


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
        pair = _beside(rows, first, second, [yardstick])
        value = pair[f"{yardstick}_first"] - pair[f"{yardstick}_second"]
        parts.append(pair.assign(contrast=label, sparsity=0.0, value=value)[KEYS])
    return pd.concat(parts, ignore_index=True)


def lost_shares(rows: pd.DataFrame, arms: Sequence[str], *, yardstick: str) -> pd.DataFrame:
    """What each arm loses, as a share of what the dense model has beyond guessing, question by question.

    >>> lost_shares(rows, ["wanda@0.5"], yardstick="answer")["value"].mean()

    Per question (dense − damaged) / (mean dense − chance): the mean over questions is the share lost. What it is
    divided by is the dense model's own mean, held fixed.

    Raises:
        LookupError: an arm or yardstick that the rows do not have.
        ValueError: a dense model that is not above guessing: it has nothing to lose.
    """
    parts = []
    for arm in arms:
        pair = _beside(rows, DENSE, arm, [yardstick, "chance"])
        guessing = pair["chance_first"] if yardstick in CHOSEN else 0.0
        beyond = (pair[f"{yardstick}_first"] - guessing).groupby(pair["model"]).transform("mean")
        if (beyond <= 0).any():
            named = ", ".join(pair.loc[beyond <= 0, "model"].unique())
            raise ValueError(f"{named} is not above guessing by {yardstick!r}: it has nothing to lose; leave it out")
        value = (pair[f"{yardstick}_first"] - pair[f"{yardstick}_second"]) / beyond
        parts.append(pair.assign(contrast=arm, sparsity=0.0, value=value)[KEYS])
    return pd.concat(parts, ignore_index=True)


def usable_yardsticks(check: pd.DataFrame) -> list[str]:
    """The columns of the yardsticks by which every dense model is above guessing.

    >>> usable_yardsticks(yardstick_check(rows))
    """
    usable = check.groupby("yardstick")["usable"].all()
    return [column for column, label in YARDSTICKS.items() if usable.get(label, False)]


def kept_shares(rows: pd.DataFrame, arms: Mapping[str, Sequence[str]], yardsticks: Sequence[str]) -> pd.DataFrame:
    """`lost_shares` by several yardsticks, with ``kind`` (the key of `arms`) and ``yardstick`` (its label).

    >>> kept_shares(rows, {"wanda": ["wanda@0.5"]}, ["choice", "answer"])
    """
    parts = [
        lost_shares(rows, group, yardstick=column).assign(kind=kind, yardstick=YARDSTICKS[column])
        for column in yardsticks
        for kind, group in arms.items()
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*KEYS, "kind", "yardstick"])


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


def block_table(
    rows: pd.DataFrame, texts: pd.DataFrame, shortened: Mapping[int, str], yardsticks: Collection[str]
) -> pd.DataFrame:
    """What leaving out blocks costs: accuracy minus the dense one by each yardstick, and the rise of the loss.

    >>> block_table(rows, texts, {1: "blocks@1", 2: "blocks@2"}, ["choice"])

    Returns:
        ``blocks left out, yardstick, accuracy, low, high`` (over questions of all models), ``rise of the loss``.
    """
    losses, found = texts.groupby("arm")["loss"].mean(), []
    for n, arm in shortened.items():
        for column in sorted(yardsticks):
            change = accuracy_differences(rows, {arm: (arm, DENSE)}, yardstick=column)
            (row,) = interval_table(change, ["contrast"]).to_dict("records")
            ends = {"accuracy": row["estimate"], "low": row["low"], "high": row["high"]}
            about = {"blocks left out": n, "yardstick": YARDSTICKS[column]}
            found.append({**about, **ends, "rise of the loss": losses[arm] / losses[DENSE] - 1})
    columns = ["blocks left out", "yardstick", "accuracy", "low", "high", "rise of the loss"]
    return pd.DataFrame(found, columns=columns).sort_values("yardstick", ascending=False, ignore_index=True)


def compare_losses(rows: pd.DataFrame, arms: Sequence[str], *, more: str, less: str) -> pd.DataFrame:
    """The share lost by one yardstick minus that by another, on the same questions; positive: `more` loses more.

    >>> compare_losses(rows, ["wanda@0.5"], more="answer", less="answer_in_context")

    Errors as in `lost_shares`.
    """
    first, second = (lost_shares(rows, arms, yardstick=each) for each in (more, less))
    keys = [key for key in KEYS if key != "value"]
    pairs = first.merge(second, on=keys, suffixes=("", "_less"), validate="one_to_one")
    return pairs.assign(value=pairs["value"] - pairs["value_less"])[KEYS]


def _beside(rows: pd.DataFrame, first: str, second: str, columns: list[str]) -> pd.DataFrame:
    """Two arms side by side; the dense model stands beside every draw of the other."""
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
