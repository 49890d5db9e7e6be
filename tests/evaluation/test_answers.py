"""Greedy answers against a token-by-token loop, and their scores against what is read off the logits."""

import pandas as pd
import pytest
import torch
from helpers import poison, word_tokenizer
from tokenizers.processors import TemplateProcessing

from labutils.data.tasks import Task
from labutils.evaluation import answers, generate_answers, normalise_answer, score_answers

TOKENIZER = word_tokenizer([f"w{number}" for number in range(60)], bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def greedy(model, prompt: str, n: int, tokenizer=TOKENIZER) -> list[int]:
    """One token after the other, each from a whole forward pass; ends before the model's end."""
    ids, said = tokenizer(prompt)["input_ids"], []
    for _ in range(n):
        token = int(model(torch.tensor([ids + said])).logits[0, -1].argmax())
        if token == model.generation_config.eos_token_id:
            break
        said.append(token)
    return said


@pytest.fixture(params=["tiny_llama", "tiny_gpt2", "tiny_opt"])
def model(request: pytest.FixtureRequest):
    found = request.getfixturevalue(request.param)
    found.generation_config.eos_token_id = TOKENIZER.eos_token_id
    return found


PROMPTS = ["w1 w2 w3", "w4", "w5 w6 w7 w8 w9 w10 w11", "w12 w13"]


def test_answers_are_the_likeliest_tokens_one_by_one_whatever_the_batch(model) -> None:
    for batch_size in (1, 3):
        found = generate_answers(model, TOKENIZER, PROMPTS, max_new_tokens=6, batch_size=batch_size)
        for prompt, row in zip(PROMPTS, found.to_dict("records"), strict=True):
            said = greedy(model, prompt, 6)
            assert row["answer"] == TOKENIZER.decode(said, skip_special_tokens=True)
            assert row["n_tokens"] == len(said) and row["ended"] == (len(said) < 6)
    assert not model.training


def test_a_beginning_that_pads_is_read_where_it_is_no_padding(model) -> None:
    """Without a mask, transformers 5.23.0 hides it (findings/generate_hides_a_beginning_that_pads.sh)."""
    words = [f"w{number}" for number in range(60)]
    tokenizer = word_tokenizer(words, bos_token="<s>", eos_token="</s>", pad_token="<s>")
    prompts = [f"<s> {prompt}" for prompt in PROMPTS]
    assert all(tokenizer(prompt)["input_ids"][0] == tokenizer.pad_token_id for prompt in prompts)
    found = generate_answers(model, tokenizer, prompts, max_new_tokens=6, batch_size=4)
    said = [greedy(model, prompt, 6, tokenizer) for prompt in prompts]
    assert found["answer"].tolist() == [tokenizer.decode(row, skip_special_tokens=True) for row in said]


def test_long_prompts_run_together_as_far_as_caches_hold_them(model, monkeypatch: pytest.MonkeyPatch) -> None:
    together, generate = [], model.generate
    monkeypatch.setattr(answers, "PROMPTS_AT_ONCE", 8)
    monkeypatch.setattr(
        model, "generate", lambda **asked: together.append(tuple(asked["input_ids"].shape)) or generate(**asked)
    )
    found = generate_answers(model, TOKENIZER, PROMPTS, max_new_tokens=6)
    assert together == [(1, 8), (2, 4), (1, 2)]  # of 8, 4, 3 and 2 tokens
    assert found["answer"].tolist() == [
        TOKENIZER.decode(greedy(model, prompt, 6), skip_special_tokens=True) for prompt in PROMPTS
    ]


def test_repetition_is_the_share_of_runs_said_before(tiny_llama) -> None:
    head = tiny_llama.get_output_embeddings()
    with torch.no_grad():
        head.weight.zero_()
        head.weight[TOKENIZER.convert_tokens_to_ids("w7")] = 1e-3
    tiny_llama.generation_config.eos_token_id = TOKENIZER.eos_token_id

    class Constant(torch.nn.Module):
        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            logits = torch.zeros(*hidden.shape[:-1], 64)
            logits[..., TOKENIZER.convert_tokens_to_ids("w7")] = 1.0
            return logits

    tiny_llama.lm_head = Constant()
    found = generate_answers(tiny_llama, TOKENIZER, ["w1"], max_new_tokens=12)
    assert found["answer"].tolist() == [" ".join(["w7"] * 12)]
    assert found["repetition"].tolist() == [0.9] and not found["ended"].iloc[0]


def one_task(answers: list[str]) -> Task:
    items = [
        {"item": number, "prompt": prompt, "choices": [answer, "w59"], "gold": 0}
        for number, (prompt, answer) in enumerate(zip(PROMPTS, answers, strict=True))
    ]
    return Task("say", "qa", "choice", pd.DataFrame(items))


def test_ranks_and_likelihoods_of_the_first_token_are_those_of_the_logits(model) -> None:
    found = score_answers(model, TOKENIZER, one_task(["w20", "w21 w22", "w23", "w24"]), max_new_tokens=2, batch_size=3)
    for prompt, gold, row in zip(PROMPTS, ["w20", "w21", "w23", "w24"], found.to_dict("records"), strict=True):
        logits = model(torch.tensor([TOKENIZER(prompt)["input_ids"]])).logits[0, -1].log_softmax(-1)
        token = TOKENIZER.convert_tokens_to_ids(gold)
        assert row["log_likelihood"] == pytest.approx(logits[token].item(), abs=1e-5)
        assert row["rank"] == 1 + (logits > logits[token]).sum().item()
        assert row["first_token"] == (row["rank"] == 1)


def counted_tokens(model, call) -> int:
    """Tokens that run through the model during a call."""
    seen = []
    with model.register_forward_pre_hook(
        lambda _, args, more: seen.append(more["input_ids"].numel()), with_kwargs=True
    ):
        call()
    return sum(seen)


def test_all_that_is_asked_of_generation_stands_in_its_configuration(tiny_llama, monkeypatch) -> None:
    """transformers 5.23.0 warns where further arguments stand beside one."""
    asked, generate = [], tiny_llama.generate
    monkeypatch.setattr(tiny_llama, "generate", lambda **given: asked.append(set(given)) or generate(**given))
    score_answers(tiny_llama, TOKENIZER, one_task(["w20", "w21", "w23", "w24"]), max_new_tokens=2)
    assert asked == [{"input_ids", "attention_mask", "generation_config"}]


def test_prompts_are_read_once(model) -> None:
    task = one_task(["w20", "w21", "w23", "w24"])
    generated = counted_tokens(model, lambda: generate_answers(model, TOKENIZER, PROMPTS, max_new_tokens=2))
    assert counted_tokens(model, lambda: score_answers(model, TOKENIZER, task, max_new_tokens=2)) == generated


def test_a_prompt_that_changes_before_its_answer_is_read_with_it(model) -> None:
    """Here the tokenizer closes a text with `</s>`: prompts alone end in it, and before an answer they do not."""
    closing = word_tokenizer(
        [f"w{number}" for number in range(60)], bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    closing.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", closing.eos_token_id)]
    )
    found = score_answers(model, closing, one_task(["w20", "w21 w22", "w23", "w24"]), max_new_tokens=2, batch_size=3)
    for prompt, gold, row in zip(PROMPTS, ["w20", "w21", "w23", "w24"], found.to_dict("records"), strict=True):
        before = closing(prompt, add_special_tokens=False)["input_ids"]
        logits = model(torch.tensor([before])).logits[0, -1].log_softmax(-1)
        token = closing.convert_tokens_to_ids(gold)
        assert row["log_likelihood"] == pytest.approx(logits[token].item(), abs=1e-5)
        assert row["rank"] == 1 + (logits > logits[token]).sum().item()
        assert row["first_token"] == (row["rank"] == 1)


def test_a_prompt_that_is_shortened_for_its_choices_is_read_as_they_follow_it(model) -> None:
    """Beside prompts that are not, so that what is read apart must come back to its own item."""
    long = " ".join(f"w{number}" for number in range(1, 56))
    choice = " ".join(f"w{number}" for number in range(40, 52))
    items = [
        {"item": 0, "prompt": "w1 w2", "choices": ["w20", "w59"], "gold": 0},
        {"item": 1, "prompt": long, "choices": [choice, "w59"], "gold": 0},
        {"item": 2, "prompt": "w5", "choices": ["w59", "w21"], "gold": 1},
    ]
    found = score_answers(model, TOKENIZER, Task("say", "qa", "choice", pd.DataFrame(items)), max_new_tokens=4)
    begin = TOKENIZER("w1")["input_ids"][:-1]
    texts = [TOKENIZER(one["prompt"])["input_ids"] for one in items]
    texts[1] = begin + texts[1][len(begin) :][-(64 - len(begin) - 12) :]
    for ids, gold, row in zip(texts, ["w20", "w40", "w21"], found.to_dict("records"), strict=True):
        logits = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        assert row["log_likelihood"] == pytest.approx(logits[TOKENIZER.convert_tokens_to_ids(gold)].item(), abs=1e-5)
    assert list(found)[-3:] == ["first_token", "rank", "log_likelihood"]


@pytest.mark.parametrize("own", [{"prefill_chunk_size": 3}, {"prompt_lookup_num_tokens": 3}])
def test_ways_of_generating_change_no_rank(tiny_llama, own: dict) -> None:
    """A model's own configuration may read a prompt in parts, or guess tokens ahead."""
    task = one_task(["w20", "w21 w22", "w23", "w24"])
    plain = score_answers(tiny_llama, TOKENIZER, task, max_new_tokens=2, batch_size=1)
    for name, value in own.items():
        setattr(tiny_llama.generation_config, name, value)
    found = score_answers(tiny_llama, TOKENIZER, task, max_new_tokens=2, batch_size=1)
    pd.testing.assert_frame_equal(found, plain, rtol=1e-4)


def test_logits_that_are_no_numbers_name_their_item(tiny_llama) -> None:
    poison(tiny_llama, TOKENIZER.convert_tokens_to_ids("w4"), float("nan"))
    with pytest.raises(ValueError, match="the logits of item 1 are"):
        score_answers(tiny_llama, TOKENIZER, one_task(["w20", "w21", "w23", "w24"]), max_new_tokens=2)


def test_an_answer_is_right_when_it_is_the_gold_and_nothing_else(model) -> None:
    model.generation_config.eos_token_id = 63  # no word: answers go on
    said = generate_answers(model, TOKENIZER, PROMPTS, max_new_tokens=3)["answer"].tolist()
    golds = [said[0], f"{said[1].upper()}!", f"the {said[2]}", f"{said[3]} w58"]
    found = score_answers(model, TOKENIZER, one_task(golds), max_new_tokens=3)
    assert found["exact"].tolist() == [True, False, False, False]
    assert found["normalised"].tolist() == [True, True, True, False]


@pytest.mark.parametrize(
    ("raw", "plain"),
    [("The  answer, it is!", "answer it is"), ("An apple", "apple"), ("the theme", "theme"), ("A", ""), ("É!", "é")],
)
def test_normalisation_drops_case_punctuation_and_articles(raw: str, plain: str) -> None:
    assert normalise_answer(raw) == plain


def test_what_cannot_be_answered_is_refused(tiny_llama) -> None:
    for prompts, more in (([], {}), ("w1", {}), (["w1"], {"max_new_tokens": 0})):
        with pytest.raises(ValueError, match="at least one prompt"):
            generate_answers(tiny_llama, TOKENIZER, prompts, **more)
    with pytest.raises(ValueError, match="prompt 1 has 62 tokens, and 58 fit"):
        generate_answers(tiny_llama, TOKENIZER, ["w1", " ".join(["w1"] * 61)], max_new_tokens=6)
    pairs = Task(
        "pairs", "topic", "similarity", pd.DataFrame({"item": [0], "sentence1": "a", "sentence2": "b", "score": 1.0})
    )
    with pytest.raises(ValueError, match="similarity task without a right answer"):
        score_answers(tiny_llama, TOKENIZER, pairs)
