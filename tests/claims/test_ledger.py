"""The ledger: correction for many tests, files that survive interruptions, and tables for readers."""

import json
import re
from pathlib import Path

import pytest

from labutils.claims.ledger import correct, ledger, ledger_table, tensions_table
from labutils.claims.registry import load_claims, not_testable
from labutils.claims.verdicts import Verdict


def with_p(claim_id: str, p_value: float, outcome: str = "supported") -> Verdict:
    numbers = {"estimate": 0.1, "low": 0.05, "high": 0.15, "n_items": 9, "n_draws": 3}
    return Verdict(
        claim=claim_id,
        statement="a statement",
        outcome=outcome,
        first_outcome=outcome,
        scope={"model": "m"},
        p_value=p_value,
        **numbers,
    )


def write_ledger(path: Path, verdicts: list[Verdict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(verdict.as_row()) + "\n" for verdict in verdicts))


def test_correction_downgrades_what_many_tests_explain() -> None:
    """Holm by hand: 3 · 0.01 = 0.03, 2 · 0.03 = 0.06, and 0.06 at least for 0.04."""
    given = [with_p("C01", 0.03), with_p("C02", 0.01), with_p("C03", 0.04, "contradicted")]
    given.append(not_testable("C47", "no experts", scope={"model": "m"}))
    after = correct(given)
    assert [verdict.outcome for verdict in after] == ["inconclusive", "supported", "inconclusive", "not testable here"]
    assert [verdict.p_holm for verdict in after[:3]] == pytest.approx([0.06, 0.03, 0.06])
    assert after[3].p_holm is None
    assert after[2].correction == "contradicted before Holm's correction over 3 tests, p = 0.06 after it"
    assert "Contradicted before Holm's correction" in after[2].sentence()
    assert correct(after) == after
    assert correct(after[:1])[0].outcome == "supported"
    assert correct([with_p("C02", 0.9, "equivalent")])[0].outcome == "equivalent"
    assert correct([]) == []


def test_ledger_reads_every_run_and_corrects_over_all(tmp_path: Path) -> None:
    write_ledger(tmp_path / "one" / "ledger.jsonl", [with_p("C01", 0.03), with_p("C02", 0.01)])
    write_ledger(tmp_path / "two" / "deep" / "ledger.jsonl", [with_p("C02", 0.04, "contradicted")])
    table = ledger(tmp_path)
    assert table[["run", "claim"]].to_numpy().tolist() == [["one", "C01"], ["one", "C02"], ["two/deep", "C02"]]
    assert table["outcome"].tolist() == ["inconclusive", "supported", "inconclusive"]
    assert table["p_holm"].tolist() == pytest.approx([0.06, 0.03, 0.06])
    assert ledger(tmp_path / "one" / "ledger.jsonl")["outcome"].tolist() == ["supported", "supported"]
    # A run's own ledger, put together from those below it, stands for them.
    write_ledger(tmp_path / "one" / "study" / "ledger.jsonl", [with_p("C01", 0.03)])
    assert len(ledger(tmp_path)) == 3


def test_ledger_reports_an_interrupted_last_line_and_refuses_other_damage(tmp_path: Path) -> None:
    path = tmp_path / "run" / "ledger.jsonl"
    write_ledger(path, [with_p("C01", 0.03), with_p("C02", 0.01)])
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    with pytest.warns(UserWarning, match="last line is cut off"):
        table = ledger(tmp_path)
    assert table["claim"].tolist() == ["C01"]
    assert "run/ledger.jsonl" in ledger_table(table).to_html()
    path.write_bytes(b"{broken\n" + whole)
    with pytest.raises(ValueError, match="line 1 is not JSON"):
        ledger(tmp_path)
    path.write_bytes(b'{"claim": "C01"}\n' + whole)
    with pytest.raises(ValueError, match="line 1 is not a verdict"):
        ledger(tmp_path)
    write_ledger(path, [with_p("C99", 0.03)])
    with pytest.raises(LookupError, match="C99"):
        ledger(tmp_path)


def test_ledger_without_files_or_without_verdicts(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match=r"no ledger\.jsonl in"):
        ledger(tmp_path)
    write_ledger(tmp_path / "ledger.jsonl", [])
    empty = ledger(tmp_path)
    assert empty.empty
    assert ledger_table(empty).to_html().count("not yet tested") == 62


def test_ledger_table_shows_all_claims_in_words_and_escapes_text(tmp_path: Path) -> None:
    evil = not_testable("C47", "<script>alert(1)</script>", scope={"model": "<b>m</b>"})
    folder = tmp_path / "<i>run</i>"
    write_ledger(folder / "ledger.jsonl", [with_p("C02", 0.01), with_p("C03", 0.01, "contradicted"), evil])
    page = ledger_table(ledger(tmp_path)).to_html()
    assert all(f">{claim_id}<" in page for claim_id in load_claims()["id"])
    assert page.count("· not yet tested") == 59
    assert "✔ supported" in page
    assert "✘ contradicted: not transferred to this model" in page
    assert "+0.10 [0.05, 0.15]" in page
    assert "3 of 62 claims looked at, 2 tests" in page
    assert "over items and what was repeated (calibration draws)" in page
    assert "0.1 contradictions would be expected" in page
    assert not any(tag in page for tag in ("<script", "<b>m", "<i>run"))
    assert "&lt;script&gt;" in page
    assert "&lt;i&gt;run&lt;/i&gt;" in page
    assert page == ledger_table(ledger(tmp_path)).to_html()


def test_tensions_table_puts_both_sides_next_to_each_other(tmp_path: Path) -> None:
    write_ledger(tmp_path / "ledger.jsonl", [with_p("C02", 0.001), with_p("C22", 0.001, "contradicted")])
    page = tensions_table(ledger(tmp_path)).to_html()
    cell = next(text for text in re.findall(r"<td[^>]*>([^<]*)</td>", page) if text.startswith("C02: ✔ supported"))
    assert cell.split("\n")[1:] == [
        "C03: · not yet tested",
        "against",
        "C22: ✘ contradicted: not transferred to this model (m, +0.10 [0.05, 0.15])",
    ]
    assert "LLM-Pruner: published work" in page
