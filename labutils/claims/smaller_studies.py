"""Studies of another size, drawn from the kept rows of one: units with replacement, every copy a unit of its own.

What was resampled for the verdict is drawn anew, and shared as there: the same items for all models and cells that read
one text or data set, the same draws for all that were calibrated on one text. Models, texts, data sets and sparsities
are settings and stay, unless the evidence names them as its units.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from labutils.stats.evidence import Evidence
from labutils.stats.pigeonhole import NOT_NAMING_ITEMS

ITEMS_WITHIN = ("evaluation", "task", "domain")  # what names a set of items, besides strata of the evidence's own
REPEATED_WITHIN = ("calibration",)  # draws, and seeds
WITHIN = {"item": ITEMS_WITHIN, "draw": REPEATED_WITHIN, "seed": REPEATED_WITHIN}
COPY = "_copy"

Within = Mapping[str, Sequence[str]]
Size = int | Mapping[object, int]


def units_of(evidence: Evidence) -> Within:
    """The columns of units that a verdict was resampled over, and for each the columns that name sets of them.

    >>> units_of(c10.judged.evidence)
    {'text': ['evaluation', 'task', 'domain'], 'draw': ['calibration'], 'seed': ['calibration']}

    Raises:
        ValueError: that of `Evidence.recompute`.
    """
    if clusters := [name for name in map(evidence.argument, ("cluster", "unit")) if name is not None]:
        return {name: [] for name in clusters}
    cells, strata = (evidence.argument(name) or () for name in ("cells", "strata"))
    item, draw = (evidence.argument(name) or name for name in ("item", "draw"))
    sets = dict.fromkeys([*ITEMS_WITHIN, *(name for name in strata if name not in NOT_NAMING_ITEMS)])
    within = {item: sets, draw: REPEATED_WITHIN, "seed": REPEATED_WITHIN}
    return {unit: [name for name in names if name not in (*cells, unit)] for unit, names in within.items()}


def sizes_of(frame: pd.DataFrame, within: Within = WITHIN) -> dict[str, Size]:
    """How many units of every kind a study has in each of their sets.

    >>> sizes_of(gain)
    {'item': {'lab:encyclopedic': 64}, 'draw': {'lab:encyclopedic': 5}}
    """
    sizes: dict[str, Size] = {}
    for unit, names in within.items():
        sets = _columns(frame, names)
        if unit in frame:
            groups = frame.groupby(sets, dropna=False)[unit] if sets else None
            sizes[unit] = frame[unit].nunique() if groups is None else groups.nunique().to_dict()
    return sizes


def draw_study(
    frame: pd.DataFrame, sizes: Mapping[str, Size | None], draw: np.random.Generator, *, within: Within = WITHIN,
    drawn: dict[str, pd.DataFrame] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """The rows of a study of another size: so many units of every kind, the same ones wherever they are shared.

    >>> draw_study(gain, {"item": 24, "draw": 2}, np.random.default_rng(0))

    Units are drawn with replacement, so that a study as large as the first is another one, and numbered anew, so that
    each copy is paired with itself alone.

    Args:
        sizes: column of units → how many of each set, alike for all or by set as `sizes_of` gives them (of a set that
            is not among them as many as of the smallest). None, or no entry, takes all as they are.
        within: column of units → the columns that name sets of them; those that the frame lacks name none.
        drawn: what was drawn for another table; filled by the first. Units of the same sets are drawn as there, and
            rows of units that it has not, such as the dense model's, stay as they are.
    """
    drawn = {} if drawn is None else drawn
    for unit, names in within.items():
        if unit not in frame or sizes.get(unit) is None:
            continue
        sets = _columns(frame, names)
        key = " × ".join([unit, *sets])
        repeated = key in drawn
        if not repeated:
            drawn[key] = _choose(frame, unit, sets, sizes[unit], draw)
        frame = _copy(frame, [*sets, unit], drawn[key], keep_others=repeated)
    return frame.reset_index(drop=True)


def _columns(frame: pd.DataFrame, names: Sequence[str]) -> list[str]:
    return [name for name in names if name in frame]


def _choose(frame: pd.DataFrame, unit: str, sets: Sequence[str], size: Size, draw: np.random.Generator) -> pd.DataFrame:
    """The sets, their units, and the numbers of the copies of each; without a number where a unit is not drawn."""
    columns = [*sets, unit]
    known = frame[columns].drop_duplicates().sort_values(columns, ignore_index=True)
    parts = []
    for key, own in known.groupby(sets, dropna=False) if sets else [((), known)]:
        name = key[0] if len(key) == 1 else key
        n = size.get(name, min(size.values())) if isinstance(size, Mapping) else size
        chosen = pd.DataFrame({"place": draw.integers(len(own), size=n), COPY: np.arange(n)})
        parts.append(own.reset_index(drop=True).merge(chosen, left_index=True, right_on="place", how="left"))
    return pd.concat(parts, ignore_index=True).drop(columns="place")


def _copy(frame: pd.DataFrame, columns: list[str], chosen: pd.DataFrame, *, keep_others: bool) -> pd.DataFrame:
    """The rows of every copy, numbered by it; rows of units that could not be chosen stay or go."""
    copies = frame.merge(chosen, on=columns, how="left", indicator=keep_others)
    numbered = copies[copies[COPY].notna()]
    numbered = numbered.assign(**{columns[-1]: numbered[COPY].astype(int)})
    if keep_others:
        others = copies[copies["_merge"] == "left_only"]
        numbered = pd.concat([numbered, others] if len(others) else [numbered], ignore_index=True)
    return numbered.drop(columns=[COPY, *(["_merge"] if keep_others else [])])
