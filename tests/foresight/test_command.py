"""The forecast of a run on the command line: it never keeps a run from starting, and costs nothing where it is idle."""

from pathlib import Path

import pytest

from labutils.__main__ import main
from labutils.core import paths
from labutils.foresight import command
from labutils.foresight.foreseeing import foresee
from labutils.foresight.outlooks import Outlook
from labutils.runner.planning import plan_studies


def plan(*stems: str, **parameters: object):
    return plan_studies(stems, profile="smoke", overrides=parameters, folder=paths.NOTEBOOKS)[0]


@pytest.fixture
def asked(monkeypatch) -> list:
    """What is asked of the process that makes the forecast, which is not started."""
    seen = []

    def answer(studies, threads):
        seen.append([stem for stem, _ in studies])
        return [Outlook(stem, seconds=100.0, memory=1, disk=1) for stem, _ in studies]

    monkeypatch.setattr(command, "_ask", answer)
    return seen


def test_of_the_labs_own_models_nothing_is_worked_out_unless_asked(asked, tmp_path):
    studies = plan("01_layerwise_sparsity")
    assert command.tell_run(studies, tmp_path) == [] and asked == []
    assert command.tell_run(studies, tmp_path, always=True)[0].startswith("forecast: about 01:40") and asked


def test_a_mixture_that_is_not_the_labs_own_is_told_of(asked, tmp_path):
    command.tell_run(plan("13b_experts_and_paths", mixtures=["owner/large"]), tmp_path)
    assert asked == [["13b_experts_and_paths"]]


def test_notebooks_without_a_forecast_are_not_asked_about(asked, tmp_path):
    assert command.tell_run(plan("11_cost"), tmp_path) == [] and asked == []
    assert command.tell_run(plan("11_cost"), tmp_path, always=True) == ["forecast: there is none of 11_cost"]


def test_notebooks_come_in_the_order_in_which_they_run(asked, tmp_path):
    command.tell_run(plan("99_ledger", "01_layerwise_sparsity", models=["owner/large"]), tmp_path)
    assert asked == [["01_layerwise_sparsity", "99_ledger"]]


def test_what_is_complete_already_is_left_out_of_a_resumed_run(asked, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "find_changes", lambda run, stem, inputs: [] if stem.startswith("01") else ["new"])
    own = plan("01_layerwise_sparsity", "02_pruning_strategy", model="owner/large", models=["owner/large"])
    command.tell_run(own, tmp_path, resume=True)
    assert asked == [["02_pruning_strategy"]]


def test_a_forecast_that_fails_says_so_and_raises_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(command.sys, "executable", "/nonexistent/python")
    (line,) = command.tell_run(plan("01_layerwise_sparsity"), tmp_path, always=True)
    assert line.startswith("forecast: none; ")


def test_a_model_that_is_not_there_does_not_stop_the_forecast_of_others(tmp_path):
    missing = str(tmp_path / "no_such_model")
    tour, layerwise = *plan("00_tour"), *plan("01_layerwise_sparsity", models=[missing])
    lines = command.tell_run([tour, layerwise], tmp_path)
    assert "for 1 notebook," in lines[0] and "5 prunings" in lines[1]
    assert "01_layerwise_sparsity: cannot be told" in lines[2] and "no_such_model" in lines[2]


def test_the_command_tells_and_does_not_run(tmp_path, capsys, monkeypatch):
    told = []
    monkeypatch.setattr(command, "tell_run", lambda studies, run, **options: told.append((run, options)) or ["a line"])
    assert (
        main(["run", "01_layerwise_sparsity", "--profile", "smoke", "--out", str(tmp_path / "run"), "--forecast"]) == 0
    )
    assert capsys.readouterr().out == "a line\n" and not (tmp_path / "run").exists()
    assert told == [(Path(tmp_path / "run"), {"jobs": 1, "resume": False, "always": True})]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["-p", "n_drawss=3"], "n_drawss"),
        (["--jobs", "0"], "jobs must be 1 or more"),
        (["--cell-timeout", "0"], "cell_timeout"),
        (["--engine", "teleport:3"], "teleport"),
        (["--out", __file__], "name another --out"),
    ],
)
def test_what_a_run_would_refuse_the_forecast_refuses(given, told, capsys):
    assert main(["run", "01_layerwise_sparsity", "--profile", "smoke", "--forecast", *given]) == 2
    assert told in capsys.readouterr().err


def test_a_study_of_nothing_has_no_forecast(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "_ask", lambda studies, threads: foresee(studies))  # its process takes long to start
    nothing = [{"n_items": 0}, {"n_draws": 0}, {"n_calibration": 0}, {"seq_len": 1}]
    studies = [study for empty in nothing for study in plan("01_layerwise_sparsity", **empty)]
    lines = command.tell_run(studies, tmp_path, always=True)[1:]
    assert len(lines) == len(nothing)
    assert all(line.startswith("  01_layerwise_sparsity: cannot be told") and "at least" in line for line in lines)
