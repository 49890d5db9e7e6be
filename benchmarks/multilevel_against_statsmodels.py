"""How long does a mixed model take, beside statsmodels, and do both find the same optimum?

A random intercept and one random slope: by default 9,000 rows in 300 groups, simulated. Timed is all from the frame
to the table of fixed effects, which in ours includes Satterthwaite's degrees of freedom. The fits alternate, and the
ratio is the median over pairs, since the clock of a shared machine drifts; both the wall clock and the processor time
of the process are reported, on one thread.

    OMP_NUM_THREADS=1 python benchmarks/multilevel_against_statsmodels.py --repeats 5

writes `benchmarks/results/multilevel_against_statsmodels.json`. It needs statsmodels, which the collection does not.
"""

import argparse
import datetime
import json
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import statsmodels
import statsmodels.formula.api

from labutils.multilevel import fit_multilevel

RESULTS = Path(__file__).parent / "results" / "multilevel_against_statsmodels.json"


def simulated(n_rows: int, n_groups: int) -> pd.DataFrame:
    """x varies within groups, w between; intercepts and slopes vary, with a correlation."""
    generator = np.random.default_rng(0)
    g = np.arange(n_rows) % n_groups
    x, w = generator.normal(size=n_rows), generator.normal(size=n_groups)[g]
    covariance = [[40.0, -0.3], [-0.3, 1.0]]
    intercepts, slopes = generator.multivariate_normal([20.0, 1.5], covariance, size=n_groups).T
    y = intercepts[g] + slopes[g] * x - 0.4 * w + 7 * generator.normal(size=n_rows)
    return pd.DataFrame({"y": y, "x": x, "w": w, "g": g})


def ours(data: pd.DataFrame) -> float:
    """Log-likelihood, after the table of fixed effects was made."""
    model = fit_multilevel("y ~ x + w + (1 + x | g)", data)
    return model.log_likelihood if len(model.fixed) else float("nan")


def theirs(data: pd.DataFrame) -> float:
    """The same by statsmodels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = statsmodels.formula.api.mixedlm("y ~ x + w", data, groups="g", re_formula="~x").fit(reml=True)
        return fit.llf if len(fit.bse) else float("nan")


def timed(work: Callable[[pd.DataFrame], float], data: pd.DataFrame) -> dict[str, float]:
    """Wall and processor seconds of one call, and what it returned."""
    wall, processor = time.perf_counter(), time.process_time()
    log_likelihood = work(data)
    return {
        "wall": time.perf_counter() - wall, "processor": time.process_time() - processor,
        "log_likelihood": log_likelihood,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="pairs of fits (default 5)")
    parser.add_argument("--rows", type=int, default=9_000, help="rows of the table (default 9000)")
    parser.add_argument("--groups", type=int, default=300, help="groups they fall into (default 300)")
    options = parser.parse_args()
    data = simulated(options.rows, options.groups)
    ours(data)  # warm-up
    pairs = []
    for _ in range(options.repeats):
        pairs.append({"ours": timed(ours, data), "statsmodels": timed(theirs, data)})
        print({name: {clock: round(value, 3) for clock, value in run.items()} for name, run in pairs[-1].items()})
    summary = {
        clock: {
            "ours_seconds": statistics.median(pair["ours"][clock] for pair in pairs),
            "statsmodels_seconds": statistics.median(pair["statsmodels"][clock] for pair in pairs),
            "ratio": statistics.median(pair["ours"][clock] / pair["statsmodels"][clock] for pair in pairs),
        }
        for clock in ("wall", "processor")
    }
    log_likelihoods = {name: pairs[0][name]["log_likelihood"] for name in ("ours", "statsmodels")}
    about = {
        "date": datetime.date.today().isoformat(), "processor": platform.processor() or platform.machine(),
        "statsmodels": statsmodels.__version__, "numpy": np.__version__, "rows": options.rows,
        "groups": options.groups, "repeats": options.repeats, "log_likelihood": log_likelihoods,
    }  # fmt: skip
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({**about, "median_over_pairs": summary}, indent=1) + "\n")
    print(json.dumps({**summary, "log_likelihood": log_likelihoods}, indent=1))


if __name__ == "__main__":
    main()
