"""Studies drawn from kept rows: units with replacement, within their sets, the same ones wherever they are shared."""

import numpy as np
import pandas as pd
import pytest

from labutils.claims.smaller_studies import draw_study, sizes_of, units_of
from labutils.stats.bootstrap import crossed_bootstrap
from labutils.stats.few_units import interval_over_units


def rows(*, n_items: int = 10, n_draws: int = 4, **about: object) -> pd.DataFrame:
    """Rows that tell from which unit they came: `item was` and `draw was`."""
    found = [
        {"item": item, "draw": draw, "sparsity": sparsity, "value": item + 100.0 * draw, **about}
        for item in range(n_items) for draw in range(n_draws) for sparsity in (0.5, 0.6)
    ]  # fmt: skip
    frame = pd.DataFrame(found)
    return frame.assign(**{"item was": frame["item"], "draw was": frame["draw"]})


def drawn_from(frame: pd.DataFrame, unit: str, *sets: str) -> pd.Series:
    """Of every copy in every set the one unit that it was drawn from."""
    found = frame.groupby([*sets, unit])[f"{unit} was"].unique()
    assert (found.map(len) == 1).all()
    return found.map(lambda was: was[0])


def test_copies_are_drawn_with_replacement_and_numbered_anew() -> None:
    drawn = draw_study(rows(), {"item": 9, "draw": 6}, np.random.default_rng(0))
    items, draws = drawn_from(drawn, "item"), drawn_from(drawn, "draw")
    assert items.index.tolist() == list(range(9)) and draws.index.tolist() == list(range(6))
    assert items.nunique() < 9 and draws.nunique() <= 4  # some twice, and six of four draws
    assert len(drawn) == 9 * 6 * 2 and not drawn.duplicated(["item", "draw", "sparsity"]).any()
    assert (drawn["value"] == drawn["item was"] + 100 * drawn["draw was"]).all()


def test_every_unit_is_as_likely_as_another() -> None:
    generator, counts = np.random.default_rng(1), np.zeros(10)
    for _ in range(100):
        counts += np.bincount(drawn_from(draw_study(rows(), {"item": 5}, generator), "item"), minlength=10)
    assert counts.sum() == 500 and counts.min() > 25 and counts.max() < 80  # 50 each, deviation 6.7


@pytest.mark.parametrize("within", ["evaluation", "task", "domain"])
def test_items_are_drawn_in_every_set_and_shared_between_models(within: str) -> None:
    frame = pd.concat(
        [rows(n_items=n, **{within: name}, model=model) for name, n in (("a", 6), ("b", 9)) for model in "xy"],
        ignore_index=True,
    )
    drawn = draw_study(frame, {"item": {"a": 6, "b": 9}, "draw": 2}, np.random.default_rng(0))
    by_model = [drawn_from(drawn[drawn["model"] == model], "item", within) for model in "xy"]
    assert by_model[0].equals(by_model[1]) and [len(by_model[0][name]) for name in "ab"] == [6, 9]
    assert by_model[0]["a"].tolist() != by_model[0]["b"].tolist()[:6]
    assert drawn_from(drawn, "draw").size == 2  # one draw for all: the rows name no calibration


def test_draws_are_those_of_each_calibration_text() -> None:
    frame = pd.concat([rows(calibration=name, evaluation="e") for name in "ab"], ignore_index=True)
    drawn = draw_study(frame, {"item": 5, "draw": 4}, np.random.default_rng(3))
    draws = drawn_from(drawn, "draw", "calibration")
    assert draws["a"].tolist() != draws["b"].tolist() and draws.groupby("calibration").size().tolist() == [4, 4]
    assert drawn_from(drawn, "item").size == 5  # one text, the same items


def test_a_second_table_has_the_same_draws_and_keeps_what_the_first_has_not() -> None:
    first, second = rows(calibration="c", task="t"), rows(n_items=7, calibration="c", evaluation="e")
    dense = rows(n_items=7, n_draws=1, calibration="c", evaluation="e").assign(draw=-1)
    second = pd.concat([second, dense.assign(**{"draw was": -1})], ignore_index=True)
    drawn: dict[str, pd.DataFrame] = {}
    generator = np.random.default_rng(0)
    one = draw_study(first, {"item": 8, "draw": 3}, generator, drawn=drawn)
    two = draw_study(second, {"item": 5, "draw": 3}, generator, drawn=drawn)
    assert drawn_from(two[two["draw"] >= 0], "draw").equals(drawn_from(one, "draw"))
    assert drawn_from(two, "item").size == 5  # dense and pruned alike
    assert (two["draw"] == -1).sum() == 5 * 2 and len(two) == 5 * 4 * 2


def test_none_takes_all_as_they_are_and_the_order_of_rows_changes_nothing() -> None:
    frame = rows()
    pd.testing.assert_frame_equal(draw_study(frame, {"item": None}, np.random.default_rng(0)), frame)
    keys = ["item", "draw", "sparsity"]
    one, other = (
        draw_study(each, {"item": 9, "draw": 3}, np.random.default_rng(5)).sort_values(keys, ignore_index=True)
        for each in (frame, frame.sample(frac=1, random_state=0))
    )
    pd.testing.assert_frame_equal(one, other)


def test_sizes_are_counted_in_every_set() -> None:
    frame = pd.concat([rows(n_items=3, task="a"), rows(n_items=5, task="b")])
    assert sizes_of(frame) == {"item": {"a": 3, "b": 5}, "draw": 4}


def test_units_are_those_that_the_evidence_names() -> None:
    frame = rows().rename(columns={"item": "text"})
    over_texts = crossed_bootstrap(frame, item="text", strata=(), n_resamples=100).evidence
    assert units_of(over_texts)["text"] == ["evaluation", "task", "domain"] and "item" not in units_of(over_texts)
    by_concept = frame.assign(concept="c", task="t")
    found = crossed_bootstrap(by_concept, item="text", cells=("sparsity", "task"), strata=["concept"], n_resamples=100)
    assert units_of(found.evidence)["text"] == ["evaluation", "domain", "concept"]  # items of a cell are those of all
    effects = pd.DataFrame({"model": ["a", "b"], "estimate": [0.1, 0.2]})
    assert units_of(interval_over_units(effects).evidence) == {"model": []}
