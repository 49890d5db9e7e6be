"""The fast ways to read choices against whole forward passes of every text alone, and where they are not taken."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from architectures import ARCHITECTURES
from helpers import frame_with, log_probability, poison
from transformers import CTRLConfig, CTRLLMHeadModel, CTRLTokenizer, PreTrainedModel

from labutils.data.tasks import Task
from labutils.evaluation import batching, choice_reading
from labutils.evaluation.choice_reading import choice_log_likelihoods
from labutils.evaluation.choice_tokens import Candidate, encode_choices, packed_mask, packed_rows, plain_rows
from labutils.evaluation.choices import score_task

PACKS = ["llama", "qwen2", "qwen3", "phi3", "olmo2", "stablelm", "opt", "gpt2", "gpt-neox", "falcon", "mixtral"]
APART = ["mistral", "gemma2", "gpt-oss", "bloom"]  # windows of 6 tokens; distances that ids of positions do not reach


def literal_sums(model: PreTrainedModel, candidates: list[Candidate]) -> list[float]:
    """Σ log p of each choice's tokens, one sequence and one token at a time."""
    return [
        sum(
            log_probability(model, candidate.ids, place)
            for place in range(len(candidate.ids) - candidate.n_choice, len(candidate.ids))
        )
        for candidate in candidates
    ]


def random_items(seed: int, n: int = 6) -> list[list[Candidate]]:
    """Items whose texts share a beginning of any length, with choices of unequal length, some equal, some nested."""
    generator = np.random.default_rng(seed)
    items = []
    for item in range(n):
        shared = generator.integers(3, 60, generator.integers(1, 20)).tolist()
        tails = [generator.integers(3, 8, generator.integers(1, 7)).tolist() for _ in range(generator.integers(2, 6))]
        tails.append(tails[0] if item % 2 else [*tails[0], 5])  # an equal choice, or one that begins with another
        items.append([Candidate(item, shared + tail, int(generator.integers(1, len(tail) + 1))) for tail in tails])
    return items


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["tiny_llama", "tiny_gpt2", "tiny_opt"])
def test_fast_sums_are_those_of_one_text_at_a_time(name, seed, request, tokenizer):
    model, items = request.getfixturevalue(name), random_items(seed)
    found = {size: choice_log_likelihoods(model, tokenizer, items, batch_size=size) for size in (1, 3, 32)}
    wanted = [literal_sums(model, candidates) for candidates in items]
    for sums, way in found.values():
        assert way == "prompt once"
        for mine, slow in zip(sums, wanted, strict=True):
            np.testing.assert_allclose(mine, slow, atol=1e-4)


@pytest.mark.parametrize("name", [*PACKS, *APART])
def test_every_family_is_read_right_and_packed_where_it_can_be(name, tokenizer):
    model, items = ARCHITECTURES[name].build(), random_items(9, n=4)
    sums, way = choice_log_likelihoods(model, tokenizer, items)
    assert way == ("prompt once" if name in PACKS else "choice by choice")
    for mine, candidates in zip(sums, items, strict=True):
        np.testing.assert_allclose(mine, literal_sums(model, candidates), atol=1e-4)
    if name in APART:  # half precision hides small differences, not what a model does not listen to
        assert choice_log_likelihoods(model.bfloat16(), tokenizer, items)[1] == "choice by choice"


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_head_that_cannot_be_narrowed_is_read_whole(attention, tiny_llama, tokenizer, caplog):
    tiny_llama.set_attn_implementation(attention)
    items = random_items(1)
    wanted, way = choice_log_likelihoods(tiny_llama, tokenizer, items)
    assert way == "prompt once"
    plain = type(tiny_llama).forward

    def shaped(self, input_ids, **options):
        output = plain(self, input_ids, **options)
        output.logits = output.logits.view(*input_ids.shape, -1)  # as many logits as tokens, or none
        return output

    tiny_llama.forward = shaped.__get__(tiny_llama)
    with caplog.at_level("INFO", "labutils"):
        sums, way = choice_log_likelihoods(tiny_llama, tokenizer, items)
    assert way == "all logits" and "cannot be read by 'choice by choice'" in caplog.text
    torch.testing.assert_close(torch.cat(sums), torch.cat(wanted), rtol=0, atol=1e-4)


def test_a_way_that_reads_something_else_is_not_taken(tiny_llama, tokenizer, monkeypatch, caplog):
    items = random_items(2)
    wanted, _ = choice_log_likelihoods(tiny_llama, tokenizer, items)
    monkeypatch.setattr(  # branches that see each other
        "labutils.evaluation.readout.packed_mask", lambda numbers: packed_mask(torch.where(numbers > 0, 1, numbers))
    )
    with caplog.at_level("INFO", "labutils"):
        sums, way = choice_log_likelihoods(tiny_llama, tokenizer, items)
    assert way == "choice by choice" and "are off by" in caplog.text
    torch.testing.assert_close(torch.cat(sums), torch.cat(wanted), rtol=0, atol=1e-4)


def test_nothing_that_stops_a_run_is_taken_for_an_answer(tiny_llama, tokenizer, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("labutils.evaluation.readout.packed_mask", stop)
    with pytest.raises(KeyboardInterrupt):
        choice_log_likelihoods(tiny_llama, tokenizer, random_items(2))


def test_choices_of_one_token_take_one_pass_over_the_prompt(tiny_llama, tokenizer):
    items = pd.DataFrame({"item": range(5), "prompt": "w1 w2 w3", "choices": [["w4", "w5", "w6"]] * 5, "gold": 0})
    seen = []
    tiny_llama.model.register_forward_hook(
        lambda module, args, kwargs, output: seen.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    score_task(tiny_llama, tokenizer, Task("one", "qa", "choice", items), batch_size=8)
    assert [tuple(shape) for shape in seen] == [(1, 4), (1, 4), (5, 4)]  # one text twice, to prove the way


def test_rows_hold_a_shared_beginning_once_and_read_every_token():
    candidates = [Candidate(0, [1, 2, 3, 7, 8, 9], 3), Candidate(0, [1, 2, 3, 5, 6], 2), Candidate(0, [1, 2, 3, 7], 1)]
    rows = plain_rows(candidates, first=4)
    assert [(row.ids, row.branches) for row in rows] == [([1, 2, 3, 7, 8], ()), ([1, 2, 3, 5], ())]
    assert rows[0].reads == [(2, 7, 4), (3, 8, 4), (4, 9, 4), (2, 7, 6)] and rows[1].reads == [(2, 5, 5), (3, 6, 5)]
    (packed,) = packed_rows(rows)
    assert (packed.ids, packed.shared, packed.branches) == ([1, 2, 3, 7, 8, 5], 3, (2, 1))
    assert packed.reads == [(2, 7, 4), (3, 8, 4), (4, 9, 4), (2, 7, 6), (2, 5, 5), (5, 6, 5)]
    apart = plain_rows([Candidate(0, [1, *range(10, 30)], 20), Candidate(0, [1, *range(30, 50)], 20)])
    assert packed_rows(apart) == apart  # nothing worth sharing


def test_the_mask_of_a_packed_row():
    mask = packed_mask(torch.tensor([[0, 0, 1, 1, 2, -1]]))[0, 0].int().tolist()
    assert mask == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 0],
        [1, 1, 0, 0, 0, 1],
    ]


def test_batches_hold_at_most_so_many_rows_and_tokens():
    lengths = [3, 12, 4, 5, 5, 1]
    found = list(batching.batches_of(lengths, 2, torch.device("cpu"), at_once=10))
    assert found == [[1], [3, 4], [2, 0], [5]]
    assert list(batching.batches_of(lengths, 4, torch.device("meta"), at_once=10)) == [[1, 3, 4, 2], [0, 5]]
    assert list(batching.batches_of([256, 256, 2], 4, torch.device("cpu"))) == [[0, 1], [2]]
    assert list(batching.batches_of([], 4, torch.device("cpu"))) == []


@pytest.mark.parametrize("way", choice_reading.WAYS)
def test_a_broken_item_is_named_in_every_way(way, tiny_llama, tokenizer, monkeypatch):
    poison(tiny_llama, 50, math.nan)
    monkeypatch.setattr(choice_reading, "_fastest_way", lambda *_: (way, None))
    sound = [
        [replace(choice, ids=[3 if token == 50 else token for token in choice.ids]) for choice in item]
        for item in random_items(5)
    ]
    assert choice_log_likelihoods(tiny_llama, tokenizer, sound)[1] == way
    for bad in range(len(sound)):
        items = list(sound)
        items[bad] = [replace(choice, ids=[50, *choice.ids]) for choice in items[bad]]
        with pytest.raises(ValueError, match=f"item {bad} are NaN or infinite"):
            choice_log_likelihoods(tiny_llama, tokenizer, items)


# Tokens of the choice


def test_a_tokenizer_without_offsets_tells_the_choice_by_the_prompts_tokens(tmp_path):
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = ["<unk>", *letters, *(f"{letter}@@" for letter in letters), "the"]
    (tmp_path / "vocab.json").write_text(json.dumps({piece: place for place, piece in enumerate(pieces)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\nt h\nth e</w>\n")
    tokenizer = CTRLTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    assert not tokenizer.is_fast
    row = {"item": 0, "prompt": "past the", "choices": ["the mill", "sea"], "gold": 0}
    found, shortened = encode_choices(tokenizer, row, 64)
    assert [choice.n_choice for choice in found] == [1 + 4, 3] and not shortened
    shared = ["p@@", "a@@", "s@@", "t", "the"]
    for choice, added in zip(found, (["the", "m@@", "i@@", "l@@", "l"], ["s@@", "e@@", "a"]), strict=True):
        assert tokenizer.convert_ids_to_tokens(choice.ids) == shared + added
    config = CTRLConfig(vocab_size=len(pieces), n_embd=16, dff=24, n_layer=2, n_head=2, n_positions=32)
    model = CTRLLMHeadModel(config).eval()
    frame = score_task(model, tokenizer, Task("own", "qa", "choice", pd.DataFrame([row, {**row, "item": 1}])))
    np.testing.assert_allclose(frame["log_likelihoods"][0], literal_sums(model, found), atol=1e-4)


def test_an_empty_prompt_stands_behind_bos_or_eos(tokenizer):
    row = {"item": 0, "prompt": "", "choices": ["w1", "w2 w3"], "gold": 0}
    w1, w2, w3 = tokenizer.convert_tokens_to_ids(["w1", "w2", "w3"])
    frame_with(tokenizer, None, None)
    for first in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        found, _ = encode_choices(tokenizer, row, 64)
        assert [candidate.ids for candidate in found] == [[first, w1], [first, w2, w3]]
        tokenizer.bos_token = None
    assert [c.ids for c in encode_choices(tokenizer, {**row, "prompt": "w3"}, 64)[0]] == [[w3, w1], [w3, w2, w3]]
