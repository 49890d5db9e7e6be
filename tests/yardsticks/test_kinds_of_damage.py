"""Arms: how they are written, what they do to a model, and that nothing of it is left."""

import os

import joblib
import pandas as pd
import pytest
import torch
from helpers import word_tokenizer
from torch import nn
from torch.nn import functional
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

from labutils.models.structure import find_blocks
from labutils.runner.finished_runs import FinishedRuns
from labutils.structured import silence_blocks
from labutils.yardsticks.damage import Step, parse_arm, read_damaged, share_of_zeros, silence_deepest, undone
from labutils.yardsticks.divergence import divergence, keep_likeliest
from labutils.yardsticks.reading import Reader, frequency_bins

WORDS = [f"w{number}" for number in range(60)]
TOKENIZER = word_tokenizer(WORDS, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
TOKENS = torch.randint(4, 64, (4, 12), generator=torch.Generator().manual_seed(0))


def losses(model) -> dict[str, pd.DataFrame]:
    with torch.no_grad():
        value = model(input_ids=TOKENS, labels=TOKENS).loss.item()
    return {"texts": pd.DataFrame({"item": [0], "loss": [value]})}


def test_arms_are_steps() -> None:
    assert parse_arm("dense") == []
    assert parse_arm("wanda@0.5") == [Step("wanda", 0.5)]
    assert parse_arm("wanda/2:4") == [Step("wanda", 0.5, "2:4")]
    assert parse_arm("blocks@2") == [Step("blocks", 2.0)]
    assert parse_arm("rtn4+magnitude@0.25") == [Step("rtn4"), Step("magnitude", 0.25)]


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ("wanda", "neither method@sparsity"),
        ("wanda@half", "neither method@sparsity"),
        ("rtn5x", "rtn5"),
        ("rtn4+rtn3", "a pruning and a quantisation"),
        ("wanda@0.5+magnitude@0.5", "a pruning and a quantisation"),
        ("blocks@1+rtn4", "a pruning and a quantisation"),
        ("wanda@0.5+rtn4+rtn4", "a pruning and a quantisation"),
    ],
)
def test_what_is_no_arm_is_refused(arm: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_arm(arm)


def test_every_arm_is_read_in_every_draw_and_undone(tiny_llama) -> None:
    before = {name: tensor.clone() for name, tensor in tiny_llama.state_dict().items()}
    draws = [TOKENS[:2], TOKENS[2:]]
    found = read_damaged(tiny_llama, draws, ["wanda@0.5", "magnitude@0.75", "blocks@1"], losses)["texts"]
    assert sorted(zip(found["arm"], found["draw"], strict=True)) == [
        ("blocks@1", 0), ("blocks@1", 1), ("dense", -1), ("magnitude@0.75", 0), ("magnitude@0.75", 1),
        ("wanda@0.5", 0), ("wanda@0.5", 1),
    ]  # fmt: skip
    values = found.set_index(["arm", "draw"])["loss"]
    assert values[("wanda@0.5", 0)] != values[("wanda@0.5", 1)]
    assert values[("magnitude@0.75", 0)] == values[("magnitude@0.75", 1)] != values[("dense", -1)]
    zeros = found.groupby("arm")["zeros"].first()
    assert zeros["wanda@0.5"] == pytest.approx(0.5) and zeros["magnitude@0.75"] == pytest.approx(0.75)
    assert zeros["blocks@1"] == pytest.approx(1 / 3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in tiny_llama.state_dict().items())


def losses_and_process(model) -> dict[str, pd.DataFrame]:
    return {"texts": losses(model)["texts"].assign(process=os.getpid())}


def test_arms_read_in_several_processes_are_those_of_one(tiny_llama, tmp_path, monkeypatch) -> None:
    draws, arms, kept = [TOKENS[:2], TOKENS[2:]], ["wanda@0.5", "magnitude@0.75"], FinishedRuns(tmp_path, 1)
    alone = read_damaged(tiny_llama, draws, arms, losses_and_process)["texts"]
    with joblib.parallel_config(n_jobs=2):
        together = read_damaged(tiny_llama, draws, arms, losses_and_process, kept=kept)["texts"]
    assert set(alone["process"]) == {os.getpid()}
    assert set(together["process"][together["arm"] == "dense"]) == {os.getpid()}
    assert os.getpid() not in set(together["process"][together["arm"] != "dense"])
    pd.testing.assert_frame_equal(together.drop(columns="process"), alone.drop(columns="process"))
    monkeypatch.setattr("labutils.yardsticks.damage._apply", lambda *_: pytest.fail("damaged again"))
    again = read_damaged(tiny_llama, draws, arms, losses_and_process, kept=kept)["texts"]
    pd.testing.assert_frame_equal(again, together)


def test_a_reader_that_knows_the_dense_model_reads_in_several_processes(tiny_llama) -> None:
    frames = []
    for n_jobs in (1, 2):
        reader = Reader(TOKENIZER, questions(), tokens=TOKENS, max_new_tokens=2)
        otherwise = {"magnitude@0.5": reader.read_texts}
        with joblib.parallel_config(n_jobs=n_jobs):
            frames.append(
                read_damaged(tiny_llama, [TOKENS], ["wanda@0.5", "magnitude@0.5"], reader, otherwise=otherwise)
            )
    assert set(frames[0]) == {"questions", "texts"} and (frames[0]["texts"]["kl"] > 0).any()
    for name, frame in frames[0].items():
        pd.testing.assert_frame_equal(frames[1][name], frame, rtol=1e-4)


def test_threads_are_refused_before_anything_is_read(tiny_llama) -> None:
    with joblib.parallel_config("threading", n_jobs=2), pytest.raises(ValueError, match="use processes"):
        read_damaged(tiny_llama, [TOKENS], ["wanda@0.5"], lambda _: pytest.fail("read"))


def test_an_error_leaves_the_model_as_it_was(tiny_llama) -> None:
    before = share_of_zeros(tiny_llama)

    def failing(model) -> dict:
        if share_of_zeros(model) > 0.4:
            raise RuntimeError("no reading")
        return losses(model)

    with pytest.raises(RuntimeError, match="no reading"):
        read_damaged(tiny_llama, [TOKENS], ["wanda@0.5"], failing)
    assert share_of_zeros(tiny_llama) == before
    with pytest.raises(ValueError, match="one calibration draw"):
        read_damaged(tiny_llama, [], ["wanda@0.5"], losses)


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_gpt2", "tiny_opt"])
def test_silent_blocks_are_as_if_they_were_not_there(name: str, request) -> None:
    model = request.getfixturevalue(name)
    blocks = find_blocks(model)[1]
    with undone(model):
        silence_deepest(model, TOKENS[:1], 1)
        with torch.no_grad():
            silent = model(input_ids=TOKENS, use_cache=False).logits
    middle = blocks[1]
    del blocks[1]
    config, key = model.config, "num_hidden_layers"
    setattr(config, config.attribute_map.get(key, key), 2)
    with torch.no_grad():
        assert torch.allclose(model(input_ids=TOKENS, use_cache=False).logits, silent, atol=1e-6)
    blocks.insert(1, middle)


def small_experts() -> Qwen3MoeForCausalLM:
    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        vocab_size=64, hidden_size=16, intermediate_size=24, moe_intermediate_size=8, num_hidden_layers=3,
        num_attention_heads=2, num_key_value_heads=2, head_dim=8, num_experts=4, num_experts_per_tok=2,
        max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    return Qwen3MoeForCausalLM(config).eval()


def test_a_silent_mixture_of_experts_passes_on_what_it_reads() -> None:
    model = small_experts()
    streams = []
    hooks = [block.register_forward_hook(lambda _, given, out: streams.append((given[0], out)))
             for block in find_blocks(model)[1]]  # fmt: skip
    silence_blocks(model, [1])
    streams.clear()
    with torch.no_grad():
        model(input_ids=TOKENS, use_cache=False)
    outs = [out[0] if isinstance(out, tuple) else out for _, out in streams]
    assert torch.equal(outs[1], streams[1][0]) and not torch.equal(outs[0], streams[0][0])
    for hook in hooks:
        hook.remove()
    silence_deepest(model, TOKENS[:1], 1)  # the same block by the rule of the deepest


class Normalising(nn.Module):
    """A block that normalises what it gives, whatever is in it."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, hidden_states: torch.Tensor, *args: object, **options: object) -> torch.Tensor:
        return functional.layer_norm(self.inner(hidden_states, *args, **options), hidden_states.shape[-1:])


def test_blocks_that_change_what_they_get_even_so_are_refused_and_left_as_they_were(tiny_llama) -> None:
    blocks = find_blocks(tiny_llama)[1]
    for place, block in enumerate(list(blocks)):
        blocks[place] = Normalising(block)
    before = {name: tensor.clone() for name, tensor in tiny_llama.state_dict().items()}
    with pytest.raises(ValueError, match="change what they get even without weights"):
        silence_blocks(tiny_llama, [1])
    assert all(torch.equal(tensor, before[name]) for name, tensor in tiny_llama.state_dict().items())
    with pytest.raises(ValueError, match="there is no block 3; the model has 0 to 2"):
        silence_blocks(tiny_llama, [0, 3])


def test_arms_that_a_model_cannot_have_are_refused_before_anything_is_read(tiny_llama) -> None:
    def never(model) -> dict:
        raise AssertionError("read")

    with pytest.raises(ValueError, match="arm 'blocks@3': 3 of 3 blocks cannot be left out"):
        read_damaged(tiny_llama, [TOKENS], ["wanda@0.5", "blocks@3"], never)
    with pytest.raises(ValueError, match="arm 'Q4_0.wanda@0.5': .*Q4_0 needs rows of whole groups of 32"):
        read_damaged(tiny_llama, [TOKENS], ["wanda@0.5", "Q4_0+wanda@0.5"], never)


@pytest.mark.parametrize("most", [64, 8])
def test_the_divergence_is_exact_with_all_words_and_a_lower_bound_without(most: int) -> None:
    generator = torch.Generator().manual_seed(0)
    dense, pruned = ((3 * torch.randn(20, 64, generator=generator)).log_softmax(-1) for _ in range(2))
    exact = (dense.exp() * (dense - pruned)).sum(-1)
    kept = keep_likeliest(dense, most)
    assert kept.logs.shape == (20, most)
    found = divergence(kept, pruned)
    assert (found <= exact + 1e-5).all() and (found > 0.5 * exact).all()
    if most == 64:
        assert torch.allclose(found.float(), exact, atol=1e-5)
    assert divergence(kept, dense).max() < 1e-9


def test_the_last_block_stays(tiny_llama) -> None:
    for n in (3, -1):
        with pytest.raises(ValueError, match="cannot be left out while the last stays; give 0 to 2"):
            silence_deepest(tiny_llama, TOKENS[:1], n)


def questions() -> pd.DataFrame:
    rows = [
        {"item": n, "task": "t", "prompt": f"w{n} w2", "context": f"w9 w{n} w2", "choices": ["w5", "w6"], "gold": n % 2}
        for n in range(6)
    ]
    return pd.DataFrame(rows)


def test_a_reader_reads_every_yardstick_and_what_is_dense_diverges_from_nothing(tiny_llama) -> None:
    bins = frequency_bins(TOKENS, 64, TOKENS, n_bins=3)
    reader = Reader(TOKENIZER, questions(), tokens=TOKENS, bins=bins, max_new_tokens=3)
    found = read_damaged(tiny_llama, [TOKENS], ["wanda@0.75"], reader)
    rows, texts, words = found["questions"], found["texts"], found["words"]
    assert rows[["choice", "answer", "exact", "first_token", "answer_in_context"]].isin([0.0, 1.0]).all(axis=None)
    assert (rows["chance"] == 0.5).all() and len(rows) == 12
    assert (texts.loc[texts["arm"] == "dense", "kl"] < 1e-6).all()
    assert (texts.loc[texts["arm"] != "dense", "kl"] > 1e-3).all()
    again = words.groupby(["arm", "item"])[["loss", "count"]].sum()
    assert (again["loss"] / again["count"]).to_numpy() == pytest.approx(
        texts.set_index(["arm", "item"]).loc[again.index, "loss"].to_numpy(), rel=1e-5
    )


def test_bins_of_frequency_hold_about_equally_many_tokens_and_the_rare_come_first() -> None:
    reference = torch.tensor([[1] * 8 + [2] * 4 + [3] * 2 + [4] * 1 + [5]])
    evaluated = torch.tensor([[0, 1, 1, 2, 3, 4, 9, 9, 1, 1, 1, 1, 2, 2, 3, 1]])
    bins = frequency_bins(reference, 10, evaluated, n_bins=3)
    assert bins[9] == 0 and bins[1] == bins.max()
    assert list(bins[[9, 4, 3, 2, 1]]) == sorted(bins[[9, 4, 3, 2, 1]])
