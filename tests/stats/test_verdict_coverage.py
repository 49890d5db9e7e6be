"""Planted truth, in seconds: what `benchmarks/verdict_coverage.py` finds with many studies must not fail with few.

With 60 studies, a statistic that misses the truth in one of twenty misses it at most eight times, but for one run in a
thousand; the same bound holds for findings on the wrong side.
"""

import importlib.util
import sys

import numpy as np
import pytest

from labutils.core import paths

SCRIPT = paths.REPOSITORY / "benchmarks" / "verdict_coverage.py"
QUICK = 60
MOST_MISSED = 8


def load_script():
    """The benchmark as a module; what it adds to the search path is taken away again."""
    before = list(sys.path)
    spec = importlib.util.spec_from_file_location("verdict_coverage", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


COVERAGE = load_script()
# The frames of rows behind these take long; the benchmark tells of them.
SLOW = {name for name in COVERAGE.STUDIES if name.startswith(("family", "lowest of 8", "knowledge", "rank"))}


@pytest.mark.parametrize("name", sorted(set(COVERAGE.STUDIES) - SLOW))
def test_the_truth_is_covered(name):
    found = COVERAGE.run(name, QUICK)
    missed = round((1 - found["coverage"]["share"]) * found["coverage"]["studies"])
    wrong = found.get("wrong side", {"share": 0})["share"] * QUICK
    assert missed <= MOST_MISSED and round(wrong) <= MOST_MISSED


@pytest.mark.parametrize("name", ["rank correlation, 17 tasks × 15 rows", "rank correlation, 3 tasks × 15 rows"])
def test_correlations_of_few_clusters_are_covered(name):
    study, generator = COVERAGE.STUDIES[name], np.random.default_rng(1)
    found = [study.simulate(generator, True) for _ in range(30)]
    assert sum(one.low <= study.truth <= one.high for one in found) >= 25  # 24 or fewer: one run in three hundred


def test_the_same_studies_are_simulated_at_every_call():
    name = "mean over 3 models"
    twice = [COVERAGE.run(name, 5)["coverage"] for _ in range(2)]
    assert twice[0] == twice[1]
