"""Other paths through a model's blocks: does an item have a shorter one that answers it rightly (C49)?

CoLa (arXiv 2507.07996) searches a path for each sample, with blocks skipped and blocks run again, by a Monte-Carlo tree
search. Here every item gets the same candidates, drawn beforehand, so that the budget is fixed and what luck does with
it can be told. A path is chosen for an item by whether it answers this very item: what is found is an oracle's, and
with enough candidates some path says anything. So each share stands beside two that know no answer: the chance that a
label drawn at random is among the answers that the item's paths gave (`luck`), and what as many guesses reach.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int64
from torch import Tensor

from labutils.core.files import hash_json
from labutils.core.progress import progress
from labutils.data.tasks import Task, load_task
from labutils.evaluation.batching import batches_of, context_length, pad_rows
from labutils.evaluation.choice_tokens import Row, encode_choices, plain_rows
from labutils.evaluation.readout import check_finite_values, log_likelihoods, narrowed_head
from labutils.models.modes import device_of, eval_mode
from labutils.models.structure import check_causal, find_blocks
from labutils.pruning.calibration import BlockWalk
from labutils.smaller.keeping import KeptRows
from labutils.smaller.study import Loaded
from labutils.structured.anatomy import read_anatomies
from labutils.structured.paths import Paths

Path = tuple[int, ...]
CODE = ("labutils.smaller.routes",)
LONGEST_RUN, MOST_CHANGES, TRIES = 4, 3, 2000
ROWS_AT_ONCE = 64


def draw_paths(n_blocks: int, n_paths: int, *, seed: int) -> list[Path]:
    """Different paths, none of them the model's own: blocks by their numbers, in the order in which they run.

    >>> draw_paths(4, 2, seed=0)
    [(2, 3), (0, 1, 0, 1)]

    Each makes one to three changes, one after the other: a run of one to four blocks is skipped, or run twice. At least
    one block stays, and at most twice as many run as the model has.

    Raises:
        ValueError: fewer than one, or more than there are to be found.
    """
    if n_paths < 1:
        raise ValueError(f"n_paths={n_paths} must be at least 1.")
    generator, own = np.random.default_rng(seed), tuple(range(n_blocks))
    found: dict[Path, None] = {}
    fruitless = 0
    while len(found) < n_paths:
        path, before = own, len(found)
        for _ in range(generator.integers(1, MOST_CHANGES + 1)):
            first = int(generator.integers(len(path)))
            end = first + int(generator.integers(1, min(LONGEST_RUN, len(path) - first) + 1))
            path = path[:first] + (path[first:end] * 2 if generator.random() < 0.5 else ()) + path[end:]
            if not path:
                break
        if path and path != own and len(path) <= 2 * n_blocks:
            found[path] = None
        fruitless = 0 if len(found) > before else fruitless + 1
        if fruitless == TRIES:
            raise ValueError(
                f"n_paths={n_paths}: of {n_blocks} blocks only {len(found)} other paths were found; ask for fewer."
            )
    return list(found)


def answers_along_paths(
    name: str, loaded: Loaded, task: str, *, n_paths: int, n_draws: int, n_items: int, seed: int = 0
) -> pd.DataFrame:
    """What a model answers to each item of a choice task along its own path and along others.

    >>> answers_along_paths("lab-llama", lab.load_model("lab-llama"), "lab:qa/birthplaces", n_paths=20, n_draws=2,
    ...                     n_items=50)

    A choice is scored as `score_task` does. Under the runner, what is finished is kept in the run's folder.

    Args:
        n_paths: candidates, the same for every item.
        n_draws: of candidates; draw d has the seed d.

    Returns:
        one row per draw, path and item: model, evaluation, draw, path (the blocks, "0 1 3"), blocks (how many ran),
        shorter, item, prediction, gold, n_choices, own (what the model answers along its own path).

    Raises:
        ValueError: a task without choices, an encoder, or too many paths.
    """
    model, tokenizer = loaded
    questions = load_task(task, n_items=n_items, seed=seed)
    check_causal(model, "a choice task")
    if questions.kind != "choice":
        raise ValueError(f"{questions.name} is a {questions.kind} task without choices.")
    total, kept, frames = len(find_blocks(model)[1]), KeptRows(model, tokenizer, code=CODE), []
    for draw in range(n_draws):
        paths = draw_paths(total, n_paths, seed=draw)
        key = {"routes": hash_json(questions.items.to_dict("records")), "paths": [list(path) for path in paths]}
        frames.append(kept.frame(key, partial(_answers, loaded, questions, paths)).assign(draw=draw))
    return pd.concat(frames, ignore_index=True).assign(model=name, evaluation=task)


def _answers(loaded: Loaded, questions: Task, paths: Sequence[Path]) -> pd.DataFrame:
    own = tuple(range(len(find_blocks(loaded[0])[1])))
    found = predict_along(loaded, questions, [own, *paths])
    gold, sizes = questions.items["gold"].to_numpy(), questions.items["choices"].map(len).to_numpy()
    about = {"item": range(len(gold)), "gold": gold, "n_choices": sizes, "own": found[own].numpy()}
    return pd.concat([
        pd.DataFrame(about).assign(
            prediction=found[path].numpy(), path=" ".join(map(str, path)), blocks=len(path),
            shorter=len(path) < len(own),
        )
        for path in paths
    ], ignore_index=True)  # fmt: skip


def predict_along(loaded: Loaded, questions: Task, paths: Sequence[Path]) -> dict[Path, Int64[Tensor, " items"]]:
    """The choice that is likeliest, by its mean log-likelihood per token, of each item along each path.

    >>> predict_along(loaded, lab.load_task("lab:qa/birthplaces", n_items=8), [(0, 1, 2, 3, 4, 5), (0, 1, 3, 4, 5)])
    """
    model, tokenizer = loaded
    limit = context_length(model, tokenizer)
    items = [encode_choices(tokenizer, record, limit)[0] for record in questions.items.to_dict("records")]
    starts = np.cumsum([0, *map(len, items)])
    rows = [row for own, start in zip(items, starts, strict=False) for row in plain_rows(own, int(start))]
    lengths = torch.tensor([candidate.n_choice for own in items for candidate in own], dtype=torch.float64)
    sums = {path: torch.zeros(len(lengths), dtype=torch.float64) for path in paths}
    anatomies, batches = read_anatomies(model), batches_of([len(r.ids) for r in rows], ROWS_AT_ONCE, device_of(model))
    for number, chosen in enumerate(progress(list(batches), description="paths", unit="batch")):
        batch = [rows[place] for place in chosen]
        ids = pad_rows([row.ids for row in batch], tokenizer)
        mask = torch.tensor([[1] * len(row.ids) + [0] * (ids.shape[1] - len(row.ids)) for row in batch])
        inputs = {"input_ids": ids, "attention_mask": mask}
        walk = BlockWalk(model, inputs, batch_size=len(batch), prove=number == 0)
        for path, hidden in Paths(walk, anatomies).along(0, paths):
            _add(sums[path], loaded, walk, batch, hidden)
    means = {path: (own / lengths).split([len(each) for each in items]) for path, own in sums.items()}
    return {path: torch.stack([each.argmax() for each in own]) for path, own in means.items()}


def _add(sums: Tensor, loaded: Loaded, walk: BlockWalk, batch: Sequence[Row], hidden: Tensor) -> None:
    """Add the log-likelihoods of what is read off a batch's rows to the sums of their candidates."""
    model = loaded[0]
    reads = [(row, place, token, owner) for row, own in enumerate(batch) for place, token, owner in own.reads]
    rows, places, tokens, owners = torch.tensor(reads).unbind(1)
    device = device_of(model)
    with eval_mode(model), narrowed_head(model, rows.to(device), places.to(device)):
        logits = walk.predict(hidden, 0).logits[0]
    values = log_likelihoods(logits, torch.arange(len(rows), device=device), tokens.to(device)).cpu()
    check_finite_values(values, owners.tolist(), "candidate")
    sums.index_add_(0, owners, values.double())


def found_paths(answers: pd.DataFrame) -> pd.DataFrame:
    """Of each item, whether some path answers it rightly, and how likely luck alone does.

    >>> found_paths(answers_along_paths("lab-llama", loaded, task, n_paths=20, n_draws=2, n_items=50))

    Of items that the model solves along its own path, shorter paths count; of items that it fails, all paths do.

    Returns:
        model, evaluation, draw, item, solved (by the model), found (1 or 0), luck: of a solved item the share of its
        choices that are an answer along some counted path, which is the chance of a random label to be among them; of a
        failed one the same without the model's own answer, known to be wrong. guesses: the chance that as many
        independent guesses hit the label; reliable: the share of the counted paths that answer rightly.
    """
    solved = answers["own"] == answers["gold"]
    counted = answers[~solved | answers["shorter"]]
    keys = ["model", "evaluation", "draw", "item"]
    rows = []
    for key, own in counted.groupby(keys, sort=False):
        first, given = own.iloc[0], set(own["prediction"])
        is_solved, choices = first["own"] == first["gold"], int(first["n_choices"])
        luck = len(given) / choices if is_solved else len(given - {first["own"]}) / (choices - 1)
        right = (own["prediction"] == first["gold"]).mean()
        guesses = 1 - (1 - 1 / choices) ** len(own)
        rows.append((*key, is_solved, float(first["gold"] in given), luck, guesses, right))
    numbers = dict.fromkeys(["found", "luck", "guesses", "reliable"], float)
    return pd.DataFrame(rows, columns=[*keys, "solved", *numbers]).astype({"solved": bool, **numbers})


def best_single_path(answers: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """What one shorter path for all items does: chosen on one half of a task's items, read on the other, both ways.

    >>> best_single_path(answers)

    No item has a say in the path that it is read along, so this is what a shorter path is worth without an oracle.

    Returns:
        one row per model, task, draw and item: model, evaluation, draw, item, own (whether the model is right), single
        (whether the path is), blocks (how many it runs).
    """
    rows = []
    for key, own in answers[answers["shorter"]].groupby(["model", "evaluation", "draw"], sort=False):
        right = own.assign(right=own["prediction"] == own["gold"]).pivot(index="path", columns="item", values="right")
        length, once = own.groupby("path")["blocks"].first(), own.drop_duplicates("item").set_index("item")
        order = np.random.default_rng(seed).permutation(right.columns.to_numpy())
        halves = order[: len(order) // 2], order[len(order) // 2 :]
        for chosen_on, read_on in (halves, halves[::-1]):
            best = right[chosen_on].mean(axis=1).idxmax()
            for item in read_on:
                is_right = once.loc[item, "own"] == once.loc[item, "gold"]
                rows.append((*key, item, float(is_right), float(right.loc[best, item]), length[best]))
    numbers = dict.fromkeys(["own", "single", "blocks"], float)
    return pd.DataFrame(rows, columns=["model", "evaluation", "draw", "item", *numbers]).astype(numbers)
