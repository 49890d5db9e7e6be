"""A formula applied to data: the response, the fixed columns, and per grouping factor the varying columns.

Whatever would end in a number without meaning is refused here, before anything is fitted.
"""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import pandas as pd

from labutils.multilevel.codebook import Codebook
from labutils.multilevel.coding import (
    CONSTANT_TOLERANCE,
    group_codes,
    numeric_values,
    read_factor,
    refuse_missing,
    term_columns,
)
from labutils.multilevel.formula import Formula, RandomTerm, Term
from labutils.multilevel.identification import check_identified, refuse_sizes
from labutils.multilevel.matrices import Design, Grouping
from labutils.multilevel.weighting import Weights, read_weights

Coder = Callable[[tuple[Term, ...]], tuple[tuple[str, ...], np.ndarray]]  # names and columns of some terms


def build_design(formula: Formula, data: pd.DataFrame, weights: Weights | None = None) -> Design:
    """Apply a formula to data, with prior weights as `read_weights` takes them.

    Raises:
        LookupError: an unknown column or function.
        ValueError: missing or infinite values, a constant or collinear predictor, a constant response, fewer than two
            groups, fewer rows than parameters, or weights that are none.
    """
    refuse_missing(formula.columns(), data)
    prior = None if weights is None else read_weights(weights, data)
    y = numeric_values(formula.response, data)
    refuse_sizes(str(formula.response), y)
    if np.ptp(y) <= CONSTANT_TOLERANCE * np.abs(y).max():
        raise ValueError(f"The response {str(formula.response)!r} is constant: there is no variance to explain.")
    read = cache(lambda factor: read_factor(factor, data))
    coded = cache(lambda terms: term_columns(terms, data, lambda factor, _: read(factor)))
    terms, x = coded(formula.fixed)
    if not terms:
        raise ValueError(f"The formula {formula.text!r} has no fixed effect: leave in the intercept at least.")
    for factor in formula.uncorrelated:
        if read(factor).levels:
            raise ValueError(f"{str(factor)!r} is a category; left of '||' give numbers, as 0/1 columns of your own.")
    names = list(dict.fromkeys(random.group for random in formula.random))
    groupings = tuple(_grouping(name, [r for r in formula.random if r.group == name], data, coded) for name in names)
    _refuse_same_names("fixed effects", terms)
    _refuse_same_names("grouping factors", [grouping.name for grouping in groupings])
    design = Design(formula.text, str(formula.response), y, terms, x, groupings, prior, Codebook.of(formula, data))
    check_identified(design)
    return design


def _refuse_same_names(what: str, names: Sequence[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"Two {what} would be called {twice!r}: rename a column, so that they can be told apart.")


def _grouping(group: tuple[str, ...], random: list[RandomTerm], data: pd.DataFrame, code: Coder) -> Grouping:
    """All random terms of one grouping factor, put together and checked."""
    name = ":".join(group)
    codes, levels = group_codes(group, data)
    coded = [code(term.terms) for term in random]
    terms = tuple(term for names, _ in coded for term in names)
    twice = next((term for term in terms if terms.count(term) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice!r} varies over {name!r} in two random terms: its variance would be there twice.")
    ends = np.cumsum([len(names) for names, _ in coded])
    blocks = tuple(slice(int(end) - len(names), int(end)) for end, (names, _) in zip(ends, coded, strict=True))
    columns = coded[0][1] if len(coded) == 1 else np.concatenate([columns for _, columns in coded], axis=1)
    return Grouping(name, tuple(levels), codes, terms, columns, blocks, group)
