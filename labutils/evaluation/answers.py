"""What a causal language model says of its own accord: greedy answers, and how far from saying the right one it is."""

import re
import string
from collections.abc import Sequence

import pandas as pd
import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from labutils.core.progress import progress
from labutils.data.tasks import Task
from labutils.evaluation.batching import context_length
from labutils.evaluation.choice_tokens import encode_choices
from labutils.evaluation.readout import check_finite_values
from labutils.models.modes import device_of, eval_mode
from labutils.models.structure import check_causal

END = "\n"  # an answer is one line
RUN = 3  # tokens of a run that may be repeated


def generate_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 16,
    batch_size: int = 32,
    one_line: bool = True,
) -> pd.DataFrame:
    """The most likely continuation of every prompt, token by token.

        generate_answers(model, tokenizer, ["Question: Where was Vera Eldfield born? Answer:"])["answer"]

    Args:
        max_new_tokens: where an answer is cut off.
        one_line: an answer ends with its first line break; else at the model's own end alone.

    Returns:
        one row per prompt: ``answer`` (stripped), ``n_tokens`` (of the answer, without its end), ``ended`` (it came to
        an end by itself), ``repetition`` (share of its runs of three tokens that it had said before, 0 of shorter).

    Raises:
        ValueError: no prompts, an encoder, fewer than one new token, or a prompt that leaves no room for them.
    """
    check_causal(model, "an answer")
    if isinstance(prompts, str) or not prompts or max_new_tokens < 1 or batch_size < 1:
        raise ValueError(
            f"{len(prompts)} prompts ({type(prompts).__name__}), max_new_tokens={max_new_tokens}, "
            f"batch_size={batch_size}: give a list of at least one prompt, and at least 1 of both"
        )
    rows = tokenizer(list(prompts), verbose=False)["input_ids"]
    limit = context_length(model, tokenizer) - max_new_tokens
    longest = max(range(len(rows)), key=lambda place: len(rows[place]))
    if len(rows[longest]) > limit or not all(rows):
        raise ValueError(
            f"prompt {longest} has {len(rows[longest])} tokens, and {limit} fit beside {max_new_tokens} new ones; no "
            "prompt may be empty"
        )
    order = sorted(range(len(rows)), key=lambda place: -len(rows[place]))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    found: dict[int, dict] = {}
    with eval_mode(model):
        for places in progress(batches, description="answer", unit="batch"):
            said = _continue(model, tokenizer, [rows[place] for place in places], max_new_tokens)
            for place, ids in zip(places, said, strict=True):
                found[place] = _describe(tokenizer, ids, max_new_tokens, one_line)
    return pd.DataFrame([found[place] for place in range(len(rows))])


def score_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    *,
    max_new_tokens: int = 16,
    batch_size: int = 32,
) -> pd.DataFrame:
    """Whether a model says the right choice when nobody shows it the choices.

        score_answers(model, tokenizer, lab.load_task("lab:qa/birthplaces"))["normalised"].mean()

    Returns:
        one row per item: the columns of `generate_answers`; ``exact`` (the answer is the right choice, letter by
        letter), ``normalised`` (`normalise_answer` of both agree); ``first_token`` (the likeliest first token is the
        right choice's), ``rank`` (of the right first token, from 1: how far the answer is demoted), ``log_likelihood``
        (of the right first token, nats).

    Raises:
        ValueError: a task without choices; otherwise as `generate_answers`.
    """
    if task.kind != "choice":
        raise ValueError(f"{task.name} is a {task.kind} task without a right answer; score it with score_similarity")
    records = task.items.to_dict("records")
    golds = [record["choices"][record["gold"]] for record in records]
    prompts = [record["prompt"] for record in records]
    frame = generate_answers(
        model, tokenizer, prompts, max_new_tokens=max_new_tokens, batch_size=batch_size
    )  # fmt: skip
    frame.insert(0, "item", [record["item"] for record in records])
    frame["exact"] = [answer == gold.strip() for answer, gold in zip(frame["answer"], golds, strict=True)]
    frame["normalised"] = [
        normalise_answer(answer) == normalise_answer(gold) for answer, gold in zip(frame["answer"], golds, strict=True)
    ]
    return frame.join(_first_tokens(model, tokenizer, records, batch_size))


def normalise_answer(text: str) -> str:
    """Lower case, without punctuation, articles and doubled blanks (Rajpurkar et al. 2016, SQuAD).

    >>> normalise_answer("The Answer!")
    'answer'
    """
    plain = text.lower().translate(str.maketrans("", "", string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", plain).split())


def _continue(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: list[list[int]], max_new_tokens: int
) -> list[list[int]]:
    """Greedy continuations of rows that are filled up on the left, as generation needs them."""
    ends = model.generation_config.eos_token_id if model.generation_config is not None else None
    ends = tokenizer.eos_token_id if ends is None else ends
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0
    longest = max(map(len, rows))
    ids = torch.tensor([[padding] * (longest - len(row)) + row for row in rows], device=device_of(model))
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device_of(model))
    asked = GenerationConfig(
        do_sample=False, num_beams=1, max_new_tokens=max_new_tokens, pad_token_id=padding, eos_token_id=ends
    )
    said = model.generate(input_ids=ids, attention_mask=mask, generation_config=asked)[:, longest:].tolist()
    stops = set(ends if isinstance(ends, list) else [ends])
    return [_until(row, stops) for row in said]


def _until(ids: list[int], stops: set[int]) -> list[int]:
    return next((ids[:place] for place, token in enumerate(ids) if token in stops), ids)


def _describe(tokenizer: PreTrainedTokenizerBase, ids: list[int], most: int, one_line: bool) -> dict:
    text, ended = tokenizer.decode(ids, skip_special_tokens=True), len(ids) < most
    if one_line and END in text.strip():
        text, ended = text.strip().split(END)[0], True
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    runs = [tuple(ids[start : start + RUN]) for start in range(len(ids) - RUN + 1)]
    repetition = 1 - len(set(runs)) / len(runs) if runs else 0.0
    return {"answer": text.strip(), "n_tokens": len(ids), "ended": ended, "repetition": repetition}


def _first_tokens(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, records: list[dict], batch_size: int
) -> pd.DataFrame:
    """Of every item: rank and log-likelihood of the right choice's first token after the prompt."""
    limit, device = context_length(model, tokenizer), device_of(model)
    rows = []
    for record in records:
        candidate = encode_choices(tokenizer, record, limit)[0][record["gold"]]
        border = len(candidate.ids) - candidate.n_choice
        rows.append((candidate.ids[:border], candidate.ids[border]))
    found: dict[int, tuple[int, float]] = {}
    order = sorted(range(len(rows)), key=lambda place: -len(rows[place][0]))
    with eval_mode(model):
        for start in range(0, len(order), batch_size):
            places = order[start : start + batch_size]
            longest = len(rows[places[0]][0])
            ids = torch.tensor([rows[p][0] + [0] * (longest - len(rows[p][0])) for p in places], device=device)
            mask = torch.tensor(
                [[1] * len(rows[p][0]) + [0] * (longest - len(rows[p][0])) for p in places], device=device
            )
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
            for row, place in enumerate(places):
                context, token = rows[place]
                own = logits[row, len(context) - 1].float().log_softmax(-1)
                check_finite_values([own[token].item()], [records[place]["item"]], "item")
                found[place] = (1 + int((own > own[token]).sum()), own[token].item())
    ranks, likelihoods = zip(*(found[place] for place in range(len(rows))), strict=True)
    first = [rank == 1 for rank in ranks]
    return pd.DataFrame({"first_token": first, "rank": ranks, "log_likelihood": likelihoods})
