"""Finished runs: named by what they depend on, whole or absent; weights until they are dropped."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from labutils.runner.finished_runs import FinishedRuns

KEY, OTHER = {"seed": 1}, {"seed": 2}


def test_results_are_found_by_what_they_depend_on(tmp_path: Path) -> None:
    runs = FinishedRuns(tmp_path, format=1)
    assert not runs.has(KEY)
    runs.write(KEY, {"pearson": 0.1})
    assert runs.has({**KEY}) and not runs.has(OTHER) and runs.read(KEY) == {"pearson": 0.1}
    assert not FinishedRuns(tmp_path, format=2).has(KEY)
    with pytest.raises(ValueError, match="JSON"):
        runs.write(OTHER, {"pearson": float("nan")})
    assert not runs.has(OTHER)
    (file,) = (tmp_path / "runs").iterdir()
    assert json.loads(file.read_text())["key"] == KEY and file.stem == runs.name(KEY)


def test_tables_are_finished_when_all_are_written(tmp_path: Path) -> None:
    runs = FinishedRuns(tmp_path, format=1)
    frames = {"items": pd.DataFrame({"item": [1, 2], "loss": [0.5, 0.25]}), "run": pd.DataFrame({"rate": [1e-3]})}

    class Killed(pd.DataFrame):
        def to_parquet(self, *_: object, **__: object) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs.write_frames(KEY, frames | {"late": Killed()})
    assert not runs.has(KEY)
    runs.write_frames(KEY, frames)
    found = runs.read_frames(KEY)
    assert found.keys() == frames.keys()
    for name, frame in frames.items():
        pd.testing.assert_frame_equal(found[name], frame)


def test_without_a_folder_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = FinishedRuns(None, format=1)
    runs.write(KEY, 1)
    runs.write_frames(KEY, {"run": pd.DataFrame({"rate": [1e-3]})})
    assert not runs.has(KEY) and not list(tmp_path.iterdir())


def test_weights_come_back_with_their_record_until_they_are_dropped(tmp_path: Path) -> None:
    runs, stored, fresh = FinishedRuns(tmp_path, format=1), torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    runs.save_weights(KEY, stored, {"loss": 1.5, "steps": 3})
    before = fresh.weight.clone()
    assert runs.load_weights(OTHER, fresh) is None and torch.equal(fresh.weight, before)
    assert runs.load_weights(KEY, fresh) == {"loss": 1.5, "steps": 3}
    assert torch.equal(fresh.weight, stored.weight) and torch.equal(fresh.bias, stored.bias)
    runs.drop_weights(KEY)
    runs.drop_weights(KEY)
    assert runs.load_weights(KEY, fresh) is None
