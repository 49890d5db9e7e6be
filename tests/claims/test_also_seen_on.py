"""The page of verdicts on other models belongs to the ledgers beside it."""

import datetime
import json

import pytest

from labutils.claims import also_seen_on as elsewhere
from labutils.claims.also_seen_on import LEDGERS
from labutils.claims.ledger import ledger, write_ledger
from labutils.claims.registry import claim
from labutils.claims.verdicts import Verdict


def test_the_page_is_fresh() -> None:
    assert elsewhere.PAGE.read_text() == elsewhere.also_seen_page()


def test_a_run_without_a_ledger_is_refused(tmp_path) -> None:
    with pytest.raises(LookupError, match="no ledger"):
        elsewhere.record_elsewhere(tmp_path, "nobody")


@pytest.fixture
def elsewhere_in(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """Ledgers and page in a folder of their own; returns the folder of a run."""
    monkeypatch.setattr(elsewhere, "LEDGERS", tmp_path / "ledgers")
    monkeypatch.setattr(elsewhere, "PAGE", tmp_path / "page.md")
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def verdict(claim: str, low: float, high: float, **about: object) -> Verdict:
    values = {"outcome": "supported", "first_outcome": "supported", "scope": {"model": "m", "corpus": "c"}}
    values |= {"p_value": 0.03, "margin": 0.02, "unit": "nats per token", "n_items": 40, "n_draws": 2}
    estimate = (low + high) / 2
    return Verdict(claim=claim, statement="", estimate=estimate, low=low, high=high, **(values | about))


def test_recording_adds_a_run(elsewhere_in) -> None:
    (elsewhere_in / "ledger.jsonl").write_bytes((LEDGERS / f"{elsewhere.OWN}.jsonl").read_bytes())
    elsewhere.record_elsewhere(elsewhere_in, "a model")
    page, copied = elsewhere.PAGE.read_text(), ledger(elsewhere_in)
    assert page.count("| a model | **") == len(copied) >= 50 and page == elsewhere.also_seen_page()
    today = datetime.date.today().isoformat()
    assert json.loads((elsewhere.LEDGERS / "a model.json").read_text()) == {"kept": today}
    assert "lab-llama (not recorded)" in page and f"| {today} |" in page  # nothing is made up


def test_a_claim_has_one_table_with_a_row_for_every_run(elsewhere_in) -> None:
    """No correction: 0.03 of many tests stays; p beside every effect; a dense loss is told by a margin of 1 %."""
    for name in ("one", "two"):
        given = [verdict("C02", 0.03, 0.05), *(verdict(f"C{n}", 0.03, 0.05, p_value=0.9) for n in range(18, 22))]
        write_ledger(elsewhere_in / "ledger.jsonl", given[: 1 if name == "one" else 5])
        elsewhere.record_elsewhere(elsewhere_in, name)
    page = elsewhere.PAGE.read_text()
    table = page.split("### C02")[1].split("###")[0]
    row = "**supported** | +0.040 nats per token [0.030, 0.050] | 0.02 | 0.03 | 40 items, 2 calibration draws |"
    assert table.count(row) == 2 and "| one | **" in table and "| two | **" in table
    assert "| one | m (not recorded) | 2.00 nats (perplexity 7.39) | 40 items, 2 draws |" in page
    assert max(len(line.split("|")) for line in page.splitlines()) <= 8


def test_older_ledgers_are_judged_by_todays_rule(elsewhere_in) -> None:
    """Inside the margin and clear of zero: what was called supported is negligible, and its p was another one."""
    write_ledger(elsewhere_in / "ledger.jsonl", [verdict("C02", 0.005, 0.015), verdict("R12", 0.03, 0.05)])
    elsewhere.record_elsewhere(elsewhere_in, "old")
    page = elsewhere.PAGE.read_text()
    assert "| old | **real, negligible** | +0.010 nats per token [0.005, 0.015] | 0.02 | not recorded |" in page
    assert "*The same fact as C14: neither corrected nor counted.*" in page


def test_the_commits_of_a_run_are_told_where_its_manifest_has_them(elsewhere_in) -> None:
    write_ledger(elsewhere_in / "ledger.jsonl", [verdict("C02", 0.03, 0.05)])
    records = {"01": {"git": {"commit": "abcdef0123"}}, "02": {"git": {"commit": "abcdef0123"}}}
    (elsewhere_in / "manifest.json").write_text(json.dumps({"notebooks": records}))
    elsewhere.record_elsewhere(elsewhere_in, "new")
    assert ", made at abcdef0 |" in elsewhere.PAGE.read_text()


def test_a_run_in_parts_is_one_row_and_each_verdict_keeps_its_own_hour(elsewhere_in) -> None:
    def record(end: str, commit: str, *verdicts: Verdict, add: bool) -> None:
        write_ledger(elsewhere_in / "ledger.jsonl", list(verdicts))
        about = {"git": {"commit": commit}, "finished": end}
        (elsewhere_in / "manifest.json").write_text(json.dumps({"notebooks": {"01": about}}))
        elsewhere.record_elsewhere(elsewhere_in, "parts", add=add)

    with pytest.raises(LookupError, match="nothing is kept under 'parts' to add to"):
        record("2026-11-28T00:00:00+00:00", "a" * 9, verdict("C01", 0.03, 0.05), add=True)
    both = verdict("C01", 0.03, 0.05), verdict("C22", 0.03, 0.05)
    record("2026-11-28T00:00:00+00:00", "a" * 9, *both, add=False)
    record("2099-01-01T00:00:00+00:00", "b" * 9, verdict("C22", 0.06, 0.08), verdict("C02", 0.03, 0.05), add=True)
    assert [one.claim for one in elsewhere.kept_verdicts()["parts"]] == ["C01", "C22", "C02"]
    assert [elsewhere.judged_earlier("parts", claim) for claim in ("C01", "C22", "C02")] == [True, False, False]
    page = elsewhere.PAGE.read_text()
    assert ", made at aaaaaaa, bbbbbbb |" in page and "+0.070 nats per token" in page.split("### C22")[1]
    record("2099-01-02T00:00:00+00:00", "c" * 9, verdict("C03", 0.03, 0.05), add=True)  # a third part
    assert [elsewhere.judged_earlier("parts", claim) for claim in ("C01", "C22")] == [True, False]


def test_a_loss_in_per_cent_of_itself_is_no_dense_loss(elsewhere_in) -> None:
    write_ledger(elsewhere_in / "ledger.jsonl", [verdict("C06", -0.3, -0.1, unit="% of the dense loss", margin=1.0)])
    elsewhere.record_elsewhere(elsewhere_in, "one")
    assert "= 100.00" not in elsewhere.PAGE.read_text()


def test_every_model_of_a_kept_ledger_is_described() -> None:
    assert "(not recorded)" not in elsewhere.PAGE.read_text()
    about = elsewhere.PAGE.read_text().split("- `realtext-llama`: ")[1].split("\n")[0]
    assert "real text" in about and "not shipped" in about


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a|b", "a\nb", ".x", "x" * 101])
def test_a_name_that_is_no_file_and_no_column_is_refused(tmp_path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "ledger.jsonl").write_text("")
    monkeypatch.setattr(elsewhere, "LEDGERS", tmp_path / "ledgers")
    with pytest.raises(ValueError, match="cannot name a run"):
        elsewhere.record_elsewhere(tmp_path, name)
    assert not (tmp_path / "ledgers").exists()


@pytest.mark.parametrize(
    ("about", "earlier"),
    [
        ({"kept": "2026-11-29", "finished": "2026-11-29T04:53:03+00:00"}, True),
        ({"kept": "2026-11-29", "finished": "2026-11-29T04:53:04+00:00"}, False),
        ({"kept": "2026-11-29"}, True),  # the hour is not known
        ({"kept": "2026-11-30"}, False),
        ({}, True),
    ],
)
def test_a_verdict_by_an_earlier_definition_is_told(elsewhere_in, about: dict[str, str], earlier: bool) -> None:
    write_ledger(elsewhere_in / "ledger.jsonl", [verdict("C01", 0.03, 0.05), verdict("C19", 0.03, 0.05)])
    elsewhere.record_elsewhere(elsewhere_in, "one")
    (elsewhere.LEDGERS / "one.json").write_text(json.dumps(about))
    assert claim("C01").revised == "2026-11-29T04:53:04+00:00" and not claim("C19").revised
    assert elsewhere.judged_earlier("one", "C01") == earlier and not elsewhere.judged_earlier("one", "C19")
    page = elsewhere.also_seen_page()
    assert page.count("by an earlier definition |") == earlier
