"""Designs, and the data that cannot be fitted."""

import numpy as np
import pandas as pd
import pytest
from literal_models import grouped_data

from labutils.multilevel.design import Design, build_design
from labutils.multilevel.formula import read_formula

FRAME = grouped_data(0)


def design(formula: str, data: pd.DataFrame = FRAME) -> Design:
    return build_design(read_formula(formula), data)


def test_terms_of_one_grouping_factor_share_a_grouping_in_blocks() -> None:
    found = design("y ~ x + (1 + x | g) + (0 + w | g) + (1 | h)")
    assert [grouping.name for grouping in found.groupings] == ["g", "h"]
    first, second = found.groupings
    assert first.terms == ("(Intercept)", "x", "w")
    assert first.blocks == (slice(0, 2), slice(2, 3))
    assert (first.n_coefficients, first.n_parameters, second.n_parameters) == (24, 4, 1)
    assert found.n_parameters == 2 + 5 + 1
    assert first.columns == pytest.approx(np.column_stack([np.ones(len(FRAME)), FRAME["x"], FRAME["w"]]))
    assert [first.levels[code] for code in first.codes] == FRAME["g"].tolist()


def test_index_order_and_types_of_the_frame_do_not_matter() -> None:
    shuffled = FRAME.sample(frac=1, random_state=1).set_index(pd.Index([7] * len(FRAME)))
    found = design("y ~ x + c + (1 + x | g)", shuffled.convert_dtypes())
    assert found.y == pytest.approx(shuffled["y"].to_numpy())
    assert found.terms == ("(Intercept)", "x", "cb", "cc")
    assert [found.groupings[0].levels[code] for code in found.groupings[0].codes] == shuffled["g"].tolist()


def test_resampled_levels_bring_their_rows_and_stay_apart() -> None:
    found = design("y ~ x + (1 + x | g)")
    drawn = found.resampled(np.array([2, 0, 2]))
    rows = [np.flatnonzero(found.groupings[0].codes == level) for level in (2, 0, 2)]
    assert drawn.y == pytest.approx(np.concatenate([found.y[part] for part in rows]))
    assert drawn.groupings[0].codes.tolist() == [i for i, part in enumerate(rows) for _ in part]
    assert drawn.groupings[0].levels == ("g2", "g0", "g2")


def changed(**columns: object) -> pd.DataFrame:
    return FRAME.assign(**columns)


def test_columns_are_called_by_how_their_names_are_written() -> None:
    """Names that are no text, that have spaces in them, or signs of formulas; a text wins over a number."""
    names = {"y": 0, "x": "word length", "w": 2.5, "c": "a:b", "g": "1 | 2", "h": ("u", 1)}
    data = FRAME.rename(columns=names).assign(**{"3": FRAME["x"]})
    data.columns = data.columns.to_flat_index()
    found = design("`0` ~ `word length` + `2.5` + `a:b` + (`word length` | `1 | 2`) + (1 | `('u', 1)`)", data)
    expected = design("y ~ x + w + c + (x | g) + (1 | h)")
    assert (found.x == expected.x).all() and (found.y == expected.y).all()
    assert found.terms == ("(Intercept)", "word length", "2.5", "a:bb", "a:bc")
    assert [grouping.name for grouping in found.groupings] == ["1 | 2", "('u', 1)"]
    both = FRAME.assign(**{"3": FRAME["w"]}).rename(columns={"x": 3})
    assert (design("y ~ `3` + (1 | g)", both).x[:, 1] == FRAME["w"]).all()
    twice = FRAME.rename(columns={"x": 3, "w": 3})
    with pytest.raises(ValueError, match="2 columns are called '3'"):
        design("y ~ `3` + (1 | g)", twice)
    with pytest.raises(LookupError, match="no column '4'.*They have y, 3"):
        design("y ~ `4` + (1 | g)", twice)


HOLED = FRAME["x"].where(FRAME.index > 2)


@pytest.mark.parametrize(
    ("formula", "data", "kind", "message"),
    [
        ("y ~ salery + (1 | g)", changed(salary=1.0), LookupError, "no column 'salery'.*Did you mean 'salary'"),
        ("y ~ x + (1 | group)", FRAME, LookupError, "no column 'group'"),
        ("z ~ x + (1 | g)", FRAME, LookupError, "no column 'z'"),
        ("y ~ x + (1 | g)", changed(x=3), ValueError, r"predictor 'x' is constant \(3 in all"),
        ("y ~ 1 + (x | g)", changed(x=0.0), ValueError, "predictor 'x' is constant"),
        ("y ~ c + (1 | g)", changed(c="a"), ValueError, r"predictor 'c' is constant \('a' in all"),
        ("y ~ x + (1 | g)", changed(x=HOLED), ValueError, r"'x' in 3 rows.*dropna\(subset=\['x'\]\)"),
        ("y ~ x + (1 | g)", changed(g=FRAME["g"].where(FRAME.index > 0)), ValueError, "missing: 'g' in 1 rows"),
        ("y ~ x + (1 | g)", changed(y=HOLED), ValueError, "missing: 'y' in 3 rows"),
        ("y ~ x + (1 | g)", changed(x=FRAME["x"].where(FRAME.index > 1, np.inf)), ValueError, "'x' is not finite in 2"),
        ("y ~ x + (1 | g)", changed(y=1.5), ValueError, "response 'y' is constant"),
        ("c ~ x + (1 | g)", FRAME, ValueError, "column 'c' must hold numbers here"),
        ("y ~ x + (1 | g)", changed(g="only"), ValueError, r"'g' has one level only \('only'\)"),
        ("y ~ x + z + (1 | g)", changed(z=2 * FRAME["x"] - 1), ValueError, "'z' is a linear combination of '.Interc"),
        ("y ~ x + w + z + (1 | g)", changed(z=FRAME["x"] + FRAME["w"]), ValueError, "'z' is.*of 'x', 'w' in the fixed"),
        ("y ~ x + (x + z | g)", changed(z=-FRAME["x"]), ValueError, "'z' is.*'x' in the random terms of 'g'"),
        ("y ~ x + (1 | g) + (1 | k)", changed(k=FRAME["g"].str.upper()), ValueError, "'g' and 'k' divide the rows in"),
        ("y ~ 0 + (1 | g)", FRAME, ValueError, "no fixed effect"),
        ("y ~ x + (1 | g) + (1 + x | g)", FRAME, ValueError, "varies over 'g' in two random terms"),
        ("y ~ x + (1 + c || g)", FRAME, ValueError, "'c' is a category; left of"),
        ("y ~ x + (1 | row)", changed(row=range(len(FRAME))), ValueError, "random coefficients .1 for each of"),
        ("y ~ x*w*c + (x*w | g)", FRAME.head(20), ValueError, "20 rows for 23 parameters .12 fixed effects, 11 var"),
        ("y ~ x + (1 | g)", FRAME.head(4), ValueError, "one level only"),
        ("y ~ x + (1 | g)", FRAME.iloc[[0, 1, 10, 11]], ValueError, "4 rows for 4 parameters"),
        ("y ~ x + (1 | g)", FRAME.iloc[:0], ValueError, "no rows"),
        (
            "y ~ t + (1 | g)",
            changed(t=pd.Timestamp("2026-01-01")),
            ValueError,
            "datetime64. Take seconds since the first",
        ),
        (
            "y ~ x + (1 | l)",
            changed(l=[[1]] * len(FRAME)),
            ValueError,
            r"'l' cannot be divided into levels.*astype\(str",
        ),
        ("y ~ x + (1 | g)", changed(x=[10**400] + [1] * (len(FRAME) - 1)), ValueError, "'x' holds a number too large"),
        ("y ~ x + (1 | g)", changed(x=1e200 * FRAME["x"]), ValueError, r"'x' go up to .*e\+200.*rescale"),
        ("y ~ x + (1 | g)", changed(y=1e-99 * FRAME["y"]), ValueError, "'y' go up to .*e-99.*rescale"),
        ("y ~ x + (1 | g)", changed(x=1e15 + FRAME["x"]), ValueError, "'x' is constant.*rounding.*subtract its mean"),
        ("y ~ I(x^3) + I(x^2) + x + (1 | g)", changed(x=1e9 + FRAME["x"]), ValueError, "'I.x.3.' is large beside"),
        ("y ~ log(C(c)) + (1 | g)", FRAME, ValueError, r"C\(c\) is a category, which stands alone"),
        ("y ~ x*w + `x:w` + (1 | g)", changed(**{"x:w": FRAME["y"]}), ValueError, "Two fixed effects .*'x:w': rename"),
        ("y ~ c + cb + (1 | g)", changed(cb=FRAME["x"]), ValueError, "Two fixed effects would be called 'cb'"),
        ("y ~ x + (1 | g:h) + (1 | `g:h`)", changed(**{"g:h": FRAME["g"]}), ValueError, "Two grouping factors .*'g:h'"),
    ],
)
def test_what_cannot_be_fitted_is_refused(
    formula: str, data: pd.DataFrame, kind: type[Exception], message: str
) -> None:
    before = data.copy()
    with pytest.raises(kind, match=message):
        design(formula, data)
    pd.testing.assert_frame_equal(data, before)
