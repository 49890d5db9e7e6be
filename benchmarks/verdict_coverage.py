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
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy.stats import binomtest

from labutils.stats.bootstrap import crossover, slope

sys.path.insert(0, str(Path(__file__).parent))
from common import RESULTS, describe_machine, write_result
from planted_studies import (
    GUESSED,
    SOLVED,
    Simulation,
    of_curve,
    of_families,
    of_knowledge,
    of_lowest,
    of_means,
    of_ranks,
    of_sets,
    of_units,
)


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


GRID = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
GROWING = 0.03 * (GRID - 0.43)
SMALL = {"item": 0.03, "draw": 0.006, "rest": 0.03}  # standard deviations, in nats, of C16's order
UNEVEN = np.r_[-0.03, np.zeros(23)]
AT_MARGIN, ALL_AT_MARGIN = np.r_[-0.008, np.zeros(23)], np.full(24, -0.008)
SEVENTEEN_RHO = 6 / np.pi * np.arcsin(0.4 / 2)  # Spearman's ρ of normals with Pearson's r = 0.4
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
