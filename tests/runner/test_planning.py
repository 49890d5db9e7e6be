"""Planning: every fault is found before anything runs, and its message names the right word."""

import errno
import os
from pathlib import Path

import pytest
from tiny_notebooks import executed, write_profile, write_study

from labutils.__main__ import main
from labutils.core import paths
from labutils.runner import run_studies
from labutils.runner.notebooks import find_notebooks, select_notebooks
from labutils.runner.planning import find_lab_text, find_untaken, plan_studies


def test_a_mistyped_parameter_stops_before_anything_runs(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_study(lab, "01_a")
    write_profile(lab, "lab", **{"01_a": {}})
    status = main(["run", "--notebooks", str(lab), "--out", str(lab / "run"), "-p", "scael=2"])
    errors = capsys.readouterr().err
    assert status == 2
    assert "no selected notebook has a parameter 'scael'. Did you mean 'scale'?" in errors
    assert executed(lab) == [] and not (lab / "run").exists()


@pytest.mark.parametrize(
    ("profile", "names", "overrides", "message"),
    [
        ({"01_a": {"sede": 1}}, [], {}, "01_a: unknown parameter 'sede'. Did you mean 'seed'"),
        ({"01_a": {"seed": True}}, [], {}, r"01_a: parameter 'seed' is declared int but was given True \(bool\)"),
        ({"01_a": {}}, [], {"words": ["a", 1]}, r"'words' is declared list\[str\]"),
        ({"01_b": {}}, [], {}, "unknown notebook '01_b'. Did you mean '01_a'"),
        ({"01_a": {}}, ["01_aa"], {}, "unknown notebook '01_aa'. Did you mean '01_a'"),
        ({"01_a": [1]}, [], {}, "must map each notebook's stem"),
        ({}, [], {}, "nothing to run"),
    ],
)
def test_faults_of_the_plan_stop_before_anything_runs(
    lab: Path, profile: dict, names: list, overrides: dict, message: str
) -> None:
    write_study(lab, "01_a")
    write_profile(lab, "lab", **profile)
    with pytest.raises((LookupError, ValueError), match=message):
        run_studies(names, out=lab / "run", parameters=overrides, notebooks=lab)
    assert executed(lab) == [] and not (lab / "run").exists()


def test_an_unknown_profile_is_named(lab: Path) -> None:
    write_study(lab, "01_a")
    write_profile(lab, "smoke", **{"01_a": {}})
    with pytest.raises(LookupError, match="unknown profile 'smok'. Did you mean 'smoke'"):
        run_studies(profile="smok", out=lab / "run", notebooks=lab)


def test_a_profile_of_ones_own_is_given_by_its_file(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_study(lab, "01_a")
    own = lab / "own.yaml"
    own.write_text("01_a: {seed: 010, words: [no, on]}\n")
    command = ["run", "--notebooks", str(lab), "--out", str(lab / "run"), "--profile", str(own)]
    ((study,), _) = plan_studies((), profile=own, overrides={}, folder=lab)
    assert study.parameters["seed"] == 10 and study.parameters["words"] == ["no", "on"] and study.profile == "own.yaml"
    own.write_text("01_a:\n  seed: 1\n seed: 2\n")
    assert main(command) == 2 and "labutils: own.yaml, line 3, column 2: " in capsys.readouterr().err
    own.write_text("01_a: {seed: 1, seed: 2}\n")
    assert main(command) == 2 and "own.yaml, line 1, column 17: the key 'seed'" in capsys.readouterr().err
    own.write_bytes(b"01_a: {words: [\xf6]}")
    assert main(command) == 2 and "own.yaml is no text in UTF-8" in capsys.readouterr().err
    own.unlink()
    assert main(command) == 2 and "there is no profile file" in capsys.readouterr().err
    assert executed(lab) == [] and not (lab / "run").exists()


def test_the_notebook_that_is_named_is_the_one_that_runs(
    lab: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (lab / "my").mkdir()
    write_study(lab, "01_a")
    write_study(lab / "my", "01_a", "x = 1")
    write_profile(lab, "lab", **{"01_a": {}})
    monkeypatch.chdir(lab)
    available = find_notebooks(lab)
    for named in ("01_a", "01_a.ipynb", "./01_a.ipynb", "./01_a", str(lab / "01_a.ipynb"), "my/../01_a.ipynb"):
        assert list(select_notebooks([named], available)) == ["01_a"]
    for named in ("my/01_a.ipynb", "my/01_a", str(lab / "my" / "01_a.ipynb")):
        for command in ("run", "parameters"):
            assert main([command, named, "--notebooks", str(lab)]) == 2
            assert "is not in the folder of notebooks .; use --notebooks" in capsys.readouterr().err
    assert main(["parameters", "my/01_a", "--notebooks", "my"]) == 0
    assert main(["parameters", "my/02_b.ipynb", "--notebooks", "my"]) == 2
    assert "there is no notebook 'my/02_b.ipynb'. Known: 01_a." in capsys.readouterr().err
    monkeypatch.chdir(lab / "my")
    with pytest.raises(LookupError, match="use --notebooks"):
        select_notebooks(["01_a.ipynb"], available)
    assert list(select_notebooks(["01_a"], available)) == ["01_a"]


def test_a_number_names_a_notebook_where_one_alone_has_it(lab: Path) -> None:
    for stem in ("01_a", "02_b", "02_c"):
        write_study(lab, stem)
    available = find_notebooks(lab)
    assert list(select_notebooks(["01"], available)) == ["01_a"]
    for name in ("02", "0", "01_"):
        with pytest.raises(LookupError, match="unknown notebook"):
            select_notebooks([name], available)


def test_notebooks_without_profiles_take_those_of_the_collection(lab: Path) -> None:
    write_study(lab, "00_tour")
    with pytest.raises(LookupError, match="00_tour: unknown parameter 'n_draws'"):
        plan_studies((), profile="smoke", overrides={}, folder=lab)
    write_study(lab, "99_ledger")
    ((study,), skipped) = plan_studies(["99_ledger"], profile="smoke", overrides={}, folder=lab)
    assert study.stem == "99_ledger" and skipped == []


def test_who_does_not_take_a_parameter_is_told(lab: Path) -> None:
    write_study(lab, "01_a")
    write_study(lab, "02_b", parameters="models: list[str] = []")
    write_profile(lab, "lab", **{"01_a": {}, "02_b": {}})
    studies, _ = plan_studies((), profile="lab", overrides={"models": ["a"], "seed": 1}, folder=lab)
    assert find_untaken(studies, ["models", "seed"]) == {"models": {"01_a": ""}, "seed": {"02_b": ""}}
    assert find_untaken(studies, ["model"]) == {"model": {"01_a": "", "02_b": "models"}}


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("file", "/file is in the way, where the run needs a folder"),
        ("file/run", "/file is a file, not a folder; name another folder"),
        ("old", "/old/01_a is in the way, where the run needs a folder"),
        ("older", "/older/manifest.json is in the way, where the run needs a file"),
        ("/proc/run", "nothing can be written into /proc"),
    ],
)
def test_a_run_folder_that_cannot_be_is_refused_before_anything_runs(
    lab: Path, capsys: pytest.CaptureFixture[str], out: str, says: str
) -> None:
    write_study(lab, "01_a")
    write_profile(lab, "lab", **{"01_a": {}})
    (lab / "file").touch()
    (lab / "old").mkdir()
    (lab / "old" / "01_a").touch()
    (lab / "older" / "manifest.json").mkdir(parents=True)
    before = sorted(lab.rglob("*"))
    assert main(["run", "--notebooks", str(lab), "--out", str(lab / out)]) == 2
    told = capsys.readouterr().err
    assert says in told and told.startswith("labutils: ") and told.count("\n") == 1
    assert sorted(lab.rglob("*")) == before


def test_a_full_disk_is_told_in_a_line(
    lab: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, _: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    write_study(lab, "01_a")
    write_profile(lab, "lab", **{"01_a": {}})
    monkeypatch.setattr("labutils.runner.records.write_atomically", full)
    assert main(["run", "--notebooks", str(lab), "--out", str(lab / "run")]) == 2
    assert capsys.readouterr().err == f"labutils: {lab}/run/manifest.json: No space left on device\n"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("/", "names a folder of more than 10,000 files"),
        ("package:no-such-package", "'no-such-package' among the parameters is not installed"),
        ("\udc80", "declared list"),
    ],
)
def test_what_must_fail_late_fails_at_once(lab: Path, monkeypatch: pytest.MonkeyPatch, value: str, says: str) -> None:
    write_study(lab, "01_a")
    write_profile(lab, "lab", **{"01_a": {}})
    with pytest.raises((LookupError, ValueError), match=says):
        run_studies(out=lab / "run", parameters={"words": [value]}, notebooks=lab)
    assert executed(lab) == [] and not (lab / "run").exists()


def test_a_folder_without_notebooks_is_named(lab: Path) -> None:
    with pytest.raises(LookupError, match="no notebooks"):
        run_studies(out=lab / "run", notebooks=lab)


def test_parameters_are_listed(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_study(lab, "01_a")
    assert main(["parameters", "01_a", "--notebooks", str(lab)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split(maxsplit=3) == ["seed", "int", "0", "seed of everything random"]
    assert lines[1] == "scale  float | None  None        factor on the loss (nats)"


def test_a_model_of_ones_own_on_the_labs_text_is_told() -> None:
    """Every parameter that starts with the lab's language counts, in lists and mixtures too."""
    stems = ["01_layerwise_sparsity", "04_calibration_and_tasks"]
    own_model = {"model": "package:some-model", "models": ["package:some-model"]}
    own, _ = plan_studies(stems, profile="full", overrides=own_model, folder=paths.NOTEBOOKS)
    found = find_lab_text(own)
    assert found["01_layerwise_sparsity"] == ["texts"]
    assert {"tasks", "closed_book", "calibration", "others"} <= set(found["04_calibration_and_tasks"])
    texts = {"models": ["package:some-model"], "texts": ["file:notes.txt"]}
    assert find_lab_text(plan_studies(stems[:1], profile="full", overrides=texts, folder=paths.NOTEBOOKS)[0]) == {}
    assert find_lab_text(plan_studies(stems, profile="full", overrides={}, folder=paths.NOTEBOOKS)[0]) == {}
