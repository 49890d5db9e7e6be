"""Predictions of a fitted model for new data, as those of R's predict() for lme4 (Bates et al. 2015, section 5)."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from labutils.core.options import suggest
from labutils.multilevel.codebook import listed
from labutils.multilevel.matrices import Design, Grouping

NEW_LEVELS = ("refuse", "mean")


def chosen_groupings(design: Design, groups: bool | Sequence[str]) -> list[Grouping]:
    """The grouping factors whose random coefficients a prediction holds: all, none, or those named.

    Raises:
        LookupError: the model has no such grouping factor.
    """
    if isinstance(groups, bool):
        return list(design.groupings) if groups else []
    named = [groups] if isinstance(groups, str) else list(groups)
    known = [grouping.name for grouping in design.groupings]
    for name in named:
        if name not in known:
            raise LookupError(f"The model has no grouping factor {name!r}.{suggest(name, known)} {', '.join(known)}.")
    return [grouping for grouping in design.groupings if grouping.name in named]


def predict_rows(
    design: Design,
    data: pd.DataFrame,
    coefficients: Float[np.ndarray, " fixed"],
    random: Sequence[tuple[Grouping, Float[np.ndarray, "_ _"]]],
    new_levels: str,
) -> Float[np.ndarray, " rows"]:
    """x'b + Σ z'u for every row of new data, u as predicted for the row's level, and zero for a level not known.

    Raises:
        LookupError: a column is not there.
        ValueError: values are missing, a category or (if `new_levels` is "refuse") a group is new.
    """
    if new_levels not in NEW_LEVELS:
        raise ValueError(f"new_levels={new_levels!r} is not known: use one of {', '.join(map(repr, NEW_LEVELS))}.")
    values = design.codebook.fixed_columns(data) @ coefficients
    for grouping, effects in random:
        columns, codes = design.codebook.varying_columns(grouping.group, data), _level_codes(design, grouping, data)
        if new_levels == "refuse" and (codes < 0).any():
            first = int(np.argmax(codes < 0))
            raise ValueError(
                f"{int((codes < 0).sum())} rows belong to levels of {grouping.name!r} that the model was not fitted "
                f"with, the first row {first} (counted from 0): {dict(data[list(grouping.group)].iloc[first])}. Known "
                f"are {listed(list(grouping.levels))}. new_levels='mean' predicts the mean over all groups there."
            )
        values = values + np.where(codes < 0, 0.0, (columns * effects[codes]).sum(1))
    return values


def _level_codes(design: Design, grouping: Grouping, data: pd.DataFrame) -> Int[np.ndarray, " rows"]:
    """The number of each row's level in the model, −1 where it has none."""
    numbers, levels = design.codebook.group_numbers(grouping.group, data)
    if tuple(levels) == grouping.levels:
        return numbers
    own = pd.Index(list(grouping.levels), dtype=object)  # some levels were left out
    if not own.is_unique:
        raise ValueError(f"Levels of {grouping.name!r} were drawn twice: predict with groups=False.")
    return np.append(own.get_indexer(pd.Index(levels, dtype=object)), -1)[numbers]
