"""What the rows of the study say: which models can answer, how much they can lose, what they weigh, what is faster."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from transformers import PreTrainedModel

from labutils.models.exact import without_progress_bar
from labutils.stats.bootstrap import crossed_bootstrap
from labutils.stats.pairing import pair_with_dense, paired_differences
from labutils.structured.report import count_all


def able_models(answers: pd.DataFrame) -> pd.DataFrame:
    """The rows of those models and tasks whose dense accuracy lies clearly above chance; others have nothing to lose.

    >>> able_models(lab.smaller.answers_after_dropping("lab-llama", loaded, task, text, method="angular", …))
    """
    kept = []
    for _, own in answers.groupby(["model", "evaluation"], sort=False):
        once = own[(own["draw"] == own["draw"].min()) & (own["sparsity"] == own["sparsity"].min())]
        above = once.assign(value=once["dense"] - once["chance"], sparsity=0.0)
        if crossed_bootstrap(above, n_resamples=2000).low > 0:
            kept.append(own)
    return pd.concat(kept, ignore_index=True) if kept else answers.iloc[:0]


def at_most_dropped(answers: pd.DataFrame) -> pd.DataFrame:
    """Of each model the rows of the largest share of its blocks that was dropped, which depends on their number."""
    return answers[answers["sparsity"] == answers.groupby("model")["sparsity"].transform("max")]


def relative_losses(rows: pd.DataFrame, arm: str) -> pd.DataFrame:
    """What an arm adds to the loss, by item and draw, as a negative share (`value`) of the dense model's mean loss."""
    keys = ["model", "calibration", "evaluation", "item"]
    paired = pair_with_dense(rows[rows["arm"].isin([arm, "dense"])], "loss", on=keys)
    mean = paired.groupby("model")["dense"].transform("mean")
    return paired.assign(value=(paired["dense"] - paired["loss"]) / mean)


def largest_harmless_share(answers: pd.DataFrame, margin: float) -> dict[str, float]:
    """By model the largest share of blocks up to which it is shown that at most the margin is lost; 0 for none.

    The lower end of the interval of `value` must lie above −margin at this share and at every smaller one.
    """
    found: dict[str, float] = {}
    for model, own in answers.groupby("model", sort=False):
        found[str(model)] = 0.0
        for share, part in own.groupby("sparsity"):
            if crossed_bootstrap(part, n_resamples=2000).low < -margin:
                break
            found[str(model)] = float(share)
    return found


def size_table(models: Mapping[str, PreTrainedModel]) -> pd.DataFrame:
    """Parameters, and megabytes of the weights as they are held and of the file that transformers writes.

    >>> size_table({"dense": model, "smaller": smaller})
    """
    rows = []
    for name, model in models.items():
        with tempfile.TemporaryDirectory() as folder:
            with without_progress_bar():
                model.save_pretrained(folder)
            files = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors")) / 1e6
        weights = sum(p.numel() * p.element_size() for p in model.parameters()) / 1e6
        rows.append({"model": name, "parameters": count_all(model), "MB of weights": weights, "MB in files": files})
    return pd.DataFrame(rows)


def width_over_depth(
    times: pd.DataFrame, *, phase: str, batch: int, depth: str = "less depth", width: str = "less width"
) -> pd.DataFrame:
    """log(time with less width / time with less depth) of each repeat; above zero less depth is faster.

    Args:
        times: rows of `time_models`, with the dense model's name as `of`, and `sparsity`.

    Returns:
        a frame of contrasts: model, item (the repeat), value, draw, sparsity, contrast.
    """
    chosen = times[(times["phase"] == phase) & (times["batch"] == batch)]
    table = chosen.pivot(index=["of", "sparsity", "repeat"], columns="model", values="milliseconds")
    found = np.log(table[width] / table[depth]).rename("value").reset_index()
    found = found.rename(columns={"of": "model", "repeat": "item"})
    return found.assign(draw=0, contrast="width over depth")


def alike_cells(differences: pd.DataFrame, dense: Mapping[str, float], *, within: float = 0.01) -> pd.DataFrame:
    """By model and size, whether two ways are shown to lose alike: the interval lies within a share of the dense loss.

    Args:
        differences: a frame of contrasts of the two ways.
        dense: the dense loss of each model.

    Returns:
        model, sparsity, estimate, low, high, alike.
    """
    found = []
    for (model, sparsity), own in differences.groupby(["model", "sparsity"], sort=False):
        interval = crossed_bootstrap(own, n_resamples=2000)
        alike = max(abs(interval.low), abs(interval.high)) <= within * dense[str(model)]
        found.append((model, sparsity, interval.estimate, interval.low, interval.high, alike))
    return pd.DataFrame(found, columns=["model", "sparsity", "estimate", "low", "high", "alike"])


def paired_gains(rows: pd.DataFrame, pairs: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """The contrasts of pairs of arms, of each model those of which both arms were run at every size and draw of it.

    An arm that a model's architecture cannot express leaves no rows; a frame without rows where no pair is left.
    """
    found = [pd.DataFrame(columns=["model", "value", "contrast", "sparsity", "draw", "item"])]
    for _, own in rows.groupby("model", sort=False):
        cells = (
            own[own["arm"] != "dense"].groupby("arm")[["sparsity", "draw"]].apply(lambda a: len(a.drop_duplicates()))
        )
        whole = {arm for arm, count in cells.items() if count == cells.max()}
        found += [
            paired_differences(own, {"arm": reference}, {"arm": candidate}).assign(contrast=name)
            for name, (reference, candidate) in pairs.items()
            if {reference, candidate} <= whole
        ]
    return pd.concat(found[1:], ignore_index=True) if len(found) > 1 else found[0]


def angle_slopes(angles: pd.DataFrame, *, first: int = 0) -> pd.DataFrame:
    """By model the least-squares slope, over depth from 0 to 1, of the angle by which a block turns the state.

    >>> angle_slopes(lab.smaller.block_angles("lab-llama", loaded, "lab:review", n_calibration=8, seq_len=64))

    In units of π, with an interval over sequences; below zero deep blocks turn the state less than shallow ones.

    Args:
        first: the first block that counts; block 0 reads the embeddings.

    Returns:
        model, estimate, low, high.
    """
    found = []
    for model, own in angles[angles["block"] >= first].groupby("model", sort=False):
        table = own.pivot(index="block", columns="item", values="angle")
        slopes = np.polyfit(table.index.to_numpy() / own["block"].max(), table.to_numpy(), 1)[0]  # of each sequence
        frame = pd.DataFrame({"item": range(len(slopes)), "value": slopes, "draw": 0, "sparsity": 0.0})
        interval = crossed_bootstrap(frame.assign(model=model), n_resamples=2000)
        found.append((model, interval.estimate, interval.low, interval.high))
    return pd.DataFrame(found, columns=["model", "estimate", "low", "high"])
