"""From the tidy rows of a sweep to paired differences, and from these to fully crossed tables for resampling."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from labutils.core.options import suggest

PAIRING = ("model", "calibration", "evaluation", "sparsity", "draw", "item")


class Stratum(NamedTuple):
    """Values of one stratum: an axis per resampled factor (with its units in `levels`), then the cells."""

    names: dict[str, object]
    levels: dict[str, tuple]
    cells: tuple
    values: Float[np.ndarray, "*factors cells"]


def paired_differences(
    rows: pd.DataFrame, reference: Mapping, candidate: Mapping, *, on: Sequence[str] = PAIRING
) -> pd.DataFrame:
    """Loss of `reference` minus loss of `candidate` on the same item, draw and setting; positive favours the candidate.

    >>> paired_differences(rows, {"method": "ria", "allocation": "uniform"}, {"method": "ria", "allocation": "owl"})

    `rows` are the tidy rows of a sweep (one per item, with `loss`). Each arm is a mapping column -> value or list of
    values. Returns the columns `on`, `reference` and `candidate` (the two losses) and `value`, sorted by `on`.
    Raises LookupError for an unknown column, ValueError for an empty arm, NaN losses, missing or duplicate pairs.
    """
    on = list(on)
    require_columns(rows, [*on, "loss", *reference, *candidate])
    arms = {}
    for name, wanted in (("reference", reference), ("candidate", candidate)):
        arm = _select(rows, wanted, name)[[*on, "loss"]].rename(columns={"loss": name})
        _reject_missing_values(arm, on, name)
        others = ", ".join(str(column) for column in rows.columns if column not in (*on, "loss"))
        advice = f"select one arm, or add to `on` the column that tells them apart (one of: {others})"
        _reject_duplicates(arm, on, f"{name} arm {dict(wanted)}", advice)
        arms[name] = arm
    pairs = arms["reference"].merge(arms["candidate"], on=on, how="outer", indicator=True, sort=True)
    unpaired = pairs["_merge"] != "both"
    if unpaired.any():
        present = pairs.loc[unpaired, "_merge"].iloc[0]
        arm = "candidate" if present == "left_only" else "reference"
        raise ValueError(
            f"{int(unpaired.sum())} rows have no partner; first: the {arm} arm lacks {_first(pairs, unpaired, on)}; "
            "both arms must cover the same items, draws and settings"
        )
    pairs["value"] = pairs["reference"] - pairs["candidate"]
    return pairs.drop(columns="_merge").sort_values(on, ignore_index=True)


def pair_with_dense(rows: pd.DataFrame, value: str, *, on: Sequence[str]) -> pd.DataFrame:
    """The pruned rows of a sweep, each with the value that the dense model has on the same item, as `dense`.

        pruned = pair_with_dense(rows, "loss", on=["model", "calibration", "evaluation", "item"])
        pruned["loss"] - pruned["dense"]  # the loss that pruning adds

    Args:
        rows: rows of a sweep; those with the `method` "dense" are the dense model's.
        value: the column that is compared.
        on: the columns in which a pruned row and its dense row agree.

    Raises:
        LookupError: a column is missing.
        ValueError: two dense rows agree in `on`, or a pruned row has no dense one.
    """
    require_columns(rows, ["method", *on, value])
    dense = rows.loc[rows["method"] == "dense", [*on, value]].rename(columns={value: "dense"})
    pairs = rows[rows["method"] != "dense"].merge(
        dense, on=list(on), how="left", validate="many_to_one", indicator="_found"
    )
    alone = pairs["_found"] == "left_only"
    if alone.any():
        first = _first(pairs, alone, list(on))
        raise ValueError(f"{int(alone.sum())} pruned rows have no dense row beside them, first at {first}")
    return pairs.drop(columns="_found")


def cross_tables(
    differences: pd.DataFrame, factors: Sequence[str], cells: Sequence[str], strata: Sequence[str]
) -> list[Stratum]:
    """One fully crossed table per stratum, sorted; every stratum has the same cells.

    Raises LookupError for an unknown column and ValueError for values that are NaN, missing, duplicated, or in the
    cells of one stratum only.
    """
    keys = [*strata, *factors, *cells]
    require_columns(differences, [*keys, "value"])
    if differences.empty:
        raise ValueError("no differences to resample: the frame is empty")
    _reject_missing_values(differences, keys, "value")
    advice = "name the column that tells them apart in `cells` (shares items and draws) or in `strata`"
    _reject_duplicates(differences, keys, "differences", advice)
    groups = differences.groupby(list(strata)) if strata else [((), differences)]
    tables = [_cross(rows, dict(zip(strata, key, strict=True)), factors, cells) for key, rows in groups]
    for table in tables[1:]:
        if table.cells != tables[0].cells:
            raise ValueError(f"strata differ in their cells {list(cells)}: {tables[0].cells} against {table.cells}")
    return tables


def require_columns(frame: pd.DataFrame, wanted: Iterable[str]) -> None:
    """LookupError naming the nearest column for the first of `wanted` that `frame` lacks."""
    for name in wanted:
        if name not in frame:
            there = ", ".join(map(str, frame.columns))
            raise LookupError(f"no column {name!r}.{suggest(name, frame.columns)} Columns: {there}.")


def _cross(rows: pd.DataFrame, names: dict[str, object], factors: Sequence[str], cells: Sequence[str]) -> Stratum:
    columns = [*factors, *cells]
    levels = {name: tuple(sorted(rows[name].unique().tolist())) for name in columns}
    everything = pd.MultiIndex.from_product(levels.values(), names=columns)
    values = pd.Series(rows["value"].to_numpy(dtype=float), index=pd.MultiIndex.from_frame(rows[columns]))
    crossed = values.reindex(everything)
    if crossed.isna().any():
        absent = crossed.index[crossed.isna()]
        first = ", ".join(f"{name}={value}" for name, value in zip(columns, absent[0], strict=True))
        raise ValueError(f"{len(absent)} of {len(crossed)} combinations are missing in {names or 'the table'}: {first}")
    shape = [len(levels[name]) for name in factors]
    cell_keys = tuple(product(*(levels[name] for name in cells)))
    return Stratum(names, {name: levels[name] for name in factors}, cell_keys, crossed.to_numpy().reshape(*shape, -1))


def _select(rows: pd.DataFrame, wanted: Mapping, name: str) -> pd.DataFrame:
    chosen = rows
    for column, value in wanted.items():
        allowed = [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)
        left = chosen[chosen[column].isin(allowed)]
        if left.empty:
            there = ", ".join(map(str, sorted(chosen[column].unique(), key=str))) or "none"
            raise ValueError(f"{name} arm {dict(wanted)}: no rows with {column} in {allowed}; there are {there}")
        chosen = left
    if chosen.empty:
        raise ValueError(f"{name} arm {dict(wanted)}: there are no rows at all")
    return chosen


def _reject_missing_values(frame: pd.DataFrame, keys: list[str], value: str) -> None:
    for column in keys:
        if frame[column].isna().any():
            raise ValueError(f"column {column!r} has {int(frame[column].isna().sum())} missing entries")
    bad = ~np.isfinite(frame[value].to_numpy(dtype=float))
    if bad.any():
        raise ValueError(f"{value}: {int(bad.sum())} values are NaN or infinite, first at {_first(frame, bad, keys)}")


def _reject_duplicates(frame: pd.DataFrame, keys: list[str], what: str, advice: str) -> None:
    repeated = frame.duplicated(keys)
    if repeated.any():
        first = _first(frame, repeated, keys)
        raise ValueError(f"{what}: {int(repeated.sum())} duplicate rows, first at {first}; {advice}")


def _first(frame: pd.DataFrame, mask: pd.Series | np.ndarray, columns: list[str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in frame.loc[mask, columns].iloc[0].items())
