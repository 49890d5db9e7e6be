"""Do the words that matter for one task matter for another? A text's words scored by one task, left out for another.

The question and the test are those of Javorský, Bojar & Yvon 2023 (arXiv:2305.19689): the text of one task is masked by
the scores that another task gives its words. They train one model per task and an interpreter that learns which words
may go. Here one language model answers all tasks, and a word's score is its occlusion: the text stands in the other
task's prompt, and the score is how far the answer's distribution moves when the word goes,

    s(i) = KL( p(answer | text) ‖ p(answer | text without word i) ),

over all choices of that task, all tokens of a choice together. No right answer is needed, so that any text can be
scored by any task. Words are places in a text: a word that stands twice has two scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float64
from scipy.special import log_softmax
from scipy.stats import spearmanr
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.attribution.influence import frame_of, remove_spans
from labutils.core.progress import progress
from labutils.core.seeding import generator
from labutils.data.tasks import Task
from labutils.data.words import find_words
from labutils.evaluation.choices import score_task
from labutils.stats.pairing import require_columns

SHARES = (0.25, 0.5, 0.75)  # of a text's words that are left out
SCORED, RANDOM = "scored", "random"
Spans = list[tuple[int, int]]


@dataclass(frozen=True)
class TextTask:
    """A choice task whose every prompt is a text between the same words.

    Attributes:
        begin, end: what stands around the text in every prompt, with its blanks, as "Review: " and " Sentiment:".
        texts: of the items, in their order.
        words: of every text, the first and last + 1 character of each; labels ("Hypothesis:") are none.
        choices: all choices of the task, those of an item among them.
    """

    task: Task
    begin: str
    end: str
    texts: list[str]
    words: list[Spans]
    choices: list[str]


def text_task(task: Task) -> TextTask:
    """A choice task as texts in one prompt.

    >>> text_task(lab.load_task("lab:sentiment/products", n_items=40)).end
    ' Sentiment:'

    The beginning goes up to the last colon that all prompts have in common, the end from the last blank before what
    they have in common: a sentence's own words and full stop are text.

    Raises:
        ValueError: another kind of task, fewer than two different prompts, or prompts without a common end.
    """
    if task.kind != "choice":
        raise ValueError(f"{task.name} is a {task.kind} task; words are scored by choice tasks")
    prompts = task.items["prompt"].tolist()
    first, last, labels = frame_of(prompts)
    begin = prompts[0][:first]
    begin = begin[: begin.rfind(":") + 1]
    begin += prompts[0][len(begin) :][:1] if begin else ""
    end = prompts[0][len(prompts[0]) - last :]
    start = next((place for place, sign in enumerate(end) if sign.isspace()), None)
    if start is None:
        raise ValueError(
            f"{task.name}: {len(set(prompts))} different prompts end in {end!r}, which asks nothing; words are "
            'scored by tasks whose prompts all end alike, as in "… Sentiment:"'
        )
    end = end[start:]
    texts = [prompt[len(begin) : len(prompt) - len(end)] for prompt in prompts]
    words = [[(a, b) for word, a, b in find_words(text) if word not in labels or text[b : b + 1] != ":"]
             for text in texts]  # fmt: skip
    choices = list(dict.fromkeys(choice for own in task.items["choices"] for choice in own))
    return TextTask(task, begin, end, texts, words, choices)


def word_scores(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    asked: TextTask,
    texts: Sequence[str],
    words: Sequence[Spans],
    *,
    batch_size: int = 32,
) -> list[Float64[np.ndarray, " words"]]:
    """How far a task's answer moves when a word of a text is left out, in nats, for every word of every text.

        scores = word_scores(model, tokenizer, text_task(task), ["The dog was good."], [[(0, 3), (4, 7)]])

    Args:
        asked: the task whose prompt the texts are put into, with all its choices.
        words: of every text, first and last + 1 character of each word.

    Raises:
        ValueError: as `score_task`.
    """
    versions = [
        version for text, own in zip(texts, words, strict=True)
        for version in (text, *(remove_spans(text, [span]) for span in own))
    ]  # fmt: skip
    items = pd.DataFrame(
        {"item": range(len(versions)), "prompt": [asked.begin + each + asked.end for each in versions]}
    )
    items = items.assign(choices=[asked.choices] * len(items), gold=0)
    asking = Task(asked.task.name, asked.task.family, "choice", items)
    read = score_task(model, tokenizer, asking, batch_size=batch_size)["log_likelihoods"]
    found = log_softmax(np.array(read.tolist()), axis=1)
    scores, place = [], 0
    for own in words:
        whole, without = found[place], found[place + 1 : place + 1 + len(own)]
        scores.append((np.exp(whole) * (whole - without)).sum(axis=1))
        place += 1 + len(own)
    return scores


def keep_words(
    text: str, words: Spans, scores: Float64[np.ndarray, " words"], share: float, ties: Float64[np.ndarray, " words"]
) -> str:
    """A text without the share of its words that scores lowest, rounded to whole words; of equals the lower tie.

    >>> keep_words("The dog was good.", [(0, 3), (4, 7)], np.array([0.0, 1.0]), 0.5, np.zeros(2))
    'dog was good.'
    """
    dropped = np.lexsort((ties, scores))[: round(share * len(words))]
    return remove_spans(text, [words[place] for place in sorted(dropped)])


def transfer_words(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[Task],
    *,
    name: str,
    shares: Sequence[float] = SHARES,
    n_draws: int = 3,
    seed: int = 0,
    batch_size: int = 32,
) -> pd.DataFrame:
    """Leave words of every task's texts out, by the scores of every task and at random, and answer the task again.

        rows = transfer_words(model, tokenizer, [load_task(one) for one in names], name="lab-llama")

    Args:
        tasks: choice tasks that `text_task` takes; their items are scored by all of them, their own task among them.
        name: of the model, for the rows.
        shares: of the words of a text that go, the lowest scores first.
        n_draws: of what goes at random, and of what goes first among equal scores.

    Returns:
        ``model, calibration, evaluation, arm, sparsity, draw, item, loss, unit``: `evaluation` is the task that is
        answered, `calibration` the one that scores, `sparsity` the share left out, `arm` "scored" or "random" (the same
        number of words), `loss` 1 where the answer is wrong.

    Raises:
        ValueError: fewer than two tasks, a share outside [0, 1), or as `text_task` and `score_task`.
    """
    if len(tasks) < 2 or not all(0 <= share < 1 for share in shares) or n_draws < 1:
        raise ValueError(
            f"{len(tasks)} tasks, shares={list(shares)} and n_draws={n_draws}: give two tasks or more, shares from 0 "
            "to below 1, and one draw or more."
        )
    framed, frames = [text_task(task) for task in tasks], []
    reading = {"batch_size": batch_size}
    for read in progress(framed, total=len(framed), description="words of one task for another", unit="task"):
        scored = {
            asked.task.name: word_scores(model, tokenizer, asked, read.texts, read.words, **reading) for asked in framed
        }
        frames.append(_answers(model, tokenizer, read, scored, shares, n_draws, seed, batch_size))
    return pd.concat(frames, ignore_index=True).assign(model=name, unit="accuracy")


def _answers(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, read: TextTask, scored: dict[str, list],
    shares: Sequence[float], n_draws: int, seed: int, batch_size: int,
) -> pd.DataFrame:  # fmt: skip
    """Losses of one task without words, a row per scoring task, arm, share, draw and item."""
    places, prompts = [], []
    for draw in range(n_draws):
        drawn = generator(seed, "words left out", read.task.name, draw)
        for text_number, (text, words) in enumerate(zip(read.texts, read.words, strict=True)):
            ties, chance = drawn.random(len(words)), drawn.random(len(words))
            for share in shares:
                kept = {(source, SCORED): scores[text_number] for source, scores in scored.items()} | {
                    ("", RANDOM): chance
                }
                for (source, arm), scores in kept.items():
                    places.append((source, arm, share, draw, text_number))
                    prompts.append(read.begin + keep_words(text, words, scores, share, ties) + read.end)
    rows = pd.DataFrame(places, columns=["calibration", "arm", "sparsity", "draw", "item"])
    again = read.task.items.iloc[rows["item"]].assign(prompt=prompts, item=range(len(rows)))
    asked = Task(read.task.name, read.task.family, "choice", again.reset_index(drop=True))
    right = score_task(model, tokenizer, asked, batch_size=batch_size)["correct"].to_numpy(dtype=float)
    rows = rows.assign(evaluation=read.task.name, loss=1 - right)
    by_chance = rows[rows["arm"] == RANDOM]
    return pd.concat([rows[rows["arm"] == SCORED], *(by_chance.assign(calibration=source) for source in scored)])


def transfer_gain(rows: pd.DataFrame, *, own: bool = False) -> pd.DataFrame:
    """Accuracy with the words that other tasks keep, minus accuracy with as many words kept at random.

    >>> effects_over_models(transfer_gain(rows)).overall

    Args:
        rows: of `transfer_words`.
        own: True takes the scores of the task that is answered instead: what scores of another could reach.

    Returns:
        ``model, calibration, evaluation, contrast, sparsity, draw, item, value``, the mean over scoring tasks of each
        item, draw and share.
    """
    require_columns(rows, ["model", "calibration", "evaluation", "arm", "sparsity", "draw", "item", "loss"])
    chosen = rows[(rows["calibration"] == rows["evaluation"]) == own]
    keys = ["model", "evaluation", "sparsity", "draw", "item"]
    means = chosen.groupby([*keys, "arm"])["loss"].mean().unstack("arm")
    gain = (means[RANDOM] - means[SCORED]).rename("value").reset_index()
    return gain.assign(calibration="own" if own else "others", contrast="own" if own else "others")


def depth_correlations(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[Task],
    trees: Sequence[tuple[str, Sequence[tuple[str, int]]]],
    *,
    name: str,
    batch_size: int = 32,
) -> pd.DataFrame:
    """Do words nearer to the root of a sentence score higher? Spearman's rho of score and minus depth, per sentence.

        depths = depth_correlations(model, tokenizer, tasks, world.write_trees("narrative", 60), name="lab-llama")

    Args:
        tasks: as for `transfer_words`; each scores the words of all sentences.
        trees: sentences, each with its words in order and their depths, as `world.write_trees` gives them.
        name: of the model, for the rows.

    Returns:
        ``model, calibration, evaluation, contrast, sparsity, draw, item, value``: `evaluation` is the task that scores,
        `item` the sentence, `value` rho. Sentences whose words all have one depth or one score have none.

    Raises:
        ValueError: a word that its sentence lacks; and as `text_task` and `score_task`.
    """
    texts, spans = [text for text, _ in trees], [_find_in_order(text, tree) for text, tree in trees]
    frames = []
    for asked in map(text_task, tasks):
        scores = word_scores(model, tokenizer, asked, texts, spans, batch_size=batch_size)
        rho = [_spearman(own, [-depth for _, depth in tree]) for own, (_, tree) in zip(scores, trees, strict=True)]
        frames.append(pd.DataFrame({"evaluation": asked.task.name, "item": range(len(rho)), "value": rho}))
    named = {"model": name, "calibration": "sentences", "contrast": "depth", "sparsity": 0.0, "draw": 0}
    return pd.concat(frames, ignore_index=True).assign(**named).dropna(subset="value", ignore_index=True)


def _find_in_order(text: str, tree: Sequence[tuple[str, int]]) -> Spans:
    spans, place = [], 0
    for word, _ in tree:
        start = text.find(word, place)
        if start < 0:
            raise ValueError(f"the sentence {text!r} has no word {word!r} behind its character {place}")
        spans.append((start, place := start + len(word)))
    return spans


def _spearman(scores: Float64[np.ndarray, " words"], nearness: Sequence[int]) -> float:
    if len(set(nearness)) < 2 or len(set(scores)) < 2:
        return float("nan")
    return float(spearmanr(scores, nearness).statistic)
