"""Which tasks survive the loss of blocks: similarity and paraphrase against all others (R01).

On the Effect of Dropping Layers (arXiv 2004.03844) drops layers of BERT and others, fine-tunes what is left on each
task of GLUE, and finds similarity and paraphrase least harmed. Here nothing is trained after the drop. What a task
loses is a share of what the whole model scores beyond guessing, so that tasks with two and with four choices can be
compared: 0 is nothing lost, 1 is down to guessing.
"""

from collections.abc import Callable, Collection, Sequence
from functools import partial

import numpy as np
import pandas as pd
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.core.files import hash_json
from labutils.core.options import suggest
from labutils.core.progress import progress
from labutils.core.provenance import hash_tensors
from labutils.data.tasks import Task
from labutils.models.structure import find_blocks
from labutils.smaller.keeping import KeptRows
from labutils.smaller.study import Loaded
from labutils.stats.bootstrap import Interval, crossed_bootstrap
from labutils.stats.evidence import keeps_evidence
from labutils.structured.dropping import drop_blocks

CODE = ("labutils.smaller.dropped_tasks", "labutils.evaluation.choices", "labutils.evaluation.similarity")
UNITS = ("data set", "model")
Score = Callable[[PreTrainedModel, PreTrainedTokenizerBase, Sequence[Task]], pd.DataFrame]
Drop = Callable[[PreTrainedModel, Tensor, int], PreTrainedModel]


def _top(model: PreTrainedModel, tokens: Tensor, n_blocks: int) -> PreTrainedModel:
    total = len(find_blocks(model)[1])
    return drop_blocks(model, blocks=range(total - n_blocks, total)).model


WAYS: dict[str, Drop] = {
    "top": _top,  # the last blocks, as the paper's best way
    "deepest": lambda model, tokens, n: drop_blocks(model, n_blocks=n, method="deepest").model,
    "angular": lambda model, tokens, n: drop_blocks(model, tokens, n_blocks=n, method="angular").model,
}


def scores_after_dropping(
    name: str, loaded: Loaded, tasks: Sequence[Task], tokens: Tensor, *, ways: Sequence[str], n_blocks: Sequence[int],
    score: Score,
) -> pd.DataFrame:  # fmt: skip
    """The score of every item of every task by the whole model, and with blocks dropped.

    >>> scores_after_dropping("lab-llama", loaded, [lab.load_task("lab:topic/similarity", n_items=50)], tokens,
    ...                       ways=["top"], n_blocks=[1], score=lab.sweeps.score_items)

    Under the runner, what is finished is kept in the run's folder.

    Args:
        tokens: what "angular" chooses its run of blocks on, int64 [n, seq_len].
        ways: "top" (the last blocks), "deepest" (but the last one), "angular".
        score: what scores the items of tasks, as `lab.sweeps.score_items`.

    Returns:
        the columns of `score`, with model, method (the way, or "dense"), sparsity (the share of the blocks).

    Raises:
        LookupError: an unknown way.
        ValueError: a number of blocks that cannot go.
    """
    model, tokenizer = loaded
    for way in ways:
        if way not in WAYS:
            raise LookupError(f"no way {way!r}.{suggest(way, WAYS)} Known: {', '.join(WAYS)}.")
    total, kept = len(find_blocks(model)[1]), KeptRows(model, tokenizer, code=CODE)
    if wrong := [n for n in n_blocks if not 0 < n < total - 1]:
        raise ValueError(f"n_blocks={list(n_blocks)}: {wrong[0]} of {total} blocks cannot go; give 1 to {total - 2}.")
    read = {"tasks": [[task.name, hash_json(task.items.to_dict("records"))] for task in tasks]}
    asked = [("dense", 0), *((way, n) for way in ways for n in n_blocks)]
    frames = []
    for way, n in progress(asked, description=f"drop blocks of {name}", unit="model"):
        key = {"way": way, "n_blocks": n, **read, "calibration": hash_tensors({"ids": tokens})}
        found = kept.frame(key, partial(_scored, loaded, tasks, tokens, way, n, score))
        frames.append(found.assign(method=way, sparsity=n / total))
    return pd.concat(frames, ignore_index=True).assign(model=name)


def _scored(loaded: Loaded, tasks: Sequence[Task], tokens: Tensor, way: str, n: int, score: Score) -> pd.DataFrame:
    model = loaded[0] if way == "dense" else WAYS[way](loaded[0], tokens, n)
    return score(model, loaded[1], tasks)


def lost_beyond_chance(drops: pd.DataFrame) -> pd.DataFrame:
    """What a task loses as a share of what the whole model scores beyond guessing.

    >>> lost_beyond_chance(lab.sweeps.add_drops(rows))

    Args:
        drops: the rows of dropped models with `dense`, the whole model's score of the same item, and `value`, the drop.

    Returns:
        model, method, sparsity, task, family, value.

    Raises:
        ValueError: a task on which a model is not above chance; leave it out.
    """
    keys = ["model", "method", "sparsity", "task", "family"]
    drops = drops.astype({"dense": float, "value": float, "chance": float, "sparsity": float})
    means = drops.groupby(keys, sort=False)[["dense", "value", "chance"]].mean().reset_index()
    beyond = means["dense"] - means["chance"]
    if (beyond <= 0).any():
        first = means[beyond <= 0].iloc[0]
        raise ValueError(f"{first['model']} is not above chance on {first['task']}: nothing to lose; leave it out.")
    return means.assign(value=means["value"] / beyond)[[*keys, "value"]]


@keeps_evidence()
def others_minus_alike(lost: pd.DataFrame, alike: Collection[str]) -> Interval:
    """What other tasks lose minus what those of a group do; positive: the group is more robust.

    >>> others_minus_alike(lost_beyond_chance(drops), ["topic/similarity", "topic/biomedical_similarity"])

    Every task counts alike, and so do models and sizes. The units are data sets, those of the group and all others
    apart, crossed with the models, which they share; the noise of items is in the spread of the data sets.

    Args:
        lost: rows of `lost_beyond_chance`, of one way, with the same tasks of every model.
        alike: tasks of the group.

    Returns:
        an undefined interval where either side has fewer than two data sets.
    """
    frame = lost.groupby(["model", "task"], as_index=False, sort=False)["value"].mean()
    frame = frame.assign(side=frame["task"].isin(list(alike)))
    counts = {side: frame.loc[frame["side"] == side, "task"].nunique() for side in (False, True)}
    if min(counts.values()) < 2:
        few = "of the group" if counts[True] <= counts[False] else "outside the group"
        return Interval.undefined(f"at least two data sets {few} are needed as units, above chance on every model")

    def difference(cell_means: Float[np.ndarray, "resamples columns"]) -> Float[np.ndarray, " resamples"]:
        return cell_means[:, 0] - cell_means[:, 1]  # strata are sorted: the others stand first

    return crossed_bootstrap(
        frame, difference, item="task", draw="model", cells=(), strata=["side"], units=UNITS
    )  # fmt: skip
