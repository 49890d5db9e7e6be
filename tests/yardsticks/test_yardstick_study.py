"""The plan of arms, the study on a small model from end to end, and the sentences that tell it."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

import labutils as lab
from labutils.yardsticks import ArmPlan, damage, load_asked, read_copies
from labutils.yardsticks.damage import parse_arm
from labutils.yardsticks.lengths import length_changes, lengthening
from labutils.yardsticks.sentences import (
    tell_blocks,
    tell_kept,
    tell_lengths,
    tell_orders,
    tell_predictors,
    tell_recognition,
    tell_rise,
    tell_words,
)

PLAN = ArmPlan(["wanda", "magnitude"], [0.25, 0.6], "2:4", ["rtn4", "Q8_0"], "wanda", [0.3], ["rtn4"], [1, 2])


def test_a_plan_holds_every_arm_once_and_each_can_be_read() -> None:
    assert PLAN.share == 0.5
    assert PLAN.pruned["wanda"] == ["wanda@0.25", "wanda@0.5", "wanda@0.6"]
    assert PLAN.at_share == ["wanda@0.5", "magnitude@0.5"] and PLAN.patterned == ["wanda/2:4", "magnitude/2:4"]
    assert PLAN.ordered == [
        "magnitude@0.3", "wanda@0.3", "rtn4", "magnitude@0.3+rtn4", "rtn4+magnitude@0.3", "wanda@0.3+rtn4",
        "rtn4+wanda@0.3",
    ]  # fmt: skip
    assert PLAN.texts_only == [arm for arm in PLAN.ordered if arm != "rtn4"]
    assert PLAN.combined == ["wanda@0.5+rtn4", "wanda@0.5+Q8_0"]
    assert PLAN.shortened == {1: "blocks@1", 2: "blocks@2"}
    assert set(PLAN.equal_bits) == {"rtn4", "Q8_0"}
    assert len(PLAN.every) == len(set(PLAN.every)) == 6 + 2 + 2 + 2 + 2 + 2 + 6
    assert sorted(PLAN.every) == sorted([*PLAN.asked, *PLAN.texts_only])
    assert all(parse_arm(arm) for arm in PLAN.every)
    assert PLAN.amounts()["magnitude@0.6"] == 0.6
    assert not any(arm.startswith("blocks") or "/" in arm for arm in PLAN.sized)


SIZES = {"n_draws": 2, "n_calibration": 4, "n_texts": 2, "n_openings": 3, "seq_len": 32, "n_bins": 2}
TEXTS = ["lab:encyclopedic", "lab:review"]


def read(copies: list, folder: Path | None = None, arms: Sequence[str] = ("wanda@0.5", "rtn3", "magnitude@0.5")):
    reasoning = [lab.load_task("lab:inference/denial", n_items=4)]
    told = {"calibration": "lab:review", "texts": TEXTS, "reasoning": reasoning, **SIZES}
    return read_copies(copies, arms, texts_only=["magnitude@0.5"], folder=folder, **told)


@pytest.fixture(scope="module")
def copies() -> list:
    return load_asked("lab-llama", [lab.load_task("lab:qa/birthplaces", n_items=6)])


@pytest.fixture(scope="module")
def kept_folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("readings")


@pytest.fixture(scope="module")
def frames(copies, kept_folder) -> dict[str, pd.DataFrame]:
    return read(copies, kept_folder)


def test_finished_arms_are_found_again_and_a_missing_one_is_read_as_before(
    frames, copies, kept_folder, monkeypatch
) -> None:
    carried_out = []
    apply = damage._apply

    def counting(model, tokens, steps) -> None:
        carried_out.append(steps[0].name)
        apply(model, tokens, steps)

    monkeypatch.setattr(damage, "_apply", counting)
    again = read(copies, kept_folder)
    assert not carried_out
    (lost,) = [p for p in (kept_folder / "runs").glob("*.json") if '"rtn3"' in p.read_text()]
    lost.unlink()
    once_more = read(copies, kept_folder)
    assert carried_out == ["rtn3"]
    for name, frame in frames.items():
        pd.testing.assert_frame_equal(again[name], frame)
        pd.testing.assert_frame_equal(once_more[name], frame)


def test_every_frame_has_every_arm_and_draw(frames) -> None:
    assert set(frames) == {"questions", "tasks", "texts", "words", "openings"}
    for name, frame in frames.items():
        readings = set(map(tuple, frame[["arm", "draw"]].drop_duplicates().to_numpy()))
        every = {("dense", -1), ("wanda@0.5", 0), ("wanda@0.5", 1), ("rtn3", 0), ("rtn3", 1)}
        only_texts = {("magnitude@0.5", 0), ("magnitude@0.5", 1)} if name in ("texts", "words") else set()
        assert readings == every | only_texts
    assert frames["texts"].groupby("source")["item"].unique().map(sorted).to_dict() == {
        "lab:encyclopedic": [0, 1], "lab:review": [2, 3],
    }  # fmt: skip
    assert set(frames["words"]["item"]) == {0, 1}
    assert frames["questions"].query("arm == 'dense'")["choice"].mean() > 0.5


def test_a_text_is_read_as_evaluation_reads_it(frames) -> None:
    model, tokenizer = lab.load_model("lab-llama")
    tokens = lab.load_tokens("lab:encyclopedic", tokenizer, n_sequences=2, seq_len=32, split="test")
    dense = frames["texts"].query("arm == 'dense' and source == 'lab:encyclopedic'")["loss"]
    assert dense.tolist() == pytest.approx(lab.sequence_losses(model, tokens).tolist(), rel=1e-4)


def test_lengths_are_differences_to_the_dense_model_on_the_same_openings(frames) -> None:
    table = length_changes(frames["openings"], ["rtn3"]).set_index("measure")
    openings = frames["openings"].set_index(["arm", "draw", "item"])["n_tokens"]
    change = (openings["rtn3"][0] - openings["dense"][-1]).mean()
    assert table.loc["tokens", "estimate"] == pytest.approx(change)


def test_lengthening_is_the_mean_change_and_tells_what_was_cut_off() -> None:
    dense = pd.DataFrame({"item": range(4), "n_tokens": [10, 20, 30, 48], "ended": [True, True, True, False]})
    dense = dense.assign(arm="dense", draw=-1, model="m", repetition=0.0)
    parts = [dense.assign(arm=arm, draw=0, n_tokens=dense["n_tokens"] + more) for arm, more in (("a", 2), ("b", 6))]
    parts[1]["ended"] = [True, False, False, False]
    found = lengthening(pd.concat([dense, *parts]), ["a", "b"])
    assert found.change.estimate == 4 and found.dense_cut == 0.25 and found.cut == 0.5


def test_nothing_to_ask_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing is planted and nothing is asked"):
        load_asked("lab-llama", [])


def test_sentences_count_what_the_tables_hold() -> None:
    orders = pd.DataFrame(
        {
            "weaker": ["pruning", "pruning", "rounding", "rounding"],
            "better": ["pruning first", "rounding first", "rounding first", "no difference"],
        }
    )
    assert "is better in 1 of 4 cases and rounding first in 2; 'the weaker first' is right in 2 of 3" in tell_orders(
        orders
    )
    blocks = pd.DataFrame(
        {"blocks left out": [1, 2], "yardstick": "choice", "low": [-0.005, -0.3], "rise of the loss": [0.1, 0.9]}
    )
    assert tell_blocks(blocks, 6) == (
        "Blocks that may surely go within a point of accuracy: 1 of 6; without 1 the loss rises by 10%."
    )
    gap = pd.DataFrame(
        {"blocks left out": [3, 1, 2], "yardstick": "choice", "low": [0.0, -0.005, -0.2], "rise of the loss": 0.1}
    )
    assert "accuracy: 1 of 6" in tell_blocks(gap, 6)  # three may not go where two may not
    assert "accuracy: 0 of 6" in tell_blocks(gap.assign(low=[0.0, -0.2, 0.0]), 6)
    assert tell_blocks(gap.head(0), 6) == "Choices cannot be judged here."
    lengths = pd.DataFrame({"measure": ["tokens"] * 3, "low": [1.0, -1.0, -3.0], "high": [2.0, 1.0, -1.0]})
    assert "tokens: clearly more in 1, clearly fewer in 1 of 3 arms" in tell_lengths(lengths)
    words = pd.DataFrame({"bin": [0, 1, 2], "estimate": [0.5, 0.2, 0.1], "relative": [0.25, 0.2, 0.05]})
    assert tell_words(words).startswith("the rarest part loses 0.50 nats per token (25% of its dense loss)")
    assert tell_orders(pd.DataFrame()) == "No orders were compared."
    assert tell_recognition(pd.DataFrame()) == "No question is known both ways."
    known = {
        "questions": 10,
        "both": 4,
        "chosen only": 3,
        "said only": 1,
        "neither": 2,
        "luck": 1.25,
        "p_holm": 1.0,
        "near": 0.6,
    }
    assert tell_recognition(pd.DataFrame([known])) == (
        "Of 5 answers no longer said, 3 are still chosen, where guessing would choose 1, or 47% beyond luck; in 0 of 1 "
        "rows that is more than luck (exact, after Holm). Of the answers no longer said, 60% still have their first "
        "token among the five likeliest."
    )


def test_rises_and_losses_are_means_over_arms() -> None:
    texts = pd.DataFrame({"arm": ["dense", "dense", "a", "b"], "loss": [1.0, 3.0, 2.2, 2.4]})
    assert tell_rise(texts, ["a", "b"]) == "the loss of texts rises by 15% (perplexity by 35%)"
    shares = pd.DataFrame({"contrast": ["a", "b", "c"], "yardstick": "answer", "value": [0.1, 0.3, 0.9]})
    assert tell_kept(shares, ["a", "b"]) == "answer 20%"
    assert tell_kept(shares.head(0), ["a"]) == "nothing can be judged"


def test_the_best_predictor_is_named_with_its_gain() -> None:
    found = {"added loss": [0.2, 0.3, 0.4], "flipped choices": [0.1, 0.1, 0.3], "no predictor": [0.5, 0.5, 0.5]}
    errors = pd.DataFrame([(name, kind, e) for name, own in found.items() for kind, e in zip("xyz", own, strict=True)])
    errors.columns = ["predictor", "kind", "error"]
    told = tell_predictors(errors)
    assert "flipped choices 0.17; added loss 0.30; no predictor 0.50" in told
    assert "Best is flipped choices, by +0.133 [−0.010, 0.277] over the added loss, which may be nothing." in told
    floor = errors.assign(error=errors["error"].where(errors["predictor"] != "no predictor", 0.0))
    assert tell_predictors(floor).endswith("None is better than to say the mean of the others.")
    best = errors.assign(error=errors["error"].where(errors["predictor"] != "added loss", 0.01))
    assert tell_predictors(best).endswith("The added loss is the best.")
