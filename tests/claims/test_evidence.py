"""Verdicts judged again from the rows that were kept of them, and from nothing else."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from labutils.claims.evidence import FILE, judge_again, write_evidence
from labutils.claims.ledger import ledger
from labutils.claims.registry import Guard, judge, not_testable
from labutils.claims.verdicts import Verdict
from labutils.core.parquet import read_slim, slim_parquet
from labutils.stats.bootstrap import crossed_bootstrap, crossover, slope
from labutils.stats.evidence import Evidence
from labutils.stats.extremes import lowest_cell
from labutils.stats.few_units import interval_over_units

SCOPE = {"model": "tiny", "corpus": "made up"}
GRID = [0.3, 0.5, 0.7]


@pytest.fixture
def gains() -> pd.DataFrame:
    """Items × draws × sparsities, of which the gain grows with the sparsity."""
    generator = np.random.default_rng(0)
    rows = [
        {"item": item, "draw": draw, "sparsity": sparsity, "value": sparsity - 0.4 + generator.normal(0, 0.2)}
        for item in range(12) for draw in range(3) for sparsity in GRID
    ]  # fmt: skip
    return pd.DataFrame(rows)


def verdicts(gains: pd.DataFrame) -> list[Verdict]:
    about = {"dense_loss": 2.0, "scope": SCOPE}
    units = pd.DataFrame({"model": ["a", "b", "c"], "estimate": [0.1, 0.2, 0.4]})
    return [
        judge("C02", interval=crossed_bootstrap(gains, seed=3, level=0.9), unit="nats", **about),
        judge("C03", gains, statistic=slope(GRID), **about),
        judge("C06", interval=lowest_cell(gains, n_resamples=500).interval, **about),
        judge("C05", interval=interval_over_units(units, unit="model"), **about),
        judge("C02", gains, guard=Guard(0.2, 0.6, 0.25), **about),
        not_testable("C07", "one calibration set", scope=SCOPE),
    ]


def test_the_rows_lead_to_the_same_verdicts(gains: pd.DataFrame, tmp_path: Path) -> None:
    found = verdicts(gains)
    assert [each.judged is None for each in found] == [False, False, False, False, True, True]
    write_evidence(tmp_path / "01_study" / "evidence", found)
    assert judge_again(tmp_path / "01_study" / "evidence") == found
    again = ledger(tmp_path, from_rows=True)
    assert set(again["run"]) == {"01_study"} and list(again["estimate"].dropna()) == [
        each.estimate for each in found if each.estimate is not None
    ]


def test_a_statistic_of_ones_own_keeps_no_rows_and_its_verdict_as_it_is(gains: pd.DataFrame, tmp_path: Path) -> None:
    own = judge("C02", gains, statistic=lambda means: means.max(axis=1), dense_loss=2.0, scope=SCOPE)
    assert own.judged is None
    write_evidence(tmp_path, [own])
    assert judge_again(tmp_path) == [own]


def test_rows_that_were_altered_are_refused(gains: pd.DataFrame, tmp_path: Path) -> None:
    write_evidence(tmp_path, verdicts(gains)[:1])
    (tmp_path / "0-C02.parquet").write_bytes(slim_parquet(gains.assign(value=1.0)))
    with pytest.raises(ValueError, match="is not the table that was judged"):
        judge_again(tmp_path)


@pytest.mark.parametrize("name", ["os.system", "labutils.core.files.write_atomically", "labutils.stats.bootstrap.gone"])
def test_no_other_function_is_called(gains: pd.DataFrame, tmp_path: Path, name: str) -> None:
    write_evidence(tmp_path, verdicts(gains)[:1])
    (entry,) = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps([entry | {"function": name}]))
    with pytest.raises(ValueError, match="is not a function|makes no interval|is not there"):
        judge_again(tmp_path)


def test_nothing_kept_is_told(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="no kept rows"):
        ledger(tmp_path, from_rows=True)
    with pytest.raises(LookupError, match="nothing to judge again"):
        judge_again(tmp_path)


def test_every_number_comes_back_to_the_last_bit() -> None:
    frame = pd.DataFrame({"single": np.float32([0.1, 0.7]).astype(float), "double": [0.1, 0.7], "name": ["a", "b"]})
    pd.testing.assert_frame_equal(read_slim(slim_parquet(frame)), frame, check_exact=True)


def test_statistics_with_a_grid_are_values() -> None:
    assert slope(GRID) == slope(tuple(GRID)) != slope([0.1, 0.5]) and crossover(GRID) == crossover(GRID)


@pytest.mark.parametrize("name", ["labutils.core.files.hash_path", "os.getcwd"])
def test_kept_rows_may_name_statistics_alone(name: str) -> None:
    """What rows name is called; so nothing else of the package, nor what its modules import, can be named."""
    function = "labutils.stats.bootstrap.crossed_bootstrap"
    for statistic in ({"made by": name}, {"function": name}):
        evidence = Evidence(function, "", pd.DataFrame(), {"statistic": statistic}, {})
        with pytest.raises(ValueError, match="is not a statistic that rows can be judged by"):
            evidence.recompute()
