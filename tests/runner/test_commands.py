"""Commands end quietly where nobody reads on, and say what they refuse."""

import itertools
import os
import runpy
import subprocess
import sys

import pytest

from labutils.core import paths
from labutils.runner.commands import READER_LEFT, finish_command

LEDGER = "lab models.jsonl"


def unread(words: list[str], *, errors_too: bool = False, unbuffered: bool = False) -> subprocess.CompletedProcess:
    """A command whose output goes into a pipe that nobody reads, from the start."""
    reading, writing = os.pipe()
    os.close(reading)
    environment = os.environ | {"PYTHONUNBUFFERED": "1" if unbuffered else ""}
    try:
        return subprocess.run(
            [sys.executable, "-m", *words], cwd=paths.REPOSITORY, env=environment, stdout=writing,
            stderr=writing if errors_too else subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    finally:
        os.close(writing)


COMMANDS = ["parameters 05_neuron_semantics", "ledger", "run --help"]


@pytest.mark.parametrize(
    ("words", "unbuffered"), [*itertools.product(COMMANDS, [False, True]), ("check", False)]
)  # the last takes long
def test_a_command_whose_reader_has_left_ends_quietly(words: str, unbuffered: bool) -> None:
    given = words.split() + ([f"docs/ledgers/{LEDGER}"] if words == "ledger" else [])
    found = unread(["labutils", *given], unbuffered=unbuffered)
    # Unbuffered, argparse itself passes over help that nobody reads.
    assert found.returncode == (0 if unbuffered and words == "run --help" else READER_LEFT)
    assert "Traceback" not in found.stderr and "Broken" not in found.stderr


def test_a_study_whose_reader_has_left_ends_quietly() -> None:
    found = unread(["labutils.adaptation", "--show"])
    assert found.returncode == READER_LEFT and found.stderr == ""


def test_a_refusal_that_nobody_reads_ends_quietly() -> None:
    assert unread(["labutils", "parameters", "no_such_notebook"], errors_too=True).returncode == READER_LEFT


def test_a_reader_of_the_first_lines_gets_them() -> None:
    command = [sys.executable, "-u", "-m", "labutils", "parameters", "05_neuron_semantics"]
    with subprocess.Popen(
        command, cwd=paths.REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout.readline().split()[:2] == ["model", "str"]
        running.stdout.close()
        assert running.stderr.read() == "" and running.wait() in (0, READER_LEFT)


def test_a_pipe_that_breaks_elsewhere_is_no_reader_that_left() -> None:
    code = (
        "import sys\nfrom labutils.runner.commands import finish_command\n"
        "def broken(): raise BrokenPipeError('of a worker')\nsys.exit(finish_command(broken))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 1 and "BrokenPipeError: of a worker" in found.stderr


def test_refusals_are_told_without_quotes(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse() -> int:
        raise KeyError("no such thing")

    assert finish_command(refuse) == 2 and capsys.readouterr().err == "labutils: no such thing\n"
    assert finish_command(lambda: 1) == 1


@pytest.mark.parametrize("module", ["labutils", "labutils.adaptation", "labutils.distillation"])
def test_commands_are_found_by_their_addresses(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(module, run_name="__main__")
    assert ended.value.code == 0 and f"usage: python -m {module}" in capsys.readouterr().out


def test_help_does_not_load_what_takes_seconds() -> None:
    code = (
        "import sys\nfrom labutils.__main__ import build_parser\nbuild_parser()\n"
        "print(sorted({'torch', 'transformers', 'pandas', 'nbformat'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"
