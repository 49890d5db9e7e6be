"""Planning: every fault is found before anything runs, and its message names the right word."""

from pathlib import Path

import pytest
from tiny_notebooks import executed, write_profile, write_study

from labutils.__main__ import main
from labutils.runner import run_studies


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


def test_a_folder_without_notebooks_is_named(lab: Path) -> None:
    with pytest.raises(LookupError, match="no notebooks"):
        run_studies(out=lab / "run", notebooks=lab)


def test_parameters_are_listed(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_study(lab, "01_a")
    assert main(["parameters", "01_a", "--notebooks", str(lab)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split(maxsplit=3) == ["seed", "int", "0", "seed of everything random"]
    assert lines[1] == "scale  float | None  None        factor on the loss (nats)"
