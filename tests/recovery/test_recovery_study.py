"""The sweep of recoveries: arms and their refusals, the same rows after a kill, zeros kept in every arm."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import word_tokenizer, write_jsonl
from small_recoveries import ARMS, RECIPES, SIZES
from transformers import LlamaConfig, LlamaForCausalLM

import labutils as lab
from labutils.recovery import (
    Diverged,
    Recipe,
    Recovered,
    descent,
    held_out_reading,
    if_able,
    load_calibrations,
    load_readings,
    pool_tasks,
    recovery_sweep,
    task_mask_sweep,
)
from labutils.recovery import draws as draws_module
from labutils.recovery.clock import Spent
from labutils.recovery.draws import Bench, Draw
from labutils.recovery.stages import parse_arm, way_of
from labutils.recovery.task_masks import own_gain_over_tasks, own_mask_gain
from labutils.stats.bootstrap import Interval
from labutils.training import parts_of_batches

pytest.importorskip("peft")


def without_times(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.drop(columns=["seconds", "wall_seconds"]).reset_index(drop=True)


def test_a_killed_sweep_goes_on_to_the_same_rows(asked: dict, tmp_path: Path, monkeypatch) -> None:
    asked = {**asked, "draws": [1]}
    whole = recovery_sweep("lab-llama", **asked)
    done, plain = [], Draw.carry_out

    def counted(self, stages, sparsity, recipe):
        if len(done) == 7:
            raise KeyboardInterrupt
        done.append(stages)
        return plain(self, stages, sparsity, recipe)

    monkeypatch.setattr(Draw, "carry_out", counted)
    with pytest.raises(KeyboardInterrupt):
        recovery_sweep("lab-llama", **asked, folder=tmp_path)
    done[:] = [None] * 8  # counts on from here, and stops nothing
    resumed = recovery_sweep("lab-llama", **asked, folder=tmp_path)
    assert len(done) - 8 == len(ARMS) - 7
    pd.testing.assert_frame_equal(without_times(resumed), without_times(whole))
    again = recovery_sweep("lab-llama", **asked, folder=tmp_path)
    assert len(done) - 8 == len(ARMS) - 7
    pd.testing.assert_frame_equal(again, resumed)
    more = {**asked, "sizes": replace(SIZES, steps=3), "arms": ["wanda → norms"]}
    recovery_sweep("lab-llama", **more, folder=tmp_path)
    assert len(done) - 8 == len(ARMS) - 7 + 1  # other sizes are other runs
    other_rate = {**more, "recipes": {("wanda → norms", 0.5): Recipe(2e-3)}}
    recovery_sweep("lab-llama", **other_rate, folder=tmp_path)
    assert len(done) - 8 == len(ARMS) - 7 + 2
    check_rows(whole)


def check_rows(rows: pd.DataFrame) -> None:
    tasks = pd.concat([rows.assign(evaluation=rows["evaluation"] + end) for end in ("", " again")])
    pooled = pool_tasks(tasks)
    assert set(pooled["item"]) == set(range(8)) and set(pooled["evaluation"]) == {"tasks"}
    assert len(pooled) == 2 * (rows["unit"] == "accuracy").sum()
    assert set(rows["arm"]) == {"dense", *ARMS}
    assert (rows.groupby(["arm", "draw"]).size() == 3 + 4 + 3).all()
    assert set(rows.loc[rows["unit"] == "accuracy", "loss"]) <= {0.0, 1.0}
    arms = rows.drop_duplicates(["arm", "draw"]).set_index(["arm", "draw"])
    assert arms.loc[("lora@other", 1), "sparsity"] == 0 and arms.loc[("wanda", 1), "sparsity"] == 0.5
    assert (arms.xs(1, level="draw").loc[["wanda → norms", "movement"], "tokens"] == 2 * 2 * 16).all()
    assert arms.loc[("wanda → norms", 1), "trained"] == 9 * 16
    assert (rows.loc[rows["tokens"] > 0, "wall_seconds"] > 0).all()
    assert arms.loc[("wanda → lora", 1), "seconds"] > arms.loc[("wanda", 1), "seconds"] > 0
    gain = lab.contrast(rows, {"lora": ("wanda", "wanda → lora")})
    assert len(gain) == 10 and gain["value"].abs().sum() > 0


def test_a_sweep_killed_in_a_part_of_a_batch_goes_on_to_the_same_rows(asked: dict, tmp_path, monkeypatch) -> None:
    """Every row of a batch by itself: the rows of the sweep are then those of whole batches, but for rounding."""
    arms = ["wanda → lora", "wanda → all/logits@own", "penalty → neurons", "movement"]
    asked, named = {**asked, "draws": [1], "arms": arms}, ["arm", "evaluation", "item"]
    at_once = recovery_sweep("lab-llama", **asked)
    monkeypatch.setattr(parts_of_batches, "KEPT_AT_ONCE", 1)
    whole = recovery_sweep("lab-llama", **asked)
    taken, plain = [], descent.losses_in_parts

    def killed(*given, **more):
        for loss in plain(*given, **more):
            if len(taken) == 9:  # of each arm four rows of two steps, two behind them: the second one is on its way
                raise KeyboardInterrupt
            taken.append(1)
            yield loss

    monkeypatch.setattr(descent, "losses_in_parts", killed)
    monkeypatch.setattr(parts_of_batches, "losses_in_parts", killed)
    with pytest.raises(KeyboardInterrupt):
        recovery_sweep("lab-llama", **asked, folder=tmp_path)
    assert len(list((tmp_path / "runs").glob("*.json"))) == 2  # the dense model and one arm
    monkeypatch.setattr(descent, "losses_in_parts", plain)
    monkeypatch.setattr(parts_of_batches, "losses_in_parts", plain)
    resumed = recovery_sweep("lab-llama", **asked, folder=tmp_path)
    pd.testing.assert_frame_equal(without_times(resumed), without_times(whole))
    in_nats = [rows[rows["unit"] != "accuracy"].set_index(named)["loss"] for rows in (whole, at_once)]
    pd.testing.assert_series_equal(*in_nats, rtol=1e-3)


BAD = [
    ({"arms": ["wanda → wanda"]}, ValueError, "prunes twice"),
    ({"arms": ["wanda → loar"]}, LookupError, "loar"),
    ({"arms": ["wanda → lora/logit"]}, LookupError, "no goal"),
    ({"arms": ["penalty → wanda"]}, ValueError, "stands before the neurons"),
    ({"arms": ["wanda → lora@elsewhere"]}, LookupError, "no pool 'elsewhere'"),
    ({"arms": ["wanda → head"]}, LookupError, "'wanda → head': no learning rate at sparsity 0.5"),
    ({"arms": ["wanda → lora@other"], "draws": [0, 2]}, ValueError, "has 2 draws, draw 2"),
    ({"arms": []}, ValueError, "lists of arms"),
    ({"arms": ["wanda → lora"], "sparsities": [0.6]}, LookupError, "no learning rate at sparsity 0.6"),
    ({"arms": ["blocks"], "sparsities": [0.7]}, ValueError, "count=3 must be from 1 to 2 of 4"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD)
def test_what_cannot_be_done_is_told_beforehand(change: dict, error, message: str, asked: dict) -> None:
    with pytest.raises(error, match=message):
        recovery_sweep("lab-llama", **{**asked, **change})


def test_arms_say_what_they_do() -> None:
    stages = parse_arm("sparsegpt@own → biases+norms+lora/logits@pool")
    assert [(s.kind, s.name, s.goal, s.data) for s in stages] == [
        ("prune", "sparsegpt", "text", "own"), ("train", "biases+norms+lora", "logits", "pool"),
    ]  # fmt: skip
    assert [s.trains for s in stages] == [False, True]
    assert [s.trains for s in parse_arm("movement")] == [True]
    assert [s.trains for s in parse_arm("wanda+obs → reestimate")] == [False, False]
    assert way_of("sparsegpt@own → biases+norms+lora/logits@pool") == "sparsegpt → biases+norms+lora/logits"


def test_one_pruning_is_held_and_serves_the_arms_that_begin_with_it(asked: dict, monkeypatch) -> None:
    calls, plain = [], draws_module.prune
    monkeypatch.setattr(draws_module, "prune", lambda *given, **more: (calls.append(more), plain(*given, **more))[1])
    mixed = ["wanda → norms", "magnitude", "wanda", "magnitude → norms", "wanda → lora"]
    recipes = {**RECIPES, ("magnitude → norms", 0.5): Recipe(1e-3)}
    rows = recovery_sweep("lab-llama", **{**asked, "arms": mixed, "recipes": recipes, "draws": [0]})
    assert [call["method"] for call in calls] == ["magnitude", "wanda"]
    assert list(rows["arm"].unique()) == ["dense", *mixed]


def test_what_calibrates_trains_and_is_held_out_is_apart_in_a_finite_text(asked: dict, tmp_path: Path) -> None:
    """Every document is one window of words that no other document has."""
    words = [f"w{number}" for number in range(400)]
    tokenizer = word_tokenizer(words, bos_token="<s>", eos_token="</s>")
    text = write_jsonl(tmp_path / "apart.jsonl", [{"text": " ".join(words[k : k + 4])} for k in range(0, 400, 4)])
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
    ))  # fmt: skip
    sizes = replace(SIZES, n_calibration=8, n_training=60, seq_len=6)
    draw = Draw(Bench(model, tokenizer, [], text, sizes, {}), 3)
    calibration, training = (draw.sequences("text", training=each)[0] for each in (False, True))
    assert torch.equal(calibration, load_calibrations(text, tokenizer, sizes, [3])[0])
    read = {"seq_len": 6, "seed": 5}
    readings = load_readings([text], [], tokenizer, n_items=9, n_task_items=1, **read)
    held_out = held_out_reading(text, tokenizer, n_read=9, n_items=9, **read)
    pool = lab.sweeps.load_pool([text], tokenizer, n_draws=4, n_sequences=60, seq_len=6, behind=8)[text][3]
    parts = [calibration, training, readings[0].tokens, held_out.tokens]
    seen = [set(part[:, 1:5].flatten().tolist()) for part in parts]
    assert [len(each) for each in seen] == [4 * 8, 4 * 60, 4 * 9, 4 * 9]
    assert len(set.union(*seen)) == sum(map(len, seen))
    assert not seen[0] & set(pool[:, 1:5].flatten().tolist())


def test_a_model_that_cannot_be_read_has_diverged(asked: dict, monkeypatch) -> None:
    def spoilt(model, *given, **more):
        with torch.no_grad():
            model.get_input_embeddings().weight.fill_(float("nan"))
        return Recovered([], Spent(), 1, 8)

    monkeypatch.setattr(draws_module, "recover", spoilt)
    with pytest.raises(Diverged, match="lower the learning rate"):
        recovery_sweep("lab-llama", **{**asked, "arms": ["wanda → norms"], "draws": [0]})


def test_masks_of_tasks_are_kept_and_compared(asked: dict, tmp_path: Path) -> None:
    model, tokenizer = asked["loaded"]
    names = [asked["text"], "lab:qa/birthplaces"]
    sets = {
        name: [lab.load_tokens(asked["text"], tokenizer, n_sequences=2, seq_len=16, seed=d + n) for d in (0, 1)]
        for n, name in enumerate(names)
    }
    given = {"name": "lab-llama", "method": "wanda", "sparsity": 0.5}
    readings = asked["readings"][:2]
    rows, overlaps = task_mask_sweep(model, tokenizer, sets, readings, **given, folder=tmp_path)
    again, _ = task_mask_sweep(model, tokenizer, sets, readings, **given, folder=tmp_path)
    pd.testing.assert_frame_equal(rows, again)
    assert len(rows) == 2 * 2 * (3 + 4) and len(overlaps) == 2
    assert overlaps["overlap"].between(1 / 3, 1, inclusive="neither").all()
    gain = own_mask_gain(rows)
    one = gain.query("evaluation == @names[0] and draw == 0 and item == 1")["value"].item()
    cell = rows.query("evaluation == @names[0] and draw == 0 and item == 1").set_index("calibration")["loss"]
    assert one == pytest.approx(cell[names[1]] - cell[names[0]])
    over = own_gain_over_tasks(rows)
    assert over.estimate == pytest.approx(gain.groupby("evaluation")["value"].mean().mean())
    assert over.note == "over 2 tasks"
    assert over.evidence.recompute() == over
    config = copy.deepcopy(model.config)
    model.config.rope_parameters = {"rope_type": "default", "rope_theta": 5.0}
    before = len(list((tmp_path / "runs").glob("*.json")))
    task_mask_sweep(model, tokenizer, sets, readings, **given, folder=tmp_path)
    model.config = config
    assert len(list((tmp_path / "runs").glob("*.json"))) == 2 * before  # another configuration is another run
    none, no_overlaps = task_mask_sweep(model, tokenizer, {}, readings, **given)
    assert none.empty and no_overlaps.empty and not own_gain_over_tasks(none).defined
    alone = rows[rows["calibration"] == names[0]]
    assert own_mask_gain(alone).empty and own_mask_gain(none).empty and not own_gain_over_tasks(alone).defined


def test_a_guessing_model_is_told(asked: dict) -> None:
    model, tokenizer = asked["loaded"]
    found = lab.recovery.check_dense(model, tokenizer, asked["readings"][:2], name="tiny").set_index("unit")
    text, task = found.loc["nats per token"], found.loc["accuracy"]
    losses = asked["readings"][0].losses(model, tokenizer)
    assert text["value"] == pytest.approx(sum(losses) / 3) and not text["usable"]  # random weights
    assert task["guessing"] == 0.25 and not task["usable"] and 0 <= task["low"] <= task["value"]


def test_two_models_that_guess_are_not_compared() -> None:
    checks = pd.DataFrame({"model": ["one", "two"], "evaluation": "task", "guessing": 0.25})
    interval = Interval.from_samples(0.0, np.linspace(-1, 1, 200), level=0.95, n_items=3)

    def scores(rates: dict[tuple[str, str], float]) -> pd.DataFrame:
        rows = [
            {"model": model, "arm": arm, "evaluation": "task", "item": item, "draw": draw,
             "loss": float(item >= 60 * rate)}
            for (model, arm), rate in rates.items() for item in range(60) for draw in (0, 1)
        ]  # fmt: skip
        return pd.DataFrame(rows)

    good = {("one", "a"): 0.3, ("one", "b"): 0.6, ("two", "a"): 0.5, ("two", "b"): 0.2}
    assert if_able(interval, scores(good), checks, ["a", "b"]) is interval
    floor = if_able(interval, scores({**good, ("one", "b"): 0.32}), checks, ["a", "b"])
    assert not floor.defined and "on one neither of a, b" in floor.note
