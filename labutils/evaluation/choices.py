"""Which of several choices a causal language model finds most likely after a prompt."""

from collections.abc import Callable

import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.data.tasks import Task
from labutils.evaluation.batching import context_length
from labutils.evaluation.choice_reading import choice_log_likelihoods
from labutils.evaluation.choice_tokens import encode_choices
from labutils.models.structure import check_causal

# By what the log-likelihood of a choice, the sum over its tokens, is divided: `acc`, `acc_norm` and `acc_bytes` of
# lm-evaluation-harness are sum, character and byte.
NORMALISATIONS: dict[str, Callable[[str, int], int]] = {
    "token": lambda choice, n_tokens: n_tokens,
    "sum": lambda choice, n_tokens: 1,
    "character": lambda choice, n_tokens: len(choice),
    "byte": lambda choice, n_tokens: len(choice.encode()),
}


def score_task(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    *,
    by: str = "token",
    batch_size: int = 32,
) -> pd.DataFrame:
    """Which choice a causal language model finds most likely after each prompt.

        accuracy = lab.score_task(model, tokenizer, task)["correct"].mean()

    Each choice is scored in ``prompt + " " + choice``, tokenised as one text after what the tokenizer itself puts
    before a text: the log-likelihood of the choice's tokens given all before them. A token across the boundary counts
    with the choice. A prompt too long for the context loses its beginning, and every choice of an item then follows the
    same rest of it. The prompt of an item is read once where the model can, which one item is tried on
    (`choice_log_likelihoods`).

    Args:
        by: what a choice's log-likelihood is divided by before choices are compared: its tokens ("token"), nothing
            ("sum"), its characters ("character") or bytes ("byte"). By "sum" a choice loses for being long.
        batch_size: texts per forward pass at most; speed and memory only.

    Returns:
        one row per item: ``item, gold, prediction`` (positions in the choices; ties go to the first), ``correct``, and
        ``margin``: score of the gold choice minus the best other (nats per token, or as `by` says); then ``correct_sum,
        correct_token, correct_character, correct_byte``, side by side, and ``log_likelihoods``, the sums in nats.
        ``attrs["truncated_prompts"]`` counts the items whose prompt lost its beginning, ``attrs["read"]`` tells how the
        choices were read.

    Raises:
        ValueError: an unknown `by`, a similarity task, an encoder, a choice without tokens or longer than the context,
            ids outside the vocabulary, or logits that are NaN or infinite (the item is named).
    """
    if by not in NORMALISATIONS:
        raise ValueError(f"by={by!r} is not one of {', '.join(NORMALISATIONS)}")
    if task.kind != "choice":
        raise ValueError(f"{task.name} is a {task.kind} task without choices; score its items with score_similarity")
    check_causal(model, "a choice task")
    limit = context_length(model, tokenizer)
    records = task.items.to_dict("records")
    encoded = [encode_choices(tokenizer, record, limit) for record in records]
    sums, way = choice_log_likelihoods(model, tokenizer, [found for found, _ in encoded], batch_size=batch_size)
    frame = pd.DataFrame(
        [
            _verdict(record, [candidate.n_choice for candidate in candidates], found.tolist(), by)
            for record, (candidates, _), found in zip(records, encoded, sums, strict=True)
        ]
    )
    frame.attrs.update(truncated_prompts=sum(shortened for _, shortened in encoded), read=way)
    return frame


def _verdict(record: dict, n_tokens: list[int], sums: list[float], by: str) -> dict:
    gold, choices = record["gold"], record["choices"]
    scores = {
        name: [total / max(1, size(choice, n)) for total, choice, n in zip(sums, choices, n_tokens, strict=True)]
        for name, size in NORMALISATIONS.items()
    }
    right = {f"correct_{name}": found.index(max(found)) == gold for name, found in scores.items()}
    best_other = max(score for choice, score in enumerate(scores[by]) if choice != gold)
    return {
        "item": record["item"],
        "gold": gold,
        "prediction": scores[by].index(max(scores[by])),
        "correct": right[f"correct_{by}"],
        "margin": scores[by][gold] - best_other,
        **right,
        "log_likelihoods": sums,
    }
