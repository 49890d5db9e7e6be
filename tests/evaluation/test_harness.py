"""lm-evaluation-harness on a model in memory: its scores against sums written out by hand, and clear refusals."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from helpers import frame_with
from transformers import PreTrainedModel, PreTrainedTokenizerBase

import labutils as lab
from labutils.data.tasks import Task
from labutils.evaluation.harness import evaluate_outside, write_harness_task

PROMPTS = ["one two", "three four five", "six seven eight", "nine ten", "two four", "eight one nine"]


def choice_task() -> Task:
    choices = [["one", "two three"], ["four", "five six seven"], ["ten", "nine"]] * 2
    items = {"item": range(6), "prompt": PROMPTS, "choices": choices, "gold": [0, 1, 0, 1, 0, 1]}
    return Task("file:numbers.jsonl", "qa", "choice", pd.DataFrame(items))


@torch.no_grad()
def summed_log_likelihood(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str, choice: str
) -> float:
    """Σ log p(token | all before it) over the choice's tokens, token by token in float64."""
    start = len(tokenizer(prompt)["input_ids"])
    ids = tokenizer(f"{prompt} {choice}")["input_ids"]
    return sum(
        model(torch.tensor([ids[:position]])).logits[0, -1].double().log_softmax(0)[ids[position]].item()
        for position in range(start, len(ids))
    )


@pytest.fixture
def harness() -> None:
    pytest.importorskip("lm_eval", reason="needs lm-evaluation-harness: pip install 'labutils[harness]'")


@pytest.fixture
def network() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    return lab.load_model("lab-gpt2")


def expected_scores(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: Task) -> tuple[float, float]:
    """Shares of items whose gold choice has the highest sum, and the highest sum per character."""
    right, right_per_character = 0, 0
    for row in task.items.to_dict("records"):
        sums = [summed_log_likelihood(model, tokenizer, row["prompt"], choice) for choice in row["choices"]]
        means = [total / len(choice) for total, choice in zip(sums, row["choices"], strict=True)]
        right += sums.index(max(sums)) == row["gold"]
        right_per_character += means.index(max(means)) == row["gold"]
    return right / len(task.items), right_per_character / len(task.items)


def test_scores_of_a_pruned_model_against_sums_by_hand(harness: None, network: tuple, tmp_path: Path) -> None:
    model, tokenizer = network
    task = choice_task()
    name = write_harness_task(task, tmp_path)
    tokens = lab.load_tokens("lab:narrative", tokenizer, n_sequences=4, seq_len=32)
    seen = []
    for sparsity in (0.0, 0.9):
        lab.prune(model, tokens, method="magnitude", sparsity=sparsity)
        found = evaluate_outside(model, tokenizer, [name], task_folder=tmp_path).set_index("metric")
        expected = expected_scores(model, tokenizer, task)
        assert found["value"].to_dict() == pytest.approx(dict(zip(("acc", "acc_norm"), expected, strict=True)))
        assert set(found["task"]) == {name} and set(found["n_items"]) == {6}
        seen.append(summed_log_likelihood(model, tokenizer, PROMPTS[0], "one"))
    assert seen[0] != seen[1]  # it is the pruned weights that were scored


def test_a_lab_task_is_scored_alike(harness: None, network: tuple, tmp_path: Path) -> None:
    """Where all choices have equally many tokens, the sum and our mean order them alike."""
    model, tokenizer = network
    task = lab.load_task("lab:sentiment/products", n_items=40)
    lengths = {len(tokenizer(" " + choice)["input_ids"]) for choices in task.items["choices"] for choice in choices}
    assert len(lengths) == 1
    name = write_harness_task(task, tmp_path)
    found = evaluate_outside(model, tokenizer, [name], task_folder=tmp_path, n_items=30).set_index("metric")
    ours = lab.score_task(model, tokenizer, task)["correct"][:30].mean()
    assert found.loc["acc", "value"] == pytest.approx(ours) and found.loc["acc", "n_items"] == 30


@pytest.mark.parametrize("name", ["lab-llama", "lab-gpt2", "lab-opt"])
def test_log_likelihoods_and_accuracies_are_the_harnesses(harness: None, name: str, tmp_path: Path) -> None:
    """The same items, sum by sum, with the tokens before a text that the tokenizer puts there, or without any."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model, tokenizer = lab.load_model(name)
    generator = np.random.default_rng(0)
    lab_tasks = [lab.load_task(f"lab:{task}", n_items=12) for task in ("sentiment/products", "qa/birthplaces")]
    odd = pd.DataFrame({"item": range(8), "prompt": [" ".join(generator.choice(PROMPTS, 1 + i)) for i in range(8)]})
    odd = odd.assign(choices=[["one", "two three four", "one two", "Ünüsual wörds!"]] * 8, gold=[0, 1, 2, 3] * 2)
    odd["prompt"] += ["", " ", "\n", ":", "", "  ", ".", ""]  # blanks at the end count with the choice
    for framed in (True, False):
        if not framed:
            frame_with(tokenizer, None, None)
        wrapped = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4)
        for task in (*lab_tasks, Task("odd", "qa", "choice", odd)):
            records = task.items.to_dict("records")
            requests = [(row["prompt"], f" {choice}") for row in records for choice in row["choices"]]
            asked = [Instance("loglikelihood", {}, request, place) for place, request in enumerate(requests)]
            theirs = [total for total, _ in wrapped.loglikelihood(asked, disable_tqdm=True)]
            ours = lab.score_task(model, tokenizer, task)
            assert np.concatenate(ours["log_likelihoods"].to_numpy()) == pytest.approx(theirs, abs=1e-4)
            written = write_harness_task(task, tmp_path)
            found = evaluate_outside(model, tokenizer, [written], task_folder=tmp_path).set_index("metric")["value"]
            for metric, column in (("acc", "correct_sum"), ("acc_norm", "correct_character")):
                assert found[metric] == pytest.approx(ours[column].mean())


def test_unknown_tasks_and_encoders(harness: None, network: tuple, tiny_bert, tmp_path: Path) -> None:
    model, tokenizer = network
    with pytest.raises(LookupError, match="no task 'none_such'.*holds none of that name"):
        evaluate_outside(model, tokenizer, ["none_such"], task_folder=tmp_path)
    with pytest.raises(ValueError, match="not a causal language model"):
        evaluate_outside(tiny_bert, tokenizer, ["hellaswag"])


def test_without_the_harness_the_extra_is_named(network: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lm_eval", None)
    with pytest.raises(LookupError, match=r"labutils\[harness\]"):
        evaluate_outside(*network, ["hellaswag"])


def test_the_written_task(tmp_path: Path) -> None:
    name = write_harness_task(choice_task(), tmp_path)
    config = yaml.safe_load((tmp_path / f"{name}.yaml").read_text())
    items = pd.read_json(config["dataset_kwargs"]["data_files"]["test"], lines=True)
    assert config["task"] == name == "file_numbers_jsonl" and config["output_type"] == "multiple_choice"
    assert items[config["doc_to_text"]].tolist() == PROMPTS and items["gold"].tolist() == [0, 1, 0, 1, 0, 1]


def test_a_similarity_task_has_no_choices(tmp_path: Path) -> None:
    items = pd.DataFrame({"item": [0], "sentence1": ["a"], "sentence2": ["b"], "score": [1.0]})
    with pytest.raises(ValueError, match="without choices"):
        write_harness_task(Task("pairs", "topic", "similarity", items), tmp_path)
