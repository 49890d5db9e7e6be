"""Other paths: what is drawn, that answers are those of `score_task`, and what luck reaches, counted by hand."""

import pandas as pd
import pytest

import labutils as lab
from labutils.smaller.path_figures import shares_by_budget
from labutils.smaller.routes import answers_along_paths, best_single_path, draw_paths, found_paths, predict_along

TASK = "lab:qa/occupations"


def test_candidates_differ_and_stay_within_bounds() -> None:
    paths = draw_paths(6, 40, seed=1)
    assert len(set(paths)) == 40 and paths == draw_paths(6, 40, seed=1) != draw_paths(6, 40, seed=2)
    assert tuple(range(6)) not in paths
    assert all(1 <= len(path) <= 12 and set(path) <= set(range(6)) for path in paths)
    lengths = {len(path) for path in paths}
    assert min(lengths) < 6 < max(lengths)
    for wrong in (0, 10_000):
        with pytest.raises(ValueError, match=f"n_paths={wrong}"):
            draw_paths(1, wrong, seed=0)


@pytest.mark.parametrize("name", ["lab-llama", "lab-gpt2", "lab-opt"])
def test_answers_along_a_path_are_those_of_the_smaller_model(name) -> None:
    model, tokenizer = lab.load_model(name, device="cpu")
    questions = lab.load_task(TASK, n_items=12)
    own, shorter = tuple(range(6)), (0, 1, 3, 4, 5)
    found = predict_along((model, tokenizer), questions, [shorter, own])
    whole = lab.score_task(model, tokenizer, questions)["prediction"].tolist()
    dropped = lab.drop_blocks(model, blocks=[2]).model
    without = lab.score_task(dropped, tokenizer, questions)["prediction"].tolist()
    assert found[own].tolist() == whole and found[shorter].tolist() == without != whole


def test_rows_tell_each_path_and_the_models_own_answer(loaded) -> None:
    rows = answers_along_paths("lab-llama", loaded, TASK, n_paths=5, n_draws=2, n_items=6)
    assert len(rows) == 5 * 2 * 6 and set(rows["n_choices"]) == {4}
    assert rows.groupby("item")["own"].nunique().max() == 1
    lengths = rows["path"].map(lambda path: len(path.split()))
    assert (lengths == rows["blocks"]).all() and ((lengths < 6) == rows["shorter"]).all()
    with pytest.raises(ValueError, match="without choices"):
        answers_along_paths("lab-llama", loaded, "lab:topic/similarity", n_paths=2, n_draws=1, n_items=4)


def made_answers(predictions: dict[str, list[int]], gold: list[int], own: list[int]) -> pd.DataFrame:
    """Of four choices; paths by name, those that begin with s are shorter."""
    return pd.DataFrame([
        {"model": "m", "evaluation": "t", "draw": 0, "path": path, "blocks": 3 if path[0] == "s" else 8,
         "shorter": path[0] == "s", "item": item, "prediction": given, "gold": gold[item], "n_choices": 4,
         "own": own[item]}
        for path, answers in predictions.items() for item, given in enumerate(answers)
    ])  # fmt: skip


def test_a_solved_item_counts_shorter_paths_and_luck_counts_their_answers() -> None:
    answers = made_answers({"s1": [0, 1, 2], "s2": [1, 1, 3], "long": [0, 0, 0]}, gold=[0, 0, 0], own=[0, 0, 1])
    found = found_paths(answers).set_index("item")
    # item 0: shorter paths say 0 and 1, two of four labels; item 1: both say 1, the long path does not count
    assert found["found"].tolist() == [1.0, 0.0, 1.0] and found["luck"].tolist() == [0.5, 0.25, 1.0]
    # item 2 is failed: 2, 3 and 0 were said by any path, three of the three labels that are not the model's own
    assert found["solved"].tolist() == [True, True, False]
    assert found["guesses"].tolist() == pytest.approx([1 - 0.75**2, 1 - 0.75**2, 1 - 0.75**3])
    assert found["reliable"].tolist() == pytest.approx([0.5, 0.0, 1 / 3])
    first = shares_by_budget(answers, [1, 3])
    assert first[(first["budget"] == 1) & first["solved"]]["found"].tolist() == [0.5]


def test_one_path_for_all_is_chosen_on_other_items() -> None:
    # "s1" is right on even items alone and "s2" on odd ones; "s3" on three of four, so it wins on any half
    right = {"s1": [1, 0] * 4, "s2": [0, 1] * 4, "s3": [1, 1, 1, 0] * 2}
    answers = made_answers({name: [1 - one for one in own] for name, own in right.items()}, gold=[0] * 8, own=[0] * 8)
    read = best_single_path(answers)
    assert sorted(read["item"]) == list(range(8)) and set(read["own"]) == {1.0} and set(read["blocks"]) == {3}
    assert read["single"].mean() < 1
    lucky = made_answers(
        {"s1": [0, 1, 1, 1], "s2": [1, 0, 1, 1], "s3": [1, 1, 0, 1], "s4": [1, 1, 1, 0]}, [0] * 4, [0] * 4
    )
    assert found_paths(lucky)["found"].mean() == 1 and best_single_path(lucky)["single"].mean() < 0.5


def test_where_no_model_counts_nothing_is_found_and_nothing_judged() -> None:
    nothing = made_answers({"s1": [0]}, gold=[0], own=[0]).iloc[:0]
    found = found_paths(nothing)
    assert found.empty and found[found["solved"]].columns.tolist() == found.columns.tolist()
    assert best_single_path(nothing).empty
