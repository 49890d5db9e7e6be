"""Two logs side by side, item by item; logs that are not of the same items are refused."""

from collections.abc import Sequence

import pandas as pd

from labutils.core.options import suggest

SERIES = ["task", "filter", "metric"]


def select_rows(
    frame: pd.DataFrame, name: str, tasks: Sequence[str] | None, metrics: Sequence[str] | None
) -> pd.DataFrame:
    """The rows of the named tasks and metrics; LookupError for one that the log does not have."""
    others = frame.attrs["not numbers"]
    for column, wanted in (("task", tasks), ("metric", metrics)):
        known = list(dict.fromkeys(frame[column]))
        for each in wanted or []:
            if each not in known:
                odd = column == "metric" and any(metric == each for _, metric in others)
                why = f"{each!r} as a single number per item" if odd else f"{column} {each!r}"
                there = ", ".join(known) or "none"
                raise LookupError(f"log {name} has no {why}.{suggest(each, known)} It has {there}.")
        frame = frame[frame[column].isin(list(wanted))] if wanted else frame
    if frame.empty:
        named = ", ".join(map(" ".join, others))
        raise ValueError(f"log {name} has nothing to compare: no metric is a number per item ({named})")
    return frame


def pair_logs(first: pd.DataFrame, second: pd.DataFrame, *, only_shared: bool, other_prompts: bool) -> pd.DataFrame:
    """Both values of every item: the columns of the first log with ``value`` as ``a``, and ``b``.

    Raises:
        LookupError: a task, a filter or a metric that only one of them has.
        ValueError: items of only one (unless `only_shared`), one id for two documents, other prompts (unless
            `other_prompts`), or other weights.
    """
    _check_same_series(first, second)
    keys = [*SERIES, "item"]
    pairs = first.rename(columns={"value": "a"}).merge(
        second.rename(columns={"value": "b"}), on=keys, how="outer", suffixes=("", "_b"), indicator="where"
    )
    alone = pairs["where"] != "both"
    if alone.any() and not only_shared:
        counts = pairs.loc[alone, "where"].value_counts()
        raise ValueError(
            f"the logs are of different items: {counts['left_only']} values are only in A, {counts['right_only']} only "
            f"in B, {int((~alone).sum())} in both; first: {_first(pairs, alone)}. Evaluate both on the same items, or "
            "compare those that both have with only_shared=True."
        )
    pairs = pairs[~alone].reset_index(drop=True)
    _check_same(pairs, "item_hash", "the logs are of different items: one id stands for two documents or targets")
    if not other_prompts:
        advice = "another few-shot setting, template or system prompt. To compare all the same: other_prompts=True"
        _check_same(pairs, "prompt_hash", f"the models were asked in different words: {advice}")
    _check_same(pairs, "weight", "the words or bytes of a document are counted differently")
    if pairs.empty:
        raise ValueError("the two logs have no item in common")
    return pairs.drop(columns=["where", *(name for name in pairs if name.endswith("_b"))])


def _check_same_series(first: pd.DataFrame, second: pd.DataFrame) -> None:
    for column in SERIES:
        there = [set(frame[column]) for frame in (first, second)]
        for name, own, other in (("A", *there), ("B", *there[::-1])):
            if extra := sorted(own - other):
                both = sorted(own & other)
                advice = f"name what to compare with {column}s={both}" if column != "filter" else "evaluate both alike"
                raise LookupError(f"only log {name} has the {column} {', '.join(extra)}; {advice}.")
    sets = [set(frame[SERIES].itertuples(index=False, name=None)) for frame in (first, second)]
    if lone := sorted(sets[0] ^ sets[1]):
        task, filtered, metric = lone[0]
        raise LookupError(f"only one log has {metric} of {task} (filter {filtered}): name tasks and metrics of both.")


def _check_same(pairs: pd.DataFrame, column: str, message: str) -> None:
    differs = pairs[column] != pairs[f"{column}_b"]
    if differs.any():
        raise ValueError(f"{message} ({int(differs.sum())} of {len(pairs)} values; first: {_first(pairs, differs)})")


def _first(pairs: pd.DataFrame, mask: pd.Series) -> str:
    row = pairs[mask].iloc[0]
    return f"item {row['item']} of {row['task']}"
