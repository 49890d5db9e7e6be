"""From rows with known answers to shares lost, contrasts, tables and predictors."""

import numpy as np
import pandas as pd
import pytest
from made_rows import alternating, question_rows
from scipy.stats import binom

import labutils as lab
from labutils.yardsticks import (
    accuracy_differences,
    block_table,
    chance_of_guessing,
    compare_losses,
    damage_table,
    lost_shares,
    predictor_errors,
    predictor_gain,
    predictor_gains,
    reasoning_arms,
    reasoning_contrast,
    recognition_table,
    telling,
    yardstick_check,
)

N = 40
ROWS = question_rows(
    {
        "dense": {"answer": alternating(N, 4), "choice": alternating(N, 10)},
        "a@0.5": {"answer": alternating(N, 2), "choice": alternating(N, 5), "answer_in_context": alternating(N, 8)},
        "b/2:4": {"answer": [0.0] * N, "choice": alternating(N, 2)},
    }
)


def test_differences_are_right_by_the_first_minus_right_by_the_second() -> None:
    found = accuracy_differences(ROWS, {"x": ("a@0.5", "b/2:4"), "y": ("dense", "b/2:4")})
    means = found.groupby("contrast")["value"].mean()
    assert means["x"] == 0.5 and means["y"] == 0.75
    assert found.groupby("contrast")["draw"].unique().map(sorted).tolist() == [[0, 1], [0, 1]]
    with pytest.raises(LookupError, match="no rows of the arm 'c'; there are dense, a@0.5"):
        accuracy_differences(ROWS, {"x": ("c", "dense")})


def test_shares_lost_are_of_what_is_known_beyond_guessing() -> None:
    answer = lost_shares(ROWS, ["a@0.5"], yardstick="answer")["value"].mean()
    choice = lost_shares(ROWS, ["a@0.5"], yardstick="choice")["value"].mean()
    assert answer == pytest.approx(0.25 / 0.75)
    assert choice == pytest.approx(0.1 / (0.9 - 0.25))
    both = compare_losses(ROWS, ["a@0.5"], more="answer", less="answer_in_context")
    assert both["value"].mean() == pytest.approx(0.25 / 0.75 - 1 / 8)
    assert len(both) == 2 * N
    with pytest.raises(ValueError, match="made is not above guessing by 'choice'"):
        lost_shares(ROWS.assign(choice=0.25), ["a@0.5"], yardstick="choice")


def test_the_spread_of_a_share_is_that_of_the_ratio() -> None:
    """Against a bootstrap of the ratio itself over questions, dense mean and all."""
    generator = np.random.default_rng(0)
    n = 80
    dense = (generator.random(n) < 0.4).astype(float)
    left = dense * (generator.random(n) < 0.6)
    rows = question_rows({"dense": {"answer": dense}, "a@0.5": {"answer": left}}, draws=1)
    shares = lost_shares(rows, ["a@0.5"], yardstick="answer")
    assert shares["value"].mean() == pytest.approx((dense - left).sum() / dense.sum())
    picks = generator.integers(n, size=(4000, n))
    ratios = (dense - left)[picks].sum(1) / dense[picks].sum(1)
    assert shares["value"].std(ddof=1) / np.sqrt(n) == pytest.approx(ratios.std(), rel=0.08)
    held_fixed = ((dense - left) / dense.mean()).std(ddof=1) / np.sqrt(n)
    assert held_fixed > 1.08 * ratios.std()  # what the dense model does not know is no loss either way


def test_comparisons_with_nothing_left_on_either_side_are_left_out_in_every_model() -> None:
    rows = question_rows(
        {
            "dense": {"answer": [1.0] * N},
            "a": {"answer": alternating(N, 2)},
            "b": {"answer": [0.0] * N},
            "c": {"answer": [0.0] * N},
        }
    )
    sides = {"a b": ["a", "b"], "b a": ["b", "a"], "b c": ["b", "c"], "a": ["a"], "c": ["c"]}
    compared = {label: [(arm, "answer") for arm in arms] for label, arms in sides.items()}
    assert telling(rows, compared) == ["a b", "b a", "a"]
    floored = rows.assign(model="other", answer=rows["answer"].where(rows["arm"] != "a", 0.0))
    assert telling(pd.concat([rows, floored]), compared) == []
    with pytest.raises(LookupError, match="no rows of the arm 'd'"):
        telling(rows, {"d": [("d", "answer")]})


def test_tables_of_several_models_have_intervals_over_models() -> None:
    parts = []
    for number, every in enumerate((3, 4, 5)):
        choices = {"dense": [1.0] * 60, "blocks@1": alternating(60, every)}
        one = question_rows({arm: {"choice": right} for arm, right in choices.items()})
        parts.append(one.assign(model=f"m{number}"))
    texts = pd.DataFrame({"arm": ["dense", "blocks@1"], "loss": [1.0, 1.5]})
    (row,) = block_table(pd.concat(parts), texts, {1: "blocks@1"}, ["choice"]).to_dict("records")
    losses = np.array([-20 / 60, -15 / 60, -12 / 60])
    assert row["accuracy"] == pytest.approx(losses.mean())
    assert row["high"] - row["accuracy"] == pytest.approx(4.3027 * losses.std(ddof=1) / np.sqrt(3), rel=1e-3)


def test_contrasts_are_what_intervals_over_models_read() -> None:
    both = pd.concat([ROWS, ROWS.assign(model="other")])
    effects = lab.sweeps.effects_over_models(compare_losses(both, ["a@0.5"], more="answer", less="choice"))
    assert set(effects.by_model) == {"made", "other"}
    assert effects.overall.estimate == pytest.approx(0.25 / 0.75 - 0.1 / 0.65)


def test_a_yardstick_counts_only_where_the_dense_model_is_above_guessing() -> None:
    table = yardstick_check(ROWS.assign(choice_in_context=0.0)).set_index("yardstick")
    assert not table.loc["choice in context", "usable"] and table.loc["choice", "usable"]
    assert table.loc["answer", "dense"] == 0.75 and table.loc["answer", "chance"] == 0
    assert table.loc["choice", "low"] < 0.9 < table.loc["choice", "high"]


def test_recognition_is_counted_among_what_the_dense_model_knows_both_ways() -> None:
    row = recognition_table(ROWS, ["a@0.5"]).set_index("arm").loc["a@0.5"]
    known = [n for n in range(N) if n % 4 and n % 10]
    chosen, said = (np.array([n % every != 0 for n in known]) for every in (5, 2))
    assert row["questions"] == len(known)
    assert row["chosen only"] == (chosen & ~said).sum() and row["said only"] == (~chosen & said).sum()
    assert row["both"] + row["chosen only"] + row["said only"] + row["neither"] == len(known)
    n_gone = int((~said).sum())
    assert row["p"] == pytest.approx(binom.sf(row["chosen only"] - 1, n_gone, 0.25))
    assert row["recognised"] == pytest.approx((row["chosen only"] / n_gone - 0.25) / 0.75)
    assert recognition_table(ROWS, ["a@0.5", "b/2:4"])["arm"].tolist() == ["a@0.5", "b/2:4"]
    assert row["luck"] == 0.25 * (~said).sum() and row["near"] == 1


def test_a_model_that_only_guesses_recognises_nothing() -> None:
    n, rejected = 100, 0
    for seed in range(20):
        guessed = (np.random.default_rng(seed).random(n) < 0.25).astype(float)
        rows = question_rows({"dense": {"answer": [1.0] * n}, "a@0.9": {"answer": [0.0] * n, "choice": guessed}})
        (row,) = recognition_table(rows, ["a@0.9"]).to_dict("records")
        assert row["said only"] == 0 and row["chosen only"] > 10 and abs(row["recognised"]) < 0.2
        rejected += row["p"] < 0.05
    assert rejected <= 4
    knows = question_rows({"dense": {"answer": [1.0] * n}, "a@0.9": {"answer": [0.0] * n, "choice": [1.0] * n}})
    assert recognition_table(knows, ["a@0.9"])["p"].iloc[0] < 1e-20
    assert recognition_table(knows, ["a@0.9"])["recognised"].iloc[0] == 1


def test_the_chance_of_guessing_sums_over_all_ways() -> None:
    chances = np.array([0.5, 0.25, 0.25])
    assert chance_of_guessing(0, chances) == 1
    assert chance_of_guessing(3, chances) == pytest.approx(1 / 32)
    assert chance_of_guessing(1, chances) == pytest.approx(1 - 0.5 * 0.75 * 0.75)
    assert chance_of_guessing(4, np.full(10, 0.25)) == pytest.approx(binom.sf(3, 10, 0.25))
    assert chance_of_guessing(0, np.empty(0)) == 1


def test_predictors_are_tried_on_kinds_of_damage_that_they_were_not_fitted_on() -> None:
    generator = np.random.default_rng(5)
    kinds = np.repeat(["a", "b", "c", "d"], 8)
    lost = generator.random(32)
    table = pd.DataFrame({"kind": kinds, "lost": lost, "kl": lost**2, "flips": generator.random(32)})
    # The loss tells the damage too, but by another curve for every kind.
    table["added_loss"] = lost * np.repeat([1.0, 3.0, 9.0, 27.0], 8)
    errors = predictor_errors(table)
    means = errors.groupby("predictor")["error"].mean()
    assert means["KL from the dense model"] < 0.08 < means["added loss"]
    assert means["flipped choices"] > 0.15
    assert predictor_gain(errors, "added loss", "KL from the dense model").estimate > 0
    with pytest.raises(ValueError, match="at least two kinds"):
        predictor_errors(table[table["kind"] == "a"])


def test_neither_the_kind_nor_the_amount_of_what_is_tried_was_fitted_on() -> None:
    arms = [(kind, amount) for kind in ("a", "b") for amount in ("0.3", "0.6")] + [("c", "rtn4")]
    table = pd.DataFrame(arms, columns=["kind", "amount"]).assign(lost=[0.1, 0.5, 0.2, 0.7, 0.9])
    for column in ("added_loss", "kl", "flips"):
        table[column] = table["lost"]
    errors = predictor_errors(table).set_index(["predictor", "kind"])["error"]
    # a at 0.3 is tried on b at 0.6 and c alone, and so on.
    of_a = [abs((0.7 + 0.9) / 2 - 0.1), abs((0.2 + 0.9) / 2 - 0.5)]
    assert errors["no predictor", "a"] == pytest.approx(np.mean(of_a))
    assert errors["no predictor", "c"] == pytest.approx(0.9 - np.mean([0.1, 0.5, 0.2, 0.7]))
    with pytest.raises(ValueError, match="nothing of another kind and amount than a 0.3"):
        predictor_errors(table[table["amount"] == "0.3"])


def test_the_best_of_several_predictors_pays_for_being_chosen() -> None:
    found = {"added loss": [0.2, 0.3, 0.4], "flipped choices": [0.1, 0.15, 0.3]}
    found |= {"KL from the dense model": [0.2, 0.3, 0.3], "no predictor": [0.1, 0.1, 0.1]}
    rows = [(name, kind, e) for name, own in found.items() for kind, e in zip("xyz", own, strict=True)]
    errors = pd.DataFrame(rows, columns=["predictor", "kind", "error"])
    gains = predictor_gains(errors, "added loss")
    assert list(gains) == ["flipped choices", "KL from the dense model"]
    alone = predictor_gain(errors, "added loss", "flipped choices")
    assert gains["flipped choices"].low < alone.low and gains["flipped choices"].estimate == alone.estimate
    assert gains["flipped choices"].level == pytest.approx(0.975)


def test_predictors_and_target_share_no_question() -> None:
    texts = pd.DataFrame({"item": [0, 1], "loss": [1.0, 2.0], "kl": [0.0, 0.0], "model": "made"})
    rows = ROWS.assign(prediction=lambda frame: (frame["arm"] == "a@0.5") & (frame["item"] % 4 == 0))
    rows = rows[rows["arm"] != "b/2:4"].assign(prediction=lambda frame: frame["prediction"].astype(int))
    both = pd.concat(
        [texts.assign(arm="dense", draw=-1)]
        + [texts.assign(arm="a@0.5", draw=d, loss=texts["loss"] + 1, kl=0.5) for d in (0, 1)]
    )
    table = damage_table(rows, both)
    odd = [n for n in range(N) if n % 2]
    dense, left = (np.mean([n % every != 0 for n in odd]) for every in (4, 2))
    assert table["lost"].tolist() == pytest.approx([(dense - left) / dense] * 2)
    assert table["flips"].tolist() == [0.5, 0.5] and table["added_loss"].tolist() == [1.0, 1.0]
    assert table["kind"].tolist() == ["a", "a"]


def test_reasoning_is_set_against_the_rise_of_the_loss() -> None:
    tasks = pd.DataFrame({"item": range(40), "task": "r", "chance": 0.5, "score": 1.0, "model": "m"})
    texts = pd.DataFrame({"item": range(10), "loss": 2.0, "model": "m"})
    scores = np.where(np.arange(40) % 4 == 0, 0.0, 1.0)
    frames = [
        pd.concat(
            [
                frame.assign(arm="dense", draw=-1),
                *(frame.assign(arm="a", draw=draw, **{column: value}) for draw in (0, 1)),
            ]
        )
        for frame, column, value in ((tasks, "score", scores), (texts, "loss", 2.2))
    ]
    found = reasoning_contrast(*frames)
    assert found.estimate == pytest.approx(0.25 / 0.5 - 0.1)
    assert found.low > 0
    tasks = frames[0]
    assert reasoning_arms(tasks, ["a"]) == ["a"]
    assert reasoning_arms(tasks.assign(score=tasks["score"].where(tasks["arm"] != "a", tasks["item"] % 2)), ["a"]) == []
    with pytest.raises(ValueError, match="not above chance on r"):
        reasoning_contrast(frames[0].assign(score=0.5), frames[1])
