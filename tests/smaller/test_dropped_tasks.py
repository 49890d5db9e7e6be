"""Tasks after dropped blocks: shares beyond guessing, and other tasks against a group, by hand."""

import pandas as pd
import pytest

import labutils as lab
from labutils.smaller.dropped_tasks import lost_beyond_chance, others_minus_alike, scores_after_dropping


def test_scores_are_those_of_the_models_without_blocks(loaded, tokens) -> None:
    tasks = [lab.load_task(name, n_items=6) for name in ("lab:qa/birthplaces", "lab:topic/similarity")]
    rows = scores_after_dropping(
        "lab-llama", loaded, tasks, tokens, ways=["top", "deepest"], n_blocks=[2], score=lab.sweeps.score_items
    )
    assert len(rows) == 3 * 2 * 6 and set(rows["sparsity"]) == {0.0, 1 / 3}
    for way, gone in (("top", [4, 5]), ("deepest", [3, 4])):
        smaller = lab.drop_blocks(loaded[0], blocks=gone).model
        expected = lab.sweeps.score_items(smaller, loaded[1], tasks)["score"].tolist()
        assert rows[rows["method"] == way]["score"].tolist() == pytest.approx(expected)
    asked = {"ways": ["top"], "n_blocks": [5], "score": lab.sweeps.score_items}
    with pytest.raises(ValueError, match="5 of 6 blocks cannot go; give 1 to 4"):
        scores_after_dropping("lab-llama", loaded, tasks, tokens, **asked)
    with pytest.raises(LookupError, match=r"'tops'.*top"):
        scores_after_dropping("lab-llama", loaded, tasks, tokens, **{**asked, "ways": ["tops"], "n_blocks": [1]})


def drops(losses: dict[tuple[str, str], float], *, dense: float = 0.75, chance: float = 0.5) -> pd.DataFrame:
    return pd.DataFrame([
        {"model": model, "method": "top", "sparsity": 0.5, "task": task, "family": "f", "item": item, "dense": dense,
         "value": value, "chance": chance}
        for (model, task), value in losses.items() for item in range(2)
    ])  # fmt: skip


def test_a_drop_counts_against_what_is_beyond_guessing() -> None:
    lost = lost_beyond_chance(drops({("m", "a"): 0.25, ("m", "b"): 0.05}))
    assert lost.set_index("task")["value"].to_dict() == pytest.approx({"a": 1.0, "b": 0.2})
    with pytest.raises(ValueError, match="m is not above chance on a"):
        lost_beyond_chance(drops({("m", "a"): 0.1}, dense=0.5))


def test_the_difference_is_of_others_minus_the_group_and_its_units_are_data_sets() -> None:
    losses = {(model, task): value + shift
              for model, shift in (("m", 0.0), ("n", 0.01))
              for task, value in (("a", 0.2), ("b", 0.21), ("c", 0.2), ("x", 0.05), ("y", 0.06))}  # fmt: skip
    found = others_minus_alike(lost_beyond_chance(drops(losses)), ["x", "y"])
    assert found.estimate == pytest.approx((0.61 / 3 - 0.055) / 0.25) and found.low > 0
    assert (found.n_items, found.n_draws, found.units) == (5, 2, ("data set", "model"))
    assert found.evidence.recompute().estimate == found.estimate
    few = others_minus_alike(lost_beyond_chance(drops(losses)), ["x"])
    assert not few.defined and "two data sets of the group" in few.note
