"""Fixtures for the tests of the runner."""

from collections.abc import Callable
from pathlib import Path

import pytest
from real_run_folders import prepare

from labutils.runner import keep_pages, runner


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


@pytest.fixture
def keep(lab: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Keep the run's pages beside the tiny notebooks."""
    monkeypatch.chdir(lab)
    readme = prepare(lab)
    return lambda name="A model on notes", **given: keep_pages(
        lab / "run", name, notebooks=lab, readme=readme, real=lab / "docs" / "real", **given
    )
