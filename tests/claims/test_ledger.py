"""The ledger: correction for many tests, files that survive interruptions, and tables for readers."""

import json
import re
from pathlib import Path

import pytest

from labutils.claims.ledger import correct, ledger, reject_repeated
from labutils.claims.ledger_page import ledger_table, tensions_table, untested_claims
from labutils.claims.outcomes import NEGLIGIBLE
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


def test_a_negligible_effect_that_does_not_survive_is_no_effect() -> None:
    """Of a claim of an effect, that it lies within the margin is left; of the others nothing."""
    given = [with_p("C02", 0.04, NEGLIGIBLE), with_p("C01", 0.03, NEGLIGIBLE), with_p("C05", 0.001, NEGLIGIBLE)]
    after = correct(given)
    assert [verdict.outcome for verdict in after] == ["equivalent", "inconclusive", NEGLIGIBLE]
    assert after[0].correction == "real, negligible before Holm's correction over 3 tests, p = 0.06 after it"


def test_what_is_no_test_of_its_own_is_neither_corrected_nor_corrected_for() -> None:
    """C48 is exploratory and R12 the fact of C14: with them in the family, 3 · 0.02 would exceed 0.05."""
    given = [with_p("C14", 0.02), with_p("R12", 0.001), with_p("C48", 0.04), with_p("C15", 0.03)]
    after = {verdict.claim: verdict for verdict in correct(given)}
    assert [after[name].p_holm for name in ("C14", "R12", "C48", "C15")] == [0.04, None, None, 0.04]
    assert all(verdict.outcome == "supported" for verdict in after.values())
    assert after["R12"].correction.startswith("the same fact as C14") and "neither" in after["C48"].sentence()
    assert after["C14"].correction == ""


def test_a_run_with_two_verdicts_on_one_claim_is_refused(tmp_path: Path) -> None:
    twice = [with_p("C16", 0.03), with_p("C17", 0.2), with_p("C16", 0.03)]
    with pytest.raises(ValueError, match=r"the study holds 2 verdicts on C16 \(on m; m\).*Conclude with the verdict"):
        reject_repeated(twice, "the study")
    reject_repeated(twice[:2], "the study")
    write_ledger(tmp_path / "run" / "ledger.jsonl", twice)
    with pytest.raises(ValueError, match="ledger.jsonl holds 2 verdicts on C16"):
        ledger(tmp_path)


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
    assert "0 of 62 claims looked at, 0 tests" in ledger_table(empty).to_html()
    assert untested_claims(empty).count("\n| C") == 50 and untested_claims(empty).count("\n| R") == 12


def test_ledger_table_shows_what_was_tested_in_words_and_escapes_text(tmp_path: Path) -> None:
    evil = not_testable("C47", "<script>alert(1)</script>", scope={"model": "<b>m</b>"})
    given = [with_p("C02", 0.01), with_p("C03", 0.01, "contradicted"), evil, with_p("C48", 0.01), with_p("R12", 0.01)]
    write_ledger(tmp_path / "<i>run</i>" / "ledger.jsonl", [*given, with_p("C14", 0.01)])
    page = ledger_table(ledger(tmp_path)).to_html()
    # In the order of the registry, R12 behind the fact that it restates, what is exploratory last.
    assert re.findall(r">([CR]\d\d)<", page) == ["C02", "C03", "C14", "R12", "C47", "C48"]
    assert '<a href="08_layer_distillation.ipynb">R12</a>' in page and ">C47<" in page
    assert "✔ supported" in page
    assert "✘ contradicted: not transferred to this model" in page
    assert "+0.10 [0.05, 0.15]" in page
    assert "4 of 62 claims looked at, 3 tests" in page
    assert "neither counted nor corrected: C48, R12." in page
    assert "over items and what was repeated (calibration draws)" in page
    assert "0.1 contradictions would be expected" in page
    assert not any(tag in page for tag in ("<script", "<b>m", "<i>run"))
    assert "&lt;script&gt;" in page
    assert "(run" not in page  # where there are several runs, each row names its own
    write_ledger(tmp_path / "other" / "ledger.jsonl", given[:1])
    assert "(run &lt;i&gt;run&lt;/i&gt;)" in ledger_table(ledger(tmp_path)).to_html()
    assert page != ledger_table(ledger(tmp_path)).to_html() == ledger_table(ledger(tmp_path)).to_html()


def test_claims_that_no_verdict_is_on_are_folded(tmp_path: Path) -> None:
    write_ledger(tmp_path / "ledger.jsonl", [with_p("C02", 0.01)])
    told = untested_claims(ledger(tmp_path))
    assert told.startswith("<details><summary>61 of 62 claims are not yet tested</summary>\n\n| claim ")
    missing = set(load_claims()["id"]) - {"C02"}
    assert set(re.findall(r"^\| ([CR]\d\d) ", told, re.MULTILINE)) == missing and "block&#x27;s" in told
    write_ledger(tmp_path / "ledger.jsonl", [with_p(name, 0.01) for name in load_claims()["id"]])
    assert untested_claims(ledger(tmp_path)) == "Every claim of the registry was looked at."


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
