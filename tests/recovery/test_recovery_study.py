"""The sweep of recoveries: arms and their refusals, the same rows after a kill, zeros kept in every arm."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from helpers import write_jsonl
from transformers import LlamaConfig, LlamaForCausalLM

import labutils as lab
from labutils.recovery import (
    RecoverySizes,
    load_readings,
    own_reading,
    pool_tasks,
    recovery_sweep,
    task_mask_sweep,
    try_rates,
)
from labutils.recovery import study as study_module
from labutils.recovery.stages import parse_arm
from labutils.recovery.task_masks import own_gain_over_tasks, own_mask_gain

pytest.importorskip("peft")
ARMS = [
    "wanda", "wanda → lora", "wanda → norms", "wanda → all/logits@own", "wanda → reestimate", "wanda@own",
    "blocks → lora", "penalty → neurons", "neurons → all", "movement", "gradual", "lora@other",
]  # fmt: skip
RATES = dict.fromkeys(["lora", "norms", "all/logits", "all", "penalty", "movement", "gradual"], 1e-3)
SIZES = RecoverySizes(n_calibration=2, n_training=4, seq_len=16, steps=2, batch_size=2, rank=2, prompt_len=4)


@pytest.fixture(scope="module")
def loaded():
    """A tiny random model that reads what the lab models read."""
    _, tokenizer = lab.load_model("lab-llama")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2,
        max_position_embeddings=256, tie_word_embeddings=True, initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval(), tokenizer


@pytest.fixture(scope="module")
def asked(loaded, tmp_path_factory) -> dict:
    model, tokenizer = loaded
    texts = lab.load_texts("lab:review", n=80)
    review = write_jsonl(tmp_path_factory.mktemp("texts") / "review.jsonl", [{"text": text} for text in texts])
    sizes = {"n_items": 3, "n_task_items": 4, "seq_len": 16}
    readings = load_readings([review], ["lab:qa/birthplaces"], tokenizer, **sizes)
    readings.append(own_reading(model, readings[0].tokens, prompt_len=4))
    other = [lab.load_tokens(review, tokenizer, n_sequences=4, seq_len=16, seed=7 + draw) for draw in (0, 1)]
    return {
        "arms": ARMS, "sparsities": [0.5], "draws": [0, 1], "text": review, "readings": readings, "rates": RATES,
        "sizes": SIZES, "pools": {"other": other}, "loaded": loaded,
    }  # fmt: skip


def without_times(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.drop(columns="seconds").reset_index(drop=True)


def test_a_killed_sweep_goes_on_to_the_same_rows(asked: dict, tmp_path: Path, monkeypatch) -> None:
    asked = {**asked, "draws": [1]}
    whole = recovery_sweep("lab-llama", **asked)
    done, plain = [], study_module._Draw.carry_out

    def counted(self, stages, sparsity):
        if len(done) == 7:
            raise KeyboardInterrupt
        done.append(stages)
        return plain(self, stages, sparsity)

    monkeypatch.setattr(study_module._Draw, "carry_out", counted)
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
    assert arms.loc[("wanda → norms", 1), "trained"] == 7 * 16
    assert arms.loc[("wanda → lora", 1), "seconds"] > arms.loc[("wanda", 1), "seconds"] > 0
    gain = lab.contrast(rows, {"lora": ("wanda", "wanda → lora")})
    assert len(gain) == 10 and gain["value"].abs().sum() > 0


BAD = [
    ({"arms": ["wanda → wanda"]}, ValueError, "prunes twice"),
    ({"arms": ["wanda → loar"]}, LookupError, "loar"),
    ({"arms": ["wanda → lora/logit"]}, LookupError, "no goal"),
    ({"arms": ["penalty → wanda"]}, ValueError, "stands before the neurons"),
    ({"arms": ["wanda → lora@elsewhere"]}, LookupError, "no pool 'elsewhere'"),
    ({"arms": ["wanda → head"]}, LookupError, "no learning rate for 'head'"),
    ({"arms": ["wanda → lora@other"], "draws": [0, 2]}, ValueError, "has 2 draws, draw 2"),
    ({"arms": []}, ValueError, "lists of arms"),
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
    assert [s.rated for s in stages] == [None, "biases+norms+lora/logits"]
    assert [s.rated for s in parse_arm("movement")] == ["movement"]
    assert [s.rated for s in parse_arm("wanda+obs → reestimate")] == [None, None]


def test_the_best_rate_is_chosen_on_other_text(asked: dict) -> None:
    tried = try_rates(
        "lab-llama", arms=["wanda → norms", "wanda → norms@own", "wanda → lora"], sparsity=0.5, text=asked["text"],
        rates=[1e-3, 1e30], n_items=3, sizes=SIZES, loaded=asked["loaded"],
    )  # fmt: skip
    assert len(tried) == 4 and lab.recovery.chosen_rates(tried) == {"norms": 1e-3, "lora": 1e-3}
    assert tried.loc[tried["rate"] == 1e30, "loss"].isna().all()
    given = {"arms": ["wanda → norms"], "sparsity": 0.5, "text": asked["text"], "n_items": 3, "sizes": SIZES}
    with pytest.raises(ValueError, match="diverges at every rate"):
        try_rates("lab-llama", **given, rates=[1e30, 1e31], loaded=asked["loaded"])
    alone = try_rates("lab-llama", **given, rates=[1e-2], loaded=asked["loaded"])
    assert lab.recovery.chosen_rates(alone) == {"norms": 1e-2} and alone["loss"].isna().all()


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
