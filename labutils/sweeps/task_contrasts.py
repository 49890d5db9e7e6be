"""From the rows of a task sweep to the numbers that claims are judged by: drops, contrasts, variances, correlations."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import binomtest, norm

from labutils.stats.bootstrap import Interval, crossed_bootstrap, paired_differences
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
    dense = drops.groupby("task")["dense"].mean()
    if (dense <= 0).any():
        raise ValueError(
            f"the dense model scores {dense.min():.3g} on {dense.idxmin()}: no relative drop; leave it out"
        )
    inside = drops.groupby("task")["family"].first() == family
    if inside.all() or not inside.any():
        raise LookupError(f"tasks inside and outside of the family {family!r} are needed; there are {dict(inside)}")
    scaled = drops.assign(value=drops["value"] / drops["task"].map(dense))
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


def accuracy_error(solved: pd.Series, n: pd.Series) -> pd.Series:
    """Standard error of an accuracy with two solved and two unsolved items added (Agresti & Coull 1998, z = 2)."""
    share = (solved + 2) / (n + 4)
    return np.sqrt(share * (1 - share) / (n + 4))


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


def knowledge_contrast(
    drops: pd.DataFrame, losses: pd.DataFrame, *, n_resamples: int = 10_000, level: float = 0.95, seed: int = 0
) -> Interval:
    """How much sooner accuracy falls than the loss rises, both relative to the dense model and in units of its noise.

    >>> knowledge_contrast(add_drops(task_rows), text_rows)

    Mean over tasks of (dense accuracy − accuracy) / dense accuracy, minus the mean over texts of (loss − dense loss) /
    dense loss; each first divided by the standard error of the dense mean over its items, relative to that mean. The
    standard error of an accuracy is that of Agresti & Coull (1998), which a perfect score does not bring to zero.

    Args:
        drops: `add_drops` of a task sweep, closed-book tasks only.
        losses: rows of `labutils.sweep` of the same model on texts, with the same calibration draws.

    Raises:
        ValueError: the two were not run on the same calibration sets, draws, methods and sparsities.
    """
    cells, shared = ["method", "sparsity"], ["calibration", "draw", "method", "sparsity"]
    before = losses.loc[losses["method"] == "dense", ["evaluation", "item", "loss"]].drop_duplicates()
    losses = losses[losses["method"] != "dense"].merge(
        before.rename(columns={"loss": "dense"}), on=["evaluation", "item"]
    )
    grids = [set(map(tuple, frame[shared].drop_duplicates().to_numpy())) for frame in (drops, losses)]
    if grids[0] != grids[1]:
        raise ValueError("accuracies and losses must come from the same calibration sets, draws, methods, sparsities")
    parts = [
        drops.assign(evaluation=drops["task"], change=drops["value"], part="accuracy"),
        losses.assign(change=losses["loss"] - losses["dense"], part="loss"),
    ]
    frame = pd.concat([part[[*shared, "evaluation", "item", "dense", "change", "part"]] for part in parts])
    dense = frame.groupby("evaluation")["dense"].mean()
    items = frame.drop_duplicates(["evaluation", "item"]).groupby("evaluation")
    kind = items["part"].first()
    errors = items["dense"].std(ddof=1) / np.sqrt(items.size())
    solved = items["dense"].sum().where(kind == "accuracy")
    noise = errors.where(kind == "loss", accuracy_error(solved, items.size())) / dense
    if not (noise > 0).all():
        raise ValueError(f"the dense model's score on {noise.idxmin()} has no noise to measure by: all items are equal")
    scale = 1 / (dense * noise)
    frame = frame.assign(value=frame["change"] * frame["evaluation"].map(scale))
    order = sorted(frame.groupby(["calibration", "evaluation"]).groups)
    sizes = {name: sum(kind[evaluation] == name for _, evaluation in order) for name in ("accuracy", "loss")}
    signs = np.array([1 / sizes["accuracy"] if kind[name] == "accuracy" else -1 / sizes["loss"] for _, name in order])
    n_cells = len(frame.groupby(cells))

    def difference(cell_means: Float[np.ndarray, "resamples columns"]) -> Float[np.ndarray, " resamples"]:
        return cell_means.reshape(len(cell_means), len(order), n_cells).mean(2) @ signs

    return crossed_bootstrap(
        frame, difference, cells=cells, strata=["calibration", "evaluation"], n_resamples=n_resamples, level=level,
        seed=seed,
    )  # fmt: skip
