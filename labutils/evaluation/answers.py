"""What a causal language model says of its own accord: greedy answers, and how far from saying the right one it is."""

import re
import string
from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from labutils.core.progress import progress
from labutils.data.tasks import Task
from labutils.evaluation.batching import (
    PROMPTS_AT_ONCE,
    batches_of,
    context_length,
    padded_batches,
    rows_at_once,
)
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
    rows = _encode_prompts(model, tokenizer, prompts, max_new_tokens, batch_size)
    sizes = {"max_new_tokens": max_new_tokens, "batch_size": batch_size}
    return pd.DataFrame(_answer(model, tokenizer, rows, {}, one_line=one_line, **sizes))


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

    Prompts are read once. Only one whose tokens change when the choices follow it, or that must be shortened for them,
    is read again, as it stands before the right choice.

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
    rows = _encode_prompts(model, tokenizer, [record["prompt"] for record in records], max_new_tokens, batch_size)
    first_tokens, apart = _gold_tokens(model, tokenizer, records, rows)
    said = _answer(model, tokenizer, rows, first_tokens, max_new_tokens=max_new_tokens, batch_size=batch_size)
    for place, first in _read_apart(model, tokenizer, apart, batch_size).items():
        said[place] |= first
    frame = pd.DataFrame(said)
    check_finite_values(frame["log_likelihood"].tolist(), [record["item"] for record in records], "item")
    frame.insert(0, "item", [record["item"] for record in records])
    frame["exact"] = [answer == gold.strip() for answer, gold in zip(frame["answer"], golds, strict=True)]
    frame["normalised"] = [
        normalise_answer(answer) == normalise_answer(gold) for answer, gold in zip(frame["answer"], golds, strict=True)
    ]
    frame["first_token"] = frame["rank"] == 1
    last = ["first_token", "rank", "log_likelihood"]
    return frame[[*frame.columns.difference(last, sort=False), *last]]


def normalise_answer(text: str) -> str:
    """Lower case, without punctuation, articles and doubled blanks (Rajpurkar et al. 2016, SQuAD).

    >>> normalise_answer("The Answer!")
    'answer'
    """
    plain = text.lower().translate(str.maketrans("", "", string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", plain).split())


def _encode_prompts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    max_new_tokens: int,
    batch_size: int,
) -> list[list[int]]:
    """Token ids of the prompts, which must leave room for the new tokens."""
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
    return rows


def _answer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: list[list[int]], first_tokens: Mapping[int, int],
    *, max_new_tokens: int, batch_size: int, one_line: bool = True,
) -> list[dict]:  # fmt: skip
    """What the model says after every row, and how it takes the token that `first_tokens` has for a row as the next."""
    batches = list(batches_of([*map(len, rows)], batch_size, device_of(model), at_once=PROMPTS_AT_ONCE))
    found: dict[int, dict] = {}
    with eval_mode(model):
        for places in progress(batches, description="answer", unit="batch"):
            wanted = [place in first_tokens for place in places]
            batch = [rows[place] for place in places]
            said, logits = _continue(model, tokenizer, batch, max_new_tokens, with_logits=any(wanted))
            for number, place in enumerate(places):
                found[place] = _describe(tokenizer, said[number], max_new_tokens, one_line)
                if wanted[number]:
                    found[place] |= _demotion(logits[number], first_tokens[place])
    return [found[place] for place in range(len(rows))]


def _continue(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: list[list[int]],
    max_new_tokens: int,
    *,
    with_logits: bool,
) -> tuple[list[list[int]], Float[Tensor, "batch vocabulary"] | None]:
    """Greedy continuations of rows, filled up on the left as generation needs them, and the logits behind the rows."""
    ends = model.generation_config.eos_token_id if model.generation_config is not None else None
    ends = tokenizer.eos_token_id if ends is None else ends
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0
    longest = max(map(len, rows))
    ids = torch.tensor([[padding] * (longest - len(row)) + row for row in rows], device=device_of(model))
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device_of(model))
    asked = GenerationConfig(
        do_sample=False, num_beams=1, max_new_tokens=max_new_tokens, pad_token_id=padding, eos_token_id=ends,
        output_logits=with_logits, return_dict_in_generate=True,
    )  # fmt: skip
    found = model.generate(input_ids=ids, attention_mask=mask, generation_config=asked)
    stops = set(ends if isinstance(ends, list) else [ends])
    said = [_until(row, stops) for row in found.sequences[:, longest:].tolist()]
    return said, found.logits[0] if with_logits else None


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


def _gold_tokens(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, records: list[dict], rows: list[list[int]]
) -> tuple[dict[int, int], dict[int, tuple[list[int], int]]]:
    """First tokens of right choices, by place; and apart, tokens before and token, where those are not the prompt's.

    Prompt and choice are one text for the tokenizer, which may cut it otherwise than the prompt alone.
    """
    limit = context_length(model, tokenizer)
    first_tokens, apart = {}, {}
    for place, record in enumerate(records):
        candidate = encode_choices(tokenizer, record, limit)[0][record["gold"]]
        border = len(candidate.ids) - candidate.n_choice
        before, token = candidate.ids[:border], candidate.ids[border]
        if before == rows[place]:
            first_tokens[place] = token
        else:
            apart[place] = (before, token)
    return first_tokens, apart


def _read_apart(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    apart: Mapping[int, tuple[list[int], int]],
    batch_size: int,
) -> dict[int, dict]:
    """Rank and log-likelihood of tokens after what stands before them, by the place that each has in `apart`."""
    places, texts = list(apart), [before for before, _ in apart.values()]
    size = rows_at_once(model, batch_size, max(map(len, texts), default=1))
    found: dict[int, dict] = {}
    with eval_mode(model):
        for chosen, ids, mask in padded_batches(texts, size, tokenizer, device_of(model)):
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
            for own, index in zip(logits, chosen, strict=True):
                found[places[index]] = _demotion(own[len(texts[index]) - 1], apart[places[index]][1])
    return found


def _demotion(logits: Float[Tensor, " vocabulary"], token: int) -> dict:
    own = logits.float().log_softmax(-1)
    return {"rank": 1 + int((own > own[token]).sum()), "log_likelihood": own[token].item()}
