"""Studies of planted truths, for `verdict_coverage.py`: a function for each kind of statistic that a verdict reads."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.stats import norm

from labutils.stats.bootstrap import Interval, Statistic
from labutils.stats.extremes import lowest_cell
from labutils.stats.few_units import interval_over_units
from labutils.stats.pairing import Stratum
from labutils.stats.pigeonhole import cell_means, resampled_cell_means
from labutils.sweeps.task_contrasts import family_contrast, knowledge_contrast, rank_correlation
from labutils.sweeps.variance import set_effect

RESAMPLES = 600
Simulation = Callable[[np.random.Generator, bool], Interval]
SOLVED, GUESSED = 0.8, 0.25  # of the items of a task of knowledge


def tables(
    generator: np.random.Generator, effect: np.ndarray, *, n_draws: int, n_items: int, item: float, draw: float,
    rest: float, strata: int = 1,
) -> list[Stratum]:  # fmt: skip
    """Tables draws × items × cells: the effects of the cells plus items, draws and noise (standard deviations).

    Items and draws have a part that all cells share and one of each cell, equally large; strata have items and draws of
    their own.
    """
    found = []
    for number in range(strata):
        cells = len(effect)
        own = [generator.normal(size=(n_items, width)) for width in (1, cells)]
        drawn = [generator.normal(size=(n_draws, width)) for width in (1, cells)]
        values = (
            effect + item * (own[0] + own[1])[None] / np.sqrt(2) + draw * (drawn[0] + drawn[1])[:, None] / np.sqrt(2)
        )
        values = values + rest * generator.normal(size=(n_draws, n_items, cells))
        levels = {"draw": tuple(range(n_draws)), "item": tuple(range(n_items))}
        names = {"calibration": number, "evaluation": number}
        found.append(Stratum(names, levels, tuple((cell,) for cell in range(cells)), values))
    return found


def interval(found: list[Stratum], statistic: Statistic, generator: np.random.Generator) -> Interval:
    """What `crossed_bootstrap` gives for such tables."""
    samples = statistic(resampled_cell_means(found, RESAMPLES, generator))
    estimate = float(statistic(cell_means(found)[None])[0])
    return Interval.from_samples(estimate, samples, level=0.95, n_items=1)


def of_means(effect: float, n_cells: int = 3, statistic: Statistic | None = None, **sizes: float) -> Simulation:
    """The mean over all cells (or another statistic) of tables with the same effect everywhere, or none."""
    chosen = statistic or (lambda means: means.mean(axis=1))

    def simulate(generator: np.random.Generator, planted: bool) -> Interval:
        return interval(tables(generator, np.full(n_cells, effect * planted), **sizes), chosen, generator)

    return simulate


def of_curve(curve: np.ndarray, statistic: Statistic, **sizes: float) -> Simulation:
    """A statistic of cells that lie on a curve over sparsity, or on none."""

    def simulate(generator: np.random.Generator, planted: bool) -> Interval:
        return interval(tables(generator, curve * planted, **sizes), statistic, generator)

    return simulate


def of_lowest(planted_means: np.ndarray, other_means: np.ndarray, *, strata: int, **sizes: float) -> Simulation:
    """`lowest_cell` over strata × cells; every stratum has the same means, the first one its own lowest cell."""

    def simulate(generator: np.random.Generator, planted: bool) -> Interval:
        means = planted_means if planted else other_means
        found = tables(generator, np.full(len(means), means.max()), strata=strata, **sizes)
        found[0] = found[0]._replace(values=found[0].values + means - means.max())
        shape = found[0].values.shape
        index = np.indices(shape).reshape(3, -1)
        frames = [
            pd.DataFrame(
                {"draw": index[0], "item": index[1], "sparsity": index[2], "value": table.values.ravel(), **table.names}
            )
            for table in found
        ]
        rows = pd.concat(frames, ignore_index=True)
        return lowest_cell(rows, n_resamples=RESAMPLES, seed=int(generator.integers(2**31))).interval

    return simulate


def of_units(effect: float, k: int, between: float, within: float) -> Simulation:
    """`interval_over_units`: k units whose true effects differ, each measured with an error."""

    def simulate(generator: np.random.Generator, planted: bool) -> Interval:
        estimates = effect * planted + generator.normal(0, between, k) + generator.normal(0, within, k)
        return interval_over_units(pd.DataFrame({"model": range(k), "estimate": estimates}))

    return simulate


def of_sets(log_ratio: float, n_sets: int, n_draws: int) -> Simulation:
    """`set_effect`: means of draws around the means of sets; a log ratio of 0 is equal variances."""

    def simulate(generator: np.random.Generator, planted: bool) -> Interval:
        between = np.exp(log_ratio * planted / 2)
        scores = between * generator.normal(size=(n_sets, 1)) + generator.normal(size=(n_sets, n_draws))
        seed = int(generator.integers(2**31))
        return set_effect(scores[:, :, None], n_resamples=RESAMPLES, seed=seed).log_ratio

    return simulate


def of_ranks(n_clusters: int, n_rows: int, correlation: float) -> Simulation:
    """`rank_correlation`: rows in clusters, with half of each column's variance between clusters."""

    def simulate(generator: np.random.Generator, planted: bool) -> Interval:
        mix = np.array([[1, correlation * planted], [correlation * planted, 1]])
        parts = [generator.multivariate_normal([0, 0], mix, size=(n_clusters, width)) for width in (1, n_rows)]
        both = (parts[0] + parts[1]).reshape(-1, 2)
        frame = pd.DataFrame(both, columns=["x", "y"]).assign(task=np.repeat(np.arange(n_clusters), n_rows))
        seed = int(generator.integers(2**31))
        return rank_correlation(frame, "x", "y", cluster="task", n_resamples=400, seed=seed)

    return simulate


def scores(generator: np.random.Generator, kept: np.ndarray, n_draws: int, n_items: int, n_cells: int) -> pd.DataFrame:
    """Drops of tasks as `add_drops` gives them; `kept` holds the share of items solved, dense and pruned, per task.

    Items differ in how hard they are and draws in how much they harm; a task's other variation is noise.
    """
    hard = generator.normal(size=(len(kept), 1, n_items, 1))
    harm = 0.3 * generator.normal(size=(len(kept), n_draws, 1, 1))
    noise = generator.normal(size=(len(kept), n_draws, n_items, n_cells))
    pruned = (hard + harm + noise) / np.sqrt(2.09) < norm.ppf(kept[:, 1])[:, None, None, None]
    dense = (hard + generator.normal(size=hard.shape)) / np.sqrt(2) < norm.ppf(kept[:, 0])[:, None, None, None]
    task, draw, item, cell = np.indices(pruned.shape).reshape(4, -1)
    before = np.broadcast_to(dense, pruned.shape).ravel().astype(float)
    about = {"task": task, "draw": draw, "item": item, "method": cell, "sparsity": 0.5, "calibration": "c"}
    return pd.DataFrame(about | {"dense": before, "value": before - pruned.ravel()})


def of_families(n_tasks: int, n_inside: int, n_items: int, n_draws: int, drops: tuple[float, float]) -> Simulation:
    """`family_contrast`: tasks of a family lose another share of what they solved than all others, or the same."""

    def simulate(generator: np.random.Generator, planted: bool) -> Interval:
        inside = np.arange(n_tasks) < n_inside
        lost = np.where(inside, drops[0] if planted else drops[1], drops[1])
        kept = np.column_stack([np.full(n_tasks, 0.85), 0.85 * (1 - lost)])
        rows = scores(generator, kept, n_draws, n_items, 2)
        rows["family"] = np.where(inside, "in", "out")[rows["task"]]
        return family_contrast(rows, "in", n_resamples=400, seed=int(generator.integers(2**31)))

    return simulate


def of_knowledge(drop: float, rise: float, n_items: int, n_texts: int) -> Simulation:
    """`knowledge_contrast`: three tasks of four options lose `drop`, one text's loss of SD 0.08 rises by `rise`."""

    def simulate(generator: np.random.Generator, planted: bool) -> Interval:
        kept = np.array([[SOLVED, SOLVED - drop]] * 3) if planted else np.full((3, 2), SOLVED)
        rows = scores(generator, kept, 4, n_items, 2).assign(family="qa", chance=GUESSED)
        rows["task"] = "task " + rows["task"].astype(str)
        dense = 1 + 0.08 * generator.normal(size=n_texts)
        draw, item, cell = np.indices((4, n_texts, 2)).reshape(3, -1)
        loss = dense[item] + rise * planted + 0.01 * generator.normal(size=len(item))
        texts = {"calibration": "c", "draw": draw, "item": item, "method": cell, "sparsity": 0.5, "loss": loss}
        before = pd.DataFrame({"method": "dense", "item": range(n_texts), "loss": dense})
        losses = pd.concat([before, pd.DataFrame(texts)]).assign(evaluation="text")
        return knowledge_contrast(rows, losses, n_resamples=400, seed=int(generator.integers(2**31)))

    return simulate
