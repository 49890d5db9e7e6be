"""The page of verdicts on other models belongs to the ledgers beside it."""

import pytest

from labutils.claims import also_seen_on as elsewhere


def test_the_page_is_fresh() -> None:
    assert elsewhere.PAGE.read_text() == elsewhere.also_seen_page()


def test_a_run_without_a_ledger_is_refused(tmp_path) -> None:
    with pytest.raises(LookupError, match="no ledger"):
        elsewhere.record_elsewhere(tmp_path, "nobody")


def test_recording_adds_a_column(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = elsewhere.LEDGERS / f"{elsewhere.OWN}.jsonl"
    (tmp_path / "ledger.jsonl").write_bytes(kept.read_bytes())
    monkeypatch.setattr(elsewhere, "LEDGERS", tmp_path / "ledgers")
    monkeypatch.setattr(elsewhere, "PAGE", tmp_path / "page.md")
    elsewhere.record_elsewhere(tmp_path, "a model")
    page = (tmp_path / "page.md").read_text()
    assert "| claim | a model |" in page and "**C01**" in page and page == elsewhere.also_seen_page()


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a|b", "a\nb", ".x", "x" * 101])
def test_a_name_that_is_no_file_and_no_column_is_refused(tmp_path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "ledger.jsonl").write_text("")
    monkeypatch.setattr(elsewhere, "LEDGERS", tmp_path / "ledgers")
    with pytest.raises(ValueError, match="cannot name a run"):
        elsewhere.record_elsewhere(tmp_path, name)
    assert not (tmp_path / "ledgers").exists()
