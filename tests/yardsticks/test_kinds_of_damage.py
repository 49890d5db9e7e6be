"""Arms: how they are written, what they do to a model, and that nothing of it is left."""

import pandas as pd
import pytest
import torch
from helpers import word_tokenizer

from labutils.models.structure import find_blocks
from labutils.yardsticks.damage import Step, parse_arm, read_damaged, share_of_zeros, silence_blocks, undone
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
        silence_blocks(model, TOKENS[:1], 1)
        with torch.no_grad():
            silent = model(input_ids=TOKENS, use_cache=False).logits
    middle = blocks[1]
    del blocks[1]
    config, key = model.config, "num_hidden_layers"
    setattr(config, config.attribute_map.get(key, key), 2)
    with torch.no_grad():
        assert torch.allclose(model(input_ids=TOKENS, use_cache=False).logits, silent, atol=1e-6)
    blocks.insert(1, middle)


def test_the_last_block_stays(tiny_llama) -> None:
    for n in (3, -1):
        with pytest.raises(ValueError, match="cannot be left out while the last stays; give 0 to 2"):
            silence_blocks(tiny_llama, TOKENS[:1], n)


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
