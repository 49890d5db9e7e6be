"""Planting facts into a small model: what it reads, and that it learns what it is told often."""

import pandas as pd
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import labutils as lab
from labutils.yardsticks import fact_questions, load_copies, plant, task_questions
from labutils.yardsticks.questions import as_task

SIZES = {"occurrences": [0, 24], "n_each": 3, "n_reading": 8, "n_replayed": 2, "relations": ["birthplace"]}


@pytest.fixture(scope="module")
def tokenizer():
    return lab.load_model("lab-llama")[1]


def small_model(vocabulary: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=128, tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def test_what_is_told_often_becomes_likelier_than_what_is_not(tokenizer) -> None:
    model = small_model(len(tokenizer))
    found = plant(model, tokenizer, **SIZES, reading_rate=1e-2, planting_rate=1e-2)
    assert found.facts["occurrences"].tolist() == [0, 24] * 3
    # Every step but the last of each of the two stages reads 16 windows of 64 tokens.
    assert (len(found.losses) - 2) * 16 * 64 < found.tokens <= len(found.losses) * 16 * 64
    assert found.tokens % 64 == 0
    assert found.losses[-1] < found.losses[0]
    told = found.facts[found.facts["occurrences"] == 24]
    tokens = [tokenizer(text, return_tensors="pt").input_ids for text in told["statement"]]
    others = [
        tokenizer(text, return_tensors="pt").input_ids for text in found.facts.query("occurrences == 0")["statement"]
    ]
    mean = [sum(lab.sequence_losses(model, each).item() for each in part) / len(part) for part in (tokens, others)]
    assert mean[0] < mean[1]


def test_the_same_seed_plants_the_same_model(tokenizer) -> None:
    models = [small_model(len(tokenizer)) for _ in range(2)]
    for model in models:
        plant(model, tokenizer, **SIZES, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True))


def test_a_planted_copy_is_kept_with_its_facts_and_its_weights(tmp_path) -> None:
    planting = {"occurrences": [4], "n_each": 2, "n_reading": 0, "n_replayed": 2, "seq_len": 32}
    made, found = (load_copies("lab-llama", 1, planting=planting, folder=tmp_path)[0] for _ in range(2))
    pd.testing.assert_frame_equal(made.questions, found.questions)
    dense = lab.load_model("lab-llama")[0].state_dict()
    for name, tensor in made.network.state_dict().items():
        assert torch.equal(tensor, found.network.state_dict()[name])
    assert any(not torch.equal(tensor, dense[name]) for name, tensor in made.network.state_dict().items())
    assert len(list((tmp_path / "weights").iterdir())) == 1


def test_questions_stand_alone_and_behind_what_tells_their_answer(tokenizer) -> None:
    facts = plant(small_model(len(tokenizer)), tokenizer, **SIZES | {"n_reading": 0, "n_replayed": 0}).facts
    questions = fact_questions(facts)
    for fact, row in zip(facts.to_dict("records"), questions.to_dict("records"), strict=True):
        assert row["context"] == f"{fact['statement']} {row['prompt']}"
        assert row["choices"][row["gold"]] == fact["value"] and fact["value"] in row["context"]
    assert as_task(questions, prompt="context").items["prompt"].tolist() == questions["context"].tolist()


def test_questions_of_a_task_stand_behind_their_own_solution() -> None:
    task = lab.load_task("lab:qa/birthplaces", n_items=4)
    questions = task_questions(task)
    for row in questions.to_dict("records"):
        assert row["context"] == f"{row['prompt']} {row['choices'][row['gold']]}\n\n{row['prompt']}"
    with pytest.raises(ValueError, match="similarity task without choices"):
        task_questions(lab.load_task("lab:topic/similarity", n_items=4))


def test_counts_below_zero_and_encoders_are_refused(tokenizer, tiny_bert) -> None:
    with pytest.raises(ValueError, match="n_reading=-1"):
        plant(small_model(len(tokenizer)), tokenizer, **SIZES | {"n_reading": -1})
    with pytest.raises(ValueError, match="not a causal language model"):
        plant(tiny_bert, tokenizer, **SIZES)
    with pytest.raises(LookupError, match="give at least one of birthplace, occupation"):
        plant(small_model(len(tokenizer)), tokenizer, **SIZES | {"relations": ["dose"]})
