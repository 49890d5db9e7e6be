"""A run beside stored verdicts: the same, another outcome, or too small to tell."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from labutils.claims.beside_stored import OTHER, SAME, TOO_SMALL, beside_stored, describe_beside
from labutils.claims.evidence import write_evidence
from labutils.claims.registry import judge, not_testable
from labutils.claims.verdicts import Verdict

SCOPE = {"model": "tiny"}


def verdict(claim: str, effect: float, *, n_items: int, sparsity: float = 0.6) -> Verdict:
    """Items around an effect, alike over two calibration draws."""
    items = np.random.default_rng(n_items).normal(0, 1, n_items)
    items += effect - items.mean()
    rows = [
        {"evaluation": "a", "calibration": "a", "item": item, "draw": draw, "sparsity": sparsity, "value": value}
        for item, value in enumerate(items) for draw in range(2)
    ]  # fmt: skip
    return judge(claim, pd.DataFrame(rows), dense_loss=1.0, scope=SCOPE)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "stored" / "02_strategy", tmp_path / "run" / "02_strategy" / "evidence"


def compare(folders: tuple[Path, Path], stored: list[Verdict], here: list[Verdict]) -> pd.DataFrame:
    for folder, verdicts in zip(folders, (stored, here), strict=True):
        write_evidence(folder, verdicts)
    return beside_stored(folders[1].parents[1], stored=folders[0].parent)


def test_what_agrees_needs_no_power(folders: tuple[Path, Path]) -> None:
    table = compare(folders, [verdict("C05", 0.5, n_items=200)], [verdict("C05", 0.9, n_items=40)])
    assert table["reading"].tolist() == [SAME] and table["power"].isna().all()
    assert describe_beside(table) == "Of 1 verdicts that are stored too, 1 have the same outcome."


def test_a_small_run_is_too_small_and_a_large_one_differs(folders: tuple[Path, Path]) -> None:
    """Five items with deviation 1 seldom see an effect of 0.5; 150 nearly always do: none found is a difference."""
    stored = [verdict("C05", 0.5, n_items=200), verdict("C16", 0.5, n_items=200)]
    table = compare(folders, stored, [verdict("C05", 0.0, n_items=5), verdict("C16", 0.0, n_items=150)])
    assert dict(zip(table["claim"], table["reading"], strict=True)) == {"C05": TOO_SMALL, "C16": OTHER}
    assert table["power"].tolist()[0] < 0.5 < 0.95 < table["power"].tolist()[1]
    assert describe_beside(table).endswith(f"0 have the same outcome; {TOO_SMALL}: C05; {OTHER}: C16.")


def test_where_no_power_can_be_known_the_reason_is_told(folders: tuple[Path, Path]) -> None:
    stored = [verdict("C05", 0.5, n_items=40), verdict("C16", 0.5, n_items=40)]
    here = [verdict("C05", 0.0, n_items=40, sparsity=0.8), not_testable("C16", "none", scope=SCOPE)]
    readings = compare(folders, stored, here)["reading"].tolist()
    assert readings == [
        "no power known: the two studies have no setting and no sparsity in common",
        "no power known: not both were judged from rows",
    ]


def test_nothing_stored_gives_no_rows(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    write_evidence(folders[1], [verdict("C05", 0.5, n_items=40)])
    table = beside_stored(folders[1].parents[1], stored=tmp_path / "none")
    assert table.empty and describe_beside(table).startswith("No verdict of this run is stored")
