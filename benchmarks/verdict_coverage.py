"""Does the interval of every verdict's statistic hold the truth as often as it says?

For each statistic that a verdict of the collection reads, studies of the notebooks' sizes are simulated around a
planted truth, once with the effect that is claimed and once at the boundary where nothing may be said. Told are

* coverage: the share of intervals that hold the planted effect (95 % is aimed at);
* power: the share that lie clear of the boundary, on the effect's side;
* wrong side: the share that lie clear of it, on either side, where the truth lies on it (5 % at most is aimed at),

each with its exact binomial interval. Effects and components of variance are of the order of the stored verdicts; they
were taken from those once and not changed after a result. Where a statistic is arithmetic of cell means alone, the
tables of cells are simulated directly, without the frames of rows that they are made from.

    OMP_NUM_THREADS=1 python benchmarks/verdict_coverage.py --studies 400

writes `benchmarks/results/verdict_coverage.json` (minutes on one core).
"""

import argparse
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy.stats import binomtest, norm

from labutils.stats.bootstrap import Interval, Statistic, crossover, slope
from labutils.stats.extremes import lowest_cell
from labutils.stats.few_units import interval_over_units
from labutils.stats.pairing import Stratum
from labutils.stats.pigeonhole import cell_means, resampled_cell_means
from labutils.sweeps.task_contrasts import family_contrast, knowledge_contrast, rank_correlation
from labutils.sweeps.variance import set_effect

sys.path.insert(0, str(Path(__file__).parent))
from common import RESULTS, describe_machine, write_result

RESAMPLES = 600
Simulation = Callable[[np.random.Generator, bool], Interval]


class Study(NamedTuple):
    """A statistic at the sizes of a notebook.

    Attributes:
        simulate: from a generator, and whether the effect is planted, to the interval of one study.
        truth: the statistic's value where the effect is planted.
        boundary: its value where it is not, against which power and wrong side are counted; None where the statistic
            has none, such as the place of a crossing.
        about: the claims that read it, and the sizes.
    """

    simulate: Simulation
    truth: float
    boundary: float | None
    about: str


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


GRID = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
GROWING = 0.03 * (GRID - 0.43)
SMALL = {"item": 0.03, "draw": 0.006, "rest": 0.03}  # standard deviations, in nats, of C16's order
UNEVEN = np.r_[-0.03, np.zeros(23)]
AT_MARGIN, ALL_AT_MARGIN = np.r_[-0.008, np.zeros(23)], np.full(24, -0.008)
SEVENTEEN_RHO = 6 / np.pi * np.arcsin(0.4 / 2)  # Spearman's ρ of normals with Pearson's r = 0.4
SOLVED, GUESSED = 0.8, 0.25  # of the items of a task of knowledge
STUDIES = {
    "mean, 5 draws × 64 items × 3 cells": Study(
        of_means(0.012, n_draws=5, n_items=64, **SMALL), 0.012, 0.0, "C01, C02, C04, C05, C16"
    ),
    "mean, 3 draws × 40 items × 8 settings": Study(
        of_means(0.006, n_draws=3, n_items=40, strata=8, **SMALL), 0.006, 0.0, "contrasts of 03"
    ),
    "mean, 10 draws × 16 texts × 28 concepts": Study(
        of_means(0.006, 1, n_draws=10, n_items=16, strata=28, item=0.03, draw=0.01, rest=0.02), 0.006, 0.0, "C10"
    ),
    "mean, 30 samples × 200 pairs × 16 cells": Study(
        of_means(0.01, 16, n_draws=30, n_items=200, item=0.04, draw=0.01, rest=0.03), 0.01, 0.0, "C13"
    ),
    "mean, 36 seeds × 400 items × 4 tasks": Study(
        of_means(0.015, 1, n_draws=36, n_items=400, strata=4, item=0.1, draw=0.03, rest=0.3), 0.015, 0.0, "C14, C15"
    ),
    "slope, 5 draws × 64 items × 8 sparsities": Study(
        of_curve(GROWING, slope(GRID), n_draws=5, n_items=64, **SMALL), 0.03, 0.0, "C03"
    ),
    "crossing, 5 draws × 64 items × 8 sparsities": Study(
        of_curve(4 * GROWING, crossover(GRID), n_draws=5, n_items=64, **SMALL), 0.43, None, "beside C03"
    ),
    "lowest of 8 settings × 24 cells, one low": Study(
        of_lowest(UNEVEN, AT_MARGIN, strata=8, n_draws=3, n_items=40, **SMALL), -0.03, -0.008, "C06, C17"
    ),
    "lowest of 1 setting × 24 cells, all tied at the margin": Study(
        of_lowest(ALL_AT_MARGIN, ALL_AT_MARGIN, strata=1, n_draws=3, n_items=40, **SMALL), -0.008, -0.008, "C06, C17"
    ),
    "mean over 3 models": Study(of_units(0.6, 3, 0.3, 0.02), 0.6, 0.0, "claims over architectures"),
    "mean over 8 models": Study(of_units(0.4, 8, 0.3, 0.1), 0.4, 0.0, "claims over architectures"),
    "log ratio of variances, 7 sets × 4 draws": Study(of_sets(1.4, 7, 4), 1.4, 0.0, "C07"),
    "family, 20 tasks × 24 items × 4 draws": Study(
        of_families(20, 6, 24, 4, (0.1, 0.2)), -0.1, 0.0, "C08"
    ),
    "rank correlation, 17 tasks × 15 rows": Study(of_ranks(17, 15, 0.4), SEVENTEEN_RHO, 0.0, "C09"),
    "rank correlation, 7 sets × 4 rows": Study(of_ranks(7, 4, 0.4), SEVENTEEN_RHO, 0.0, "properties of texts in 04"),
    "rank correlation, 3 tasks × 15 rows": Study(of_ranks(3, 15, 0.4), SEVENTEEN_RHO, 0.0, "C09 on few tasks"),
    "knowledge, 3 tasks × 100 items, 48 windows": Study(
        of_knowledge(0.04, 0.025, 100, 48), 0.04 / (SOLVED - GUESSED) - np.expm1(0.025), 0.0, "C23"
    ),
}  # fmt: skip


def run(name: str, n_studies: int) -> dict[str, object]:
    """Coverage, power and wrong side of one statistic, each with its interval; the same at every call."""
    study, generator = STUDIES[name], np.random.default_rng(zlib.crc32(name.encode()))
    start = time.process_time()
    planted = [study.simulate(generator, True) for _ in range(n_studies)]
    covered = [one.low <= study.truth <= one.high for one in planted if np.isfinite(one.low)]
    result = {"about": study.about, "truth": study.truth, "boundary": study.boundary, "coverage": share(covered)}
    if study.boundary is not None:
        above = study.truth > study.boundary
        clear = [one.low > study.boundary if above else one.high < study.boundary for one in planted]
        absent = [study.simulate(generator, False) for _ in range(n_studies)]
        wrong = [one.low > study.boundary or one.high < study.boundary for one in absent]
        result |= {"power": share(clear), "wrong side": share(wrong)}
    return result | {"processor seconds": round(time.process_time() - start, 1)}


def share(found: list[bool]) -> dict[str, float]:
    """A share with its exact binomial interval (Clopper & Pearson 1934)."""
    ends = binomtest(int(sum(found)), len(found)).proportion_ci(0.95)
    return {"share": sum(found) / len(found), "low": ends.low, "high": ends.high, "studies": len(found)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=400)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    found = Parallel(n_jobs=options.jobs)(delayed(run)(name, options.studies) for name in STUDIES)
    statistics = dict(zip(STUDIES, found, strict=True))
    shares = [{key: one["share"] for key, one in each.items() if isinstance(one, dict)} for each in found]
    print(pd.DataFrame(shares, index=list(STUDIES)).to_string())
    write_result(RESULTS / "verdict_coverage.json", {"machine": describe_machine(), "statistics": statistics})


if __name__ == "__main__":
    main()
