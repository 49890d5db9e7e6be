"""How much blocks matter: yardsticks against generation and literal losses, what their profiles have in common."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

import labutils as lab
from labutils.smaller.yardsticks import (
    ITEMS,
    copying_losses,
    deep_minus_shallow,
    greedy_answers,
    importance_profiles,
    profile_correlations,
    worst_blocks,
)

TASK = "lab:qa/whereabouts"


def test_greedy_answers_are_what_generation_writes(loaded) -> None:
    model, tokenizer = loaded
    task = lab.load_task(TASK, n_items=12)
    found = greedy_answers(model, tokenizer, task)
    assert 0 < found.sum() < 12  # both kinds occur
    for own, item in zip(found, task.items.itertuples(), strict=True):
        whole = tokenizer(f"{item.prompt} {item.choices[item.gold]}")["input_ids"]
        start = tokenizer(item.prompt)["input_ids"]
        assert whole[: len(start)] == start
        n_new = len(whole) - len(start)
        ids = torch.tensor([start])
        written = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=n_new, do_sample=False)
        assert own == float(written[0].tolist() == whole)


def test_long_prompts_lose_their_beginning_as_where_choices_are_scored(loaded) -> None:
    model, tokenizer = loaded
    task = lab.load_task(TASK, n_items=3)
    long = task.items.assign(
        prompt=task.items["prompt"].map(lambda prompt: 400 * "the man is in the house . " + prompt)
    )
    found = greedy_answers(model, tokenizer, dataclasses.replace(task, items=long))
    assert found.shape == (3,) and set(found) <= {0.0, 1.0}


def test_copying_reads_the_second_time_alone(loaded, tokens) -> None:
    model, half = loaded[0], tokens[:, :6]
    found = copying_losses(model, half, batch_size=1)
    assert found.tolist() == pytest.approx(copying_losses(model, half).tolist(), abs=1e-5)
    for own, ids in zip(found, half, strict=True):
        twice = torch.cat([ids, ids])
        with torch.no_grad():
            logs = model(input_ids=twice[None]).logits[0].double().log_softmax(-1)
        literal = -sum(logs[place - 1, twice[place]].item() for place in range(6, 12)) / 6
        assert own == pytest.approx(literal, abs=1e-5)


def test_profiles_are_the_harm_of_each_block(loaded, tokens) -> None:
    model, tokenizer = loaded
    profiles = importance_profiles(model, tokenizer, tokens, lab.load_task(TASK, n_items=6))
    assert set(profiles["block"]) == set(range(6)) and profiles["yardstick"].nunique() == 4
    smaller = lab.drop_blocks(model, blocks=[4]).model
    own = profiles[(profiles["yardstick"] == "loss") & (profiles["block"] == 4)]["value"]
    expected = lab.sequence_losses(smaller, tokens) - lab.sequence_losses(model, tokens)
    assert own.tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    task = lab.load_task(TASK, n_items=6)
    lost = profiles[(profiles["yardstick"] == "choices") & (profiles["block"] == 0)]["value"].sum()
    right = [
        lab.score_task(each, tokenizer, task)["correct"].sum()
        for each in (model, lab.drop_blocks(model, blocks=[0]).model)
    ]
    assert lost == right[0] - right[1]
    assert profiles.groupby("yardstick")["items"].first().to_dict() == ITEMS


def test_correlations_of_profiles_that_agree_oppose_and_say_nothing() -> None:
    generator = np.random.default_rng(0)
    rows = []
    for name, values in (("up", range(6)), ("down", range(6, 0, -1)), ("noise", [0] * 6)):
        for block, value in enumerate(values):
            noise = generator.normal(size=40) * (5.0 if name == "noise" else 0.1)
            own = pd.DataFrame({"yardstick": name, "block": block, "item": range(40), "value": value + noise})
            rows.append(own.assign(items="questions" if name == "noise" else "windows"))
    found = profile_correlations(pd.concat(rows), n_resamples=200).set_index(["first", "second"])
    assert found.loc[("up", "down"), "estimate"] == pytest.approx(-1) == found.loc[("up", "down"), "high"]
    assert found.loc[("up", "up"), "estimate"] == pytest.approx(1)  # two halves agree
    low, high = found.loc[("up", "noise"), ["low", "high"]]
    assert low < 0 < high
    assert found.loc[("up", "down"), "ceiling"] == pytest.approx(1)
    assert found.loc[("up", "noise"), "ceiling"] == pytest.approx(found.loc[("noise", "noise"), "estimate"] ** 0.5)


def test_reliability_is_that_of_all_items_and_common_items_are_drawn_together() -> None:
    generator = np.random.default_rng(1)
    blocks, n = 400, 12
    truth, frames = generator.normal(size=blocks), []
    shared = generator.normal(size=(n, blocks)) * 4
    for name, noise, items in (
        ("a", shared, "questions"), ("b", shared, "questions"), ("c", generator.normal(size=(n, blocks)) * 4, "windows")
    ):  # fmt: skip
        table = pd.DataFrame(truth + noise).rename_axis("item").reset_index().melt("item", var_name="block")
        frames.append(table.assign(yardstick=name, items=items))
    found = profile_correlations(pd.concat(frames), n_resamples=200).set_index(["first", "second"])
    # the variance of the truth is 1, of a mean's error 16 / 12: all items give 0.43, half of them 0.27
    assert 0.36 < found.loc[("a", "a"), "estimate"] < 0.52
    one = found.loc[("a", "b")]
    assert one["estimate"] == one["low"] == one["high"] == pytest.approx(1)  # the same items in every resample
    assert one["ceiling"] < 1 and found.loc[("a", "c"), "high"] - found.loc[("a", "c"), "low"] > 0.05


def test_deep_minus_shallow_leaves_out_both_ends() -> None:
    rows = [
        pd.DataFrame({"yardstick": "loss", "block": block, "item": [0, 1], "value": [value, value + 1.0]})
        for block, value in enumerate([100.0, 1.0, 2.0, 7.0, 4.0, -50.0])
    ]
    found = deep_minus_shallow(pd.concat(rows))
    assert found["value"].tolist() == [4.0, 4.0] and set(found["contrast"]) == {"loss"}


def test_a_yardstick_that_hangs_on_a_few_items_has_no_correlation_and_no_worst_block() -> None:
    """One answer of 100 differs for one block: in a third of the resamples it is not there, and no other tells."""
    generator, frames = np.random.default_rng(0), []
    for name, number, harm in (("loss", None, 3), ("one answer", 1, 1), ("answers", 12, 1), ("helped", 12, -1)):
        values = generator.normal(size=(100, 5)) if number is None else np.zeros((100, 5))
        values[:number, 2] = harm
        table = pd.DataFrame(values).rename_axis("item").reset_index().melt("item", var_name="block")
        frames.append(table.assign(yardstick=name, items="windows" if number is None else "questions"))
    profiles = pd.concat(frames, ignore_index=True)
    found = profile_correlations(profiles, n_resamples=400).set_index(["first", "second"])
    assert found.loc[("loss", "one answer"), ["estimate", "low", "high"]].isna().all()
    assert np.isnan(found.loc[("one answer", "one answer"), "estimate"])
    assert found.loc[("loss", "answers"), ["estimate", "low", "high"]].notna().all()
    assert worst_blocks(profiles) == {"loss": 2, "answers": 2}
