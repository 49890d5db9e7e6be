"""Fixtures for the tests of the runner."""

from pathlib import Path

import pytest

from labutils.runner import runner


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for tiny notebooks, the log that they write, and their run folders."""
    monkeypatch.setenv("STUDY_FOLDER", str(tmp_path))
    return tmp_path


@pytest.fixture
def frozen_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources and data count as unchanged, for tests that vary other inputs."""
    shared = {"labutils_sha256": "0", "data_sha256": "0", "versions": {}}
    monkeypatch.setattr(runner, "shared_inputs", lambda: shared)
