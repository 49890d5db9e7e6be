"""The study of smaller models: equal sizes, rows, yardsticks against generation and literal losses, times."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import labutils as lab
from labutils.models.structure import find_blocks
from labutils.smaller.arms import ARMS, attentions_of_two_stages, make_smaller
from labutils.smaller.reading import able_models, angle_slopes, largest_harmless_share, size_table, width_over_depth
from labutils.smaller.study import answers_after_dropping, neighbour_cosines, sweep_smaller
from labutils.smaller.timing import time_models
from labutils.smaller.yardsticks import copying_losses, greedy_answers, importance_profiles, profile_correlations

TASK = "lab:qa/whereabouts"


@pytest.fixture(scope="module")
def loaded() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    return lab.load_model("lab-llama")


@pytest.fixture(scope="module")
def tokens(loaded) -> torch.Tensor:
    return lab.load_tokens("lab:encyclopedic", loaded[1], n_sequences=2, seq_len=24)


@pytest.mark.parametrize("arm", list(ARMS))
def test_every_way_removes_the_parameters_of_so_many_blocks(loaded, tokens, arm) -> None:
    made = make_smaller(arm, loaded[0], tokens, 1)
    assert made.removed_share == pytest.approx(1 / 6, abs=0.005)
    assert lab.sequence_losses(made.model, tokens).isfinite().all()


def test_an_unknown_way_is_answered_with_the_nearest(loaded, tokens) -> None:
    with pytest.raises(LookupError, match="FLAP"):
        make_smaller("FLAPS", loaded[0], tokens, 1)


def test_two_stages_split_as_published() -> None:
    # 30 blocks whose feed-forward part is three times the attention: the exponent is 3 / 1.5
    assert attentions_of_two_stages(30, 0.25, 3.0) == 2 and attentions_of_two_stages(30, 0.5, 3.0) == 8


def test_rows_pair_and_the_dense_model_is_among_them(loaded) -> None:
    rows = sweep_smaller(
        "lab-llama", loaded, ["lab:review"], arms=["deepest", "neurons"], n_blocks=[1, 3], n_draws=2, n_calibration=2,
        n_items=3, seq_len=16,
    )  # fmt: skip
    assert len(rows) == 3 + 2 * 2 * 2 * 3 and set(rows["sparsity"]) == {0.0, 1 / 6, 0.5}
    gains = lab.contrast(rows, {"width": ("deepest", "neurons")})
    assert len(gains) == 12
    sizes = rows.groupby(["arm", "sparsity"])["parameters"].first()
    assert sizes["deepest", 0.5] == pytest.approx(sizes["neurons", 0.5], rel=0.01)


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


def test_copying_reads_the_second_time_alone(loaded, tokens) -> None:
    model, half = loaded[0], tokens[:, :6]
    found = copying_losses(model, half)
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


def test_correlations_of_profiles_that_agree_oppose_and_say_nothing() -> None:
    generator = np.random.default_rng(0)
    rows = []
    for name, values in (("up", range(6)), ("down", range(6, 0, -1)), ("noise", [0] * 6)):
        for block, value in enumerate(values):
            noise = generator.normal(size=40) * (5.0 if name == "noise" else 0.1)
            rows.append(pd.DataFrame({"yardstick": name, "block": block, "item": range(40), "value": value + noise}))
    found = profile_correlations(pd.concat(rows), n_resamples=200).set_index(["first", "second"])
    assert found.loc[("up", "down"), "estimate"] == pytest.approx(-1) == found.loc[("up", "down"), "high"]
    assert found.loc[("up", "up"), "estimate"] == pytest.approx(1)  # two halves agree
    low, high = found.loc[("up", "noise"), ["low", "high"]]
    assert low < 0 < high


def test_times_are_taken_in_turn_and_compared_repeat_by_repeat(loaded) -> None:
    model = loaded[0]
    smaller = lab.drop_blocks(model, blocks=[1, 2, 3, 4]).model
    models = {"dense": model, "less depth": smaller, "less width": model}
    times = time_models(models, batch_sizes=[2], prompt=8, new_tokens=3, repeats=2)
    assert len(times) == 3 * 2 * 2 and (times["milliseconds"] > 0).all()
    frame = width_over_depth(times.assign(of="lab-llama"), phase="decoding", batch=2)
    own = times[(times["phase"] == "decoding") & (times["repeat"] == 1)].set_index("model")["milliseconds"]
    assert frame["value"].iloc[1] == pytest.approx(math.log(own["less width"] / own["less depth"]))
    sizes = size_table(models).set_index("model")
    assert sizes.loc["less depth", "parameters"] < sizes.loc["dense", "parameters"]
    assert sizes.loc["dense", "MB in files"] == pytest.approx(sizes.loc["dense", "MB in memory"], rel=0.02)


def made_answers(correct: list[float], dense: list[float], sparsity: float, chance: float = 0.25) -> pd.DataFrame:
    frame = pd.DataFrame({"item": range(len(correct)), "correct": correct, "dense": dense})
    frame["value"] = frame["correct"] - frame["dense"]
    return frame.assign(model="m", calibration="c", evaluation="t", draw=0, sparsity=sparsity, chance=chance)


def test_models_at_chance_are_left_out_and_shares_need_every_smaller_one() -> None:
    right, wrong = [1.0] * 40, [0.0] * 40
    chance = made_answers(right[:10] + wrong[:30], right[:10] + wrong[:30], 0.2)
    assert able_models(chance).empty and len(able_models(made_answers(right, right, 0.2))) == 40
    steps = [made_answers(right, right, 0.2), made_answers(wrong, right, 0.3), made_answers(right, right, 0.4)]
    assert largest_harmless_share(pd.concat(steps), 0.01) == {"m": 0.2}
    assert largest_harmless_share(pd.concat(steps[1:]), 0.01) == {"m": 0.0}


def test_answers_and_cosines_come_from_the_models_themselves(loaded) -> None:
    model, tokenizer = loaded
    rows = answers_after_dropping(
        "lab-llama", loaded, TASK, "lab:review", method="deepest", n_blocks=[3], n_draws=1, n_calibration=2, n_items=8,
        seq_len=16,
    )  # fmt: skip
    task = lab.load_task(TASK, n_items=8)
    smaller = lab.drop_blocks(model, blocks=[2, 3, 4]).model
    assert rows["correct"].tolist() == lab.score_task(smaller, tokenizer, task)["correct"].astype(float).tolist()
    assert set(rows["chance"]) == {0.25}
    cosines = neighbour_cosines("lab-llama", loaded, "lab:review", n_calibration=2, seq_len=16)
    assert len(cosines) == 2 * len(find_blocks(model)[1])
    made = pd.DataFrame({"model": "m", "block": [0, 1, 2], "neighbours": [0.0, math.cos(math.pi / 4), 1.0]})
    assert angle_slopes(made) == {"m": pytest.approx(-0.5)}  # half of π, a quarter of it, nothing
    assert (cosines["value"] == cosines["neighbours"] - cosines["random"]).all() and cosines["neighbours"].max() <= 1


def test_the_mean_over_the_least_takes_the_strongest_rival_at_each_sparsity() -> None:
    least = lab.stats.mean_over_least(2)
    # rivals a and b at two sparsities: the gains over a are 1 and 5, over b 3 and 2
    assert least(np.array([[1.0, 5.0, 3.0, 2.0]])).tolist() == [1.5]
