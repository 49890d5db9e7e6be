"""The study of smaller models: equal sizes, rows, what cannot be expressed, answers, neighbours, times."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from architectures import ARCHITECTURES, Architecture

import labutils as lab
from labutils.models.structure import find_blocks
from labutils.smaller import study
from labutils.smaller.arms import ARMS, attentions_of_two_stages, make_smaller
from labutils.smaller.reading import (
    able_models,
    alike_cells,
    angle_slopes,
    at_most_dropped,
    largest_harmless_share,
    paired_gains,
    relative_losses,
    size_table,
    width_over_depth,
)
from labutils.smaller.study import answers_after_dropping, block_angles, neighbour_cosines, sweep_smaller
from labutils.smaller.timing import relative_times, time_models

TASK = "lab:qa/whereabouts"
QUICK = [arm for arm in ARMS if arm != "Bonsai"]  # which is the arm of 8 masks with more of them


@pytest.mark.parametrize("arm", QUICK)
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
    assert attentions_of_two_stages(30, 0.1, 3.0) == 0  # then the first stage is all


def test_neurons_go_by_parts_of_blocks_too(loaded, tokens) -> None:
    for arm in ("Taylor", "Surgeon, no update"):
        assert make_smaller(arm, loaded[0], tokens, 1.5).removed_share == pytest.approx(0.25, abs=0.005)


def test_rows_pair_and_the_dense_model_is_among_them(loaded) -> None:
    asked = {"n_draws": 2, "n_calibration": 2, "n_items": 3, "seq_len": 16}
    rows, skipped = sweep_smaller(
        "lab-llama", loaded, ["lab:review"], arms=["deepest", "neurons"], n_blocks=[1, 3], **asked
    )
    assert skipped.empty
    with pytest.raises(ValueError, match=r"has 6 blocks, of which 5 cannot go: at least 1 can go, at most 4"):
        sweep_smaller("lab-llama", loaded, ["lab:review"], arms=["deepest"], n_blocks=[1, 5], **asked)
    with pytest.raises(LookupError, match="deepest"):
        sweep_smaller("lab-llama", loaded, ["lab:review"], arms=["deep"], n_blocks=[1], **asked)
    assert len(rows) == 3 + 2 * 2 * 2 * 3 and set(rows["sparsity"]) == {0.0, 1 / 6, 0.5}
    gains = lab.contrast(rows, {"width": ("deepest", "neurons")})
    assert len(gains) == 12
    sizes = rows.groupby(["arm", "sparsity"])["parameters"].first()
    assert sizes["deepest", 0.5] == pytest.approx(sizes["neurons", 0.5], rel=0.01)


def test_times_are_taken_in_turn_and_compared_repeat_by_repeat(loaded) -> None:
    model = loaded[0]
    smaller = lab.drop_blocks(model, blocks=[1, 2, 3, 4]).model
    models = {"dense": model, "less depth": smaller, "less width": model}
    times = time_models(models, batch_sizes=[2], prompt=8, new_tokens=3, repeats=2)
    assert len(times) == 3 * 2 * 2 and (times["milliseconds"] > 0).all()
    beside = relative_times(times).set_index(["phase", "model"])
    for alone in (times[times["model"] == "dense"], times[times["model"] != "dense"]):
        with pytest.raises(LookupError, match="dense"):
            relative_times(alone)
    one = times[times["phase"] == "prefill"].pivot(index="repeat", columns="model", values="milliseconds")
    halves = (one["less depth"] / one["dense"]).quantile([0.5, 0.25, 0.75])
    assert beside.loc[("prefill", "less depth"), ["ratio", "low", "high"]].tolist() == pytest.approx(halves.tolist())
    frame = width_over_depth(times.assign(of="lab-llama", sparsity=0.5), phase="decoding", batch=2)
    own = times[(times["phase"] == "decoding") & (times["repeat"] == 1)].set_index("model")["milliseconds"]
    assert frame["value"].iloc[1] == pytest.approx(math.log(own["less width"] / own["less depth"]))
    sizes = size_table(models).set_index("model")
    assert sizes.loc["less depth", "parameters"] < sizes.loc["dense", "parameters"]
    assert sizes.loc["dense", "MB in files"] == pytest.approx(sizes.loc["dense", "MB of weights"], rel=0.02)


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


def test_neighbours_are_blocks_and_angles_are_means_of_angles(loaded) -> None:
    model, tokenizer = loaded
    asked = {"n_calibration": 2, "seq_len": 16}
    cosines = neighbour_cosines("lab-llama", loaded, "lab:review", **asked)
    assert sorted(set(cosines["block"])) == [1, 2, 3, 4, 5]  # what enters block 0 is no block's output
    tokens = lab.load_tokens("lab:review", tokenizer, n_sequences=2, seq_len=16, seed=0)
    put_out: list[torch.Tensor] = []
    hooks = [block.register_forward_hook(lambda _, args, out: put_out.append(out)) for block in find_blocks(model)[1]]
    with torch.no_grad():
        model(input_ids=tokens)
    for hook in hooks:
        hook.remove()
    near = torch.nn.functional.cosine_similarity(put_out[2], put_out[3], dim=-1).mean(dim=1)
    assert cosines[cosines["block"] == 3]["neighbours"].tolist() == pytest.approx(near.tolist(), abs=1e-5)
    assert (cosines["value"] == cosines["neighbours"] - cosines["random"]).all()
    angles = block_angles("lab-llama", loaded, "lab:review", **asked)
    assert len(angles) == 2 * 6
    literal = torch.nn.functional.cosine_similarity(put_out[2][:, -1], put_out[3][:, -1], dim=-1).arccos() / math.pi
    assert angles[angles["block"] == 3]["angle"].tolist() == pytest.approx(literal.tolist(), abs=1e-5)


def test_slopes_of_angles_and_their_intervals() -> None:
    made = pd.DataFrame({"model": "m", "block": [0, 1, 2] * 2, "item": [0] * 3 + [1] * 3})
    found = angle_slopes(made.assign(angle=[0.5, 0.25, 0.0, 0.4, 0.25, 0.1]))
    assert found["estimate"].item() == pytest.approx(-0.4)  # of sequences that fall by 0.5 and by 0.3
    assert found["low"].item() < -0.4 < found["high"].item()
    found = angle_slopes(made.assign(angle=[9.0, 0.25, 0.0, 9.0, 0.25, 0.0]), first=1)
    assert found["estimate"].item() == pytest.approx(-0.5)


def test_every_model_counts_with_its_own_largest_share() -> None:
    made = [made_answers([1.0], [1.0], share).assign(model=model) for model, share in
            (("six", 1 / 6), ("six", 0.5), ("five", 0.2), ("five", 0.4))]  # fmt: skip
    assert sorted(at_most_dropped(pd.concat(made))["sparsity"]) == [0.4, 0.5]


def made_losses(arm: str, losses: list[float], sparsity: float, model: str = "m") -> pd.DataFrame:
    about = {"model": model, "calibration": "c", "evaluation": "t", "draw": 0, "sparsity": sparsity}
    return pd.DataFrame({"item": range(len(losses)), "loss": losses}).assign(**about, arm=arm, method=arm)


def test_losses_relative_to_the_dense_model_and_what_is_alike() -> None:
    rows = pd.concat([made_losses("dense", [1.0, 3.0], 0.0), made_losses("a", [1.1, 3.3], 0.5)])
    assert relative_losses(rows, "a")["value"].tolist() == pytest.approx([-0.05, -0.15])
    made = [made_answers([0.0] * 30, [0.0] * 30, share) for share in (0.2, 0.4)]
    frame = pd.concat([made[0].assign(value=0.001), made[1].assign(value=0.5)])
    found = alike_cells(frame, {"m": 2.0})
    assert found["alike"].tolist() == [True, False] and found["estimate"].tolist() == pytest.approx([0.001, 0.5])


def test_arms_that_a_model_cannot_express_leave_the_other_models_pairs() -> None:
    rows = pd.concat([
        made_losses(arm, [loss], share, model)
        for model, arms in (("one", {"a": 3.0, "b": 1.0, "c": 2.0}), ("two", {"a": 2.0, "c": 1.5}))
        for arm, loss in arms.items()
        for share in (0.2, 0.4)
    ])  # fmt: skip
    rows = pd.concat([rows, made_losses("b", [1.0], 0.2, "two")])  # at one of two sizes only
    found = paired_gains(rows, {"ab": ("a", "b"), "ac": ("a", "c")})
    assert found.groupby(["model", "contrast"])["value"].agg(list).to_dict() == {
        ("one", "ab"): [2.0, 2.0], ("one", "ac"): [1.0, 1.0], ("two", "ac"): [0.5, 0.5],
    }  # fmt: skip
    assert paired_gains(rows, {"none": ("a", "d")}).empty


@pytest.mark.parametrize("name", ["mistral", "phi3"])
def test_what_an_architecture_cannot_express_is_refused_by_its_arm_and_every_other_arm_runs(name) -> None:
    base = ARCHITECTURES[name]
    model = Architecture(base.model, base.config, {**base.options, "num_hidden_layers": 4}).build()
    tokens = torch.randint(3, 60, (3, 8), generator=torch.Generator().manual_seed(3))
    refused = {}
    for arm in QUICK:
        try:
            assert lab.sequence_losses(make_smaller(arm, model, tokens, 1).model, tokens).isfinite().all()
        except LookupError as error:
            refused[arm] = str(error)
    assert set(refused) == {"FLAP", "FLAP, no z-scores", "FLAP, uniform", "FLAP, EvoPress"}
    assert all("mlp_bias" in reason for reason in refused.values())
    with pytest.raises(LookupError, match="a run of 3 of 4 blocks has no two blocks before it"):
        make_smaller("LaCo", model, tokens, 3)


def test_a_sweep_tells_what_it_skips_and_keeps_what_is_finished(loaded, monkeypatch, tmp_path) -> None:
    base = ARCHITECTURES["mistral"]
    options = {**base.options, "num_hidden_layers": 3, "vocab_size": len(loaded[1])}
    model = Architecture(base.model, base.config, options).build()
    monkeypatch.setenv("LABUTILS_RUN_FOLDER", str(tmp_path))
    asked = {"n_blocks": [1], "n_draws": 1, "n_calibration": 2, "n_items": 3, "seq_len": 16}
    asked["arms"] = ["FLAP", "deepest"]
    rows, skipped = sweep_smaller("tiny", (model, loaded[1]), ["lab:review"], **asked)
    assert set(rows["arm"]) == {"dense", "deepest"} and skipped["arm"].tolist() == ["FLAP"]
    assert "mlp_bias" in skipped["skipped"].item() and skipped["sparsity"].item() == pytest.approx(1 / 3)
    monkeypatch.setattr(study, "make_smaller", None)  # nothing is made a second time
    again, told = sweep_smaller("tiny", (model, loaded[1]), ["lab:review"], **asked)
    pd.testing.assert_frame_equal(again, rows)
    pd.testing.assert_frame_equal(told, skipped)


def test_the_mean_over_the_least_takes_the_strongest_rival_at_each_sparsity() -> None:
    least = lab.stats.mean_over_least(2)
    # rivals a and b at two sparsities: the gains over a are 1 and 5, over b 3 and 2
    assert least(np.array([[1.0, 5.0, 3.0, 2.0]])).tolist() == [1.5]
