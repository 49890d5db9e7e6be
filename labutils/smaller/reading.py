"""What the rows of the study say: which models can answer, how much they can lose, what they weigh, what is faster."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from transformers import PreTrainedModel

from labutils.models.exact import without_progress_bar
from labutils.stats.bootstrap import crossed_bootstrap
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


def largest_harmless_share(answers: pd.DataFrame, margin: float) -> dict[str, float]:
    """By model the largest share of blocks up to which accuracy is shown to fall by at most the margin; 0 for none.

    The lower end of the interval must lie above −margin at this share and at every smaller one.
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
    """Parameters, and megabytes of the weights in memory and in the folder that transformers writes.

    >>> size_table({"dense": model, "smaller": smaller})
    """
    rows = []
    for name, model in models.items():
        with tempfile.TemporaryDirectory() as folder:
            with without_progress_bar():
                model.save_pretrained(folder)
            files = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors")) / 1e6
        memory = sum(p.numel() * p.element_size() for p in model.parameters()) / 1e6
        rows.append({"model": name, "parameters": count_all(model), "MB in memory": memory, "MB in files": files})
    return pd.DataFrame(rows)


def width_over_depth(
    times: pd.DataFrame, *, phase: str, batch: int, depth: str = "less depth", width: str = "less width"
) -> pd.DataFrame:
    """log(time with less width / time with less depth) of each repeat; above zero less depth is faster.

    Args:
        times: rows of `time_models`, with the dense model's name as `of`.

    Returns:
        a frame of contrasts: model, item (the repeat), value, draw, sparsity, contrast.
    """
    chosen = times[(times["phase"] == phase) & (times["batch"] == batch)]
    table = chosen.pivot(index=["of", "repeat"], columns="model", values="milliseconds")
    found = np.log(table[width] / table[depth]).rename("value").reset_index()
    found = found.rename(columns={"of": "model", "repeat": "item"})
    return found.assign(draw=0, sparsity=0.0, contrast="width over depth")


def angle_slopes(cosines: pd.DataFrame) -> dict[str, float]:
    """By model the least-squares slope, over depth from 0 to 1, of the mean angle between a block's input and output.

    >>> angle_slopes(lab.smaller.neighbour_cosines("lab-llama", loaded, "lab:review", n_calibration=8, seq_len=64))

    In units of π; below zero deep blocks turn the state less than shallow ones.
    """
    found: dict[str, float] = {}
    for model, own in cosines.groupby("model", sort=False):
        by_block = own.groupby("block")["neighbours"].mean().clip(-1, 1)
        angles = np.arccos(by_block.to_numpy()) / np.pi
        found[str(model)] = float(np.polyfit(np.linspace(0, 1, len(angles)), angles, 1)[0])
    return found
