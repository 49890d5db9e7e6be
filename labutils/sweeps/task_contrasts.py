"""From the rows of a task sweep to the numbers that claims are judged by: drops, contrasts, variances, correlations."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import binomtest, norm

from labutils.stats.bootstrap import Interval, crossed_bootstrap, paired_differences
from labutils.stats.evidence import keeps_evidence
from labutils.stats.pairing import pair_with_dense, require_columns
from labutils.stats.ranks import resampled_correlations, unit_ranks, widened_correlations


def task_check(rows: pd.DataFrame, *, level: float = 0.95) -> pd.DataFrame:
    """Can the dense model do the tasks at all? A task at chance has nothing to lose.

    >>> task_check(rows).query("usable")["task"]

    Returns:
        ``task, family, items, dense`` (mean score), ``low, high`` (of an accuracy the exact interval of Clopper &
        Pearson 1934, of a similarity the normal one, at most 1), ``chance``, ``majority`` (what always giving the most
        frequent label scores), ``usable`` (the interval lies above both).
    """
    require_columns(rows, ["method", "task", "family", "item", "score", "chance", "majority"])
    dense = rows[rows["method"] == "dense"]
    groups = dense.groupby(["task", "family"], sort=False)
    table = groups.agg(
        items=("item", "size"), dense=("score", "mean"), chance=("chance", "mean"), majority=("majority", "mean")
    )
    intervals = [_mean_interval(part["score"].to_numpy(dtype=float), level) for _, part in groups]
    table[["low", "high"]] = np.reshape(intervals, (-1, 2))
    table["usable"] = table["low"] > table[["chance", "majority"]].max(axis=1)
    columns = ["task", "family", "items", "dense", "low", "high", "chance", "majority", "usable"]
    return table.reset_index()[columns]


def _mean_interval(scores: Float[np.ndarray, " items"], level: float) -> tuple[float, float]:
    """Of a mean of zeros and ones the exact interval, which all right or all wrong do not bring to width zero."""
    if np.isin(scores, (0, 1)).all():
        return tuple(binomtest(int(scores.sum()), len(scores)).proportion_ci(level, method="exact"))
    half = norm.ppf((1 + level) / 2) * scores.std(ddof=1) / np.sqrt(len(scores))
    return scores.mean() - half, min(1.0, scores.mean() + half)


def add_drops(rows: pd.DataFrame) -> pd.DataFrame:
    """The pruned rows of a task sweep with ``dense`` (score of the same item), and ``value`` = dense − score.

    >>> add_drops(rows).groupby("task")["value"].mean()  # accuracy lost per task
    """
    pruned = pair_with_dense(rows, "score", on=["model", "task", "item"])
    return pruned.assign(value=pruned["dense"] - pruned["score"])


def relative_drops(drops: pd.DataFrame, *, by: Sequence[str] = ("task", "method", "sparsity")) -> pd.DataFrame:
    """Mean drop over mean dense score in every group: ``by``, ``family``, ``dense``, ``drop``, ``relative_drop``.

    >>> relative_drops(add_drops(rows), by=["task"])

    NaN where the dense model's mean score is not positive.
    """
    keys = list(dict.fromkeys([*by, "family"]))
    frame = drops.groupby(keys, sort=False).agg(dense=("dense", "mean"), drop=("value", "mean")).reset_index()
    return frame.assign(relative_drop=(frame["drop"] / frame["dense"]).where(frame["dense"] > 0, np.nan))


@keeps_evidence()
def family_contrast(
    drops: pd.DataFrame, family: str, *, level: float = 0.95, n_resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Mean relative drop of a family's tasks minus that of all other tasks, with its interval.

    >>> family_contrast(add_drops(rows), "qa")

    Every task counts alike, and so do methods, sparsities and calibration sets. Items and calibration draws are
    resampled; the dense scores, by which a task's drop is divided, are held fixed.

    Raises:
        LookupError: no task of the family, or none outside it.
        ValueError: a task whose dense score is not positive; leave it out.
    """
    _check_dense_scores(drops)
    inside = _inside(drops, family)
    scaled = drops.assign(value=drops["value"] / drops["task"].map(drops.groupby("task")["dense"].mean()))
    cells = ["method", "sparsity"]
    strata = ["calibration", "task"]
    order = sorted(scaled.groupby(strata).groups)
    signs = np.array([1 / inside.sum() if inside[task] else -1 / (~inside).sum() for _, task in order])
    n_calibrations = scaled["calibration"].nunique()
    n_cells = len(scaled.groupby(cells))

    def difference(cell_means: np.ndarray) -> np.ndarray:
        per_stratum = cell_means.reshape(len(cell_means), len(order), n_cells).mean(2)
        return per_stratum @ signs / n_calibrations

    return crossed_bootstrap(
        scaled, difference, cells=cells, strata=strata, n_resamples=n_resamples, level=level, seed=seed
    )


@keeps_evidence()
def family_contrast_over_tasks(
    drops: pd.DataFrame, family: str, *, level: float = 0.95, n_resamples: int = 10_000, seed: int = 0
) -> Interval:
    """The number of `family_contrast` with the data sets as units: what it says of further data sets of the families.

    >>> family_contrast_over_tasks(add_drops(rows), "sentiment")

    Data sets of one family differ by more than their items explain, so a statement on the family must resample them:
    those of the family and all others apart, each with weights widened for few, and the calibration draws that all
    share. The items' own noise is in the spread of the data sets. Undefined with fewer than two on either side.

    Errors as in `family_contrast`.
    """
    _check_dense_scores(drops)
    inside = _inside(drops, family)
    counts = {"of the family": int(inside.sum()), "of others": int((~inside).sum())}
    if min(counts.values()) < 2:
        return Interval.undefined(f"at least two data sets {min(counts, key=counts.get)} are needed as units")
    means = relative_drops(drops, by=["calibration", "draw", "task"])
    frame = means.assign(value=means["relative_drop"], side=means["task"].map(inside))

    def difference(cell_means: Float[np.ndarray, "resamples columns"]) -> Float[np.ndarray, " resamples"]:
        others, own = np.split(cell_means, 2, axis=1)  # strata are sorted: False stands first
        return own.mean(axis=1) - others.mean(axis=1)

    return crossed_bootstrap(
        frame, difference, item="task", cells=(), strata=["side", "calibration"], n_resamples=n_resamples, level=level,
        seed=seed, units=("data set", "calibration draw"),
    )  # fmt: skip


def _check_dense_scores(drops: pd.DataFrame) -> None:
    dense = drops.groupby("task")["dense"].mean()
    if (dense <= 0).any():
        raise ValueError(
            f"the dense model scores {dense.min():.3g} on {dense.idxmin()}: no relative drop; leave it out"
        )


def _inside(drops: pd.DataFrame, family: str) -> pd.Series:
    """Task → whether it is of the family."""
    inside = drops.groupby("task")["family"].first() == family
    if inside.all() or not inside.any():
        raise LookupError(f"tasks inside and outside of the family {family!r} are needed; there are {dict(inside)}")
    return inside


def calibration_gain(
    drops: pd.DataFrame,
    reference: str,
    candidate: str,
    *,
    level: float = 0.95,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """What calibrating with `candidate` instead of `reference` gains, in score per item; positive favours `candidate`.

    >>> calibration_gain(add_drops(rows), "even", "covering")

    Paired item by item and draw by draw; every task, method and sparsity counts alike. Errors as in
    `paired_differences`.
    """
    pairs = paired_differences(
        drops.assign(loss=drops["value"]), {"calibration": reference}, {"calibration": candidate},
        on=["task", "method", "sparsity", "draw", "item"],
    )  # fmt: skip
    return crossed_bootstrap(
        pairs, cells=["method", "sparsity"], strata=["task"], n_resamples=n_resamples, level=level, seed=seed
    )


@keeps_evidence()
def rank_correlation(
    frame: pd.DataFrame, x: str, y: str, *, cluster: str, level: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> Interval:
    """Spearman's ρ of two columns, with an interval that resamples whole clusters (rows with one value of `cluster`).

    >>> rank_correlation(frame, "added_loss", "drop", cluster="task")

    The bootstrap's deviations are widened for few clusters (`widened_correlations`); `n_items` counts the clusters, and
    nothing was repeated. Resamples in which a column is constant have no value and are left out. Of fewer than three
    clusters the interval is undefined. The names of the clusters change nothing.

    Raises:
        ValueError: values that are NaN.
    """
    if frame[[x, y]].isna().any(axis=None):
        raise ValueError(f"{x} and {y} need values in every row")
    if (n_clusters := frame[cluster].nunique()) < 3:
        return Interval.undefined(f"at least three values of {cluster} are needed; there are {n_clusters}")
    frame = frame.sort_values([x, y])
    groups = [part[[x, y]].to_numpy(dtype=float) for _, part in frame.groupby(cluster)]
    groups.sort(key=lambda group: group.tolist())  # by what is in them, so that their names do not matter
    rows, of_group = np.concatenate(groups), np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    estimate = float(unit_ranks(rows[:, 0]) @ unit_ranks(rows[:, 1]))
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(len(groups), np.full(len(groups), 1 / len(groups)), size=n_resamples)
    samples = resampled_correlations(rows[:, 0], rows[:, 1], counts[:, of_group].astype(float))
    widened = widened_correlations(estimate, samples[np.isfinite(samples)], len(groups), generator)
    return Interval.from_samples(estimate, widened, level=level, n_items=len(groups), units=(cluster, "repetition"))


@keeps_evidence()
def knowledge_contrast(
    drops: pd.DataFrame, losses: pd.DataFrame, *, n_resamples: int = 10_000, level: float = 0.95, seed: int = 0
) -> Interval:
    """How much more of its knowledge a model loses than its perplexity rises, both as shares; positive: knowledge does.

    >>> knowledge_contrast(add_drops(task_rows), text_rows)

    Mean over tasks of (dense accuracy − accuracy) / (dense accuracy − chance), the share of what the model knew beyond
    guessing; minus the mean over texts of perplexity / dense perplexity − 1. Both are 0 where nothing changes and do
    not depend on how many questions or windows were read, which only narrow the interval. Cells (method × sparsity)
    count alike. Items and calibration draws are resampled; what a task's drop is divided by is held fixed.

    Args:
        drops: `add_drops` of a task sweep, closed-book tasks only; `dense` is averaged over each task's rows.
        losses: rows of `labutils.sweep` of the same model on texts, with the same calibration draws.

    Raises:
        ValueError: the two were not run on the same calibration sets, draws, methods and sparsities, or the dense model
            is not above chance on a task.
    """
    shared = ["calibration", "draw", "method", "sparsity"]
    before = losses.loc[losses["method"] == "dense", ["evaluation", "item", "loss"]].drop_duplicates()
    losses = losses[losses["method"] != "dense"].merge(
        before.rename(columns={"loss": "dense"}), on=["evaluation", "item"]
    )
    grids = [set(map(tuple, frame[shared].drop_duplicates().to_numpy())) for frame in (drops, losses)]
    if grids[0] != grids[1]:
        raise ValueError("accuracies and losses must come from the same calibration sets, draws, methods, sparsities")
    beyond = drops["dense"].groupby(drops["task"]).mean() - drops["chance"].groupby(drops["task"]).mean()
    if (beyond <= 0).any():
        raise ValueError(
            f"the dense model is not above chance on {beyond.idxmin()}: it knows nothing to lose; leave it out"
        )
    parts = [
        drops.assign(evaluation=drops["task"], value=drops["value"] / drops["task"].map(beyond), part="accuracy"),
        losses.assign(value=losses["loss"] - losses["dense"], part="loss"),
    ]
    frame = pd.concat([part[[*shared, "part", "evaluation", "item", "value"]] for part in parts])
    order = sorted(frame.groupby(["part", "calibration", "evaluation"]).groups)
    is_loss = np.array([part == "loss" for part, *_ in order])

    def difference(cell_means: Float[np.ndarray, "resamples columns"]) -> Float[np.ndarray, " resamples"]:
        per_stratum = cell_means.reshape(len(cell_means), len(order), -1)
        risen = np.expm1(per_stratum[:, is_loss]).mean(axis=(1, 2))
        return per_stratum[:, ~is_loss].mean(axis=(1, 2)) - risen

    return crossed_bootstrap(
        frame, difference, cells=["method", "sparsity"], strata=["part", "calibration", "evaluation"],
        n_resamples=n_resamples, level=level, seed=seed,
    )  # fmt: skip
