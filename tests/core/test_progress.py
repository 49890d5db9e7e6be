"""Progress: silent when short, timed lines without a terminal, every item passed on unchanged."""

import itertools
import sys

import pytest

from labutils.core.progress import clock, progress

module = sys.modules["labutils.core.progress"]  # `labutils.progress` itself is the public function


@pytest.fixture
def slow_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the clock is one second later than the look before."""
    ticks = itertools.count()
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(ticks)))


def test_short_loops_print_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress(range(5), description="counting")) == [0, 1, 2, 3, 4]
    captured = capsys.readouterr()
    assert captured.err == "" and captured.out == ""


@pytest.mark.usefixtures("slow_clock")
def test_lines_come_at_most_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(list(progress(range(25), description="pruning", unit="block"))) == 25
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "pruning: 2/25 block in 00:02, 00:23 left"
    assert lines[1].startswith("pruning: 12/25 block in 00:12")
    assert lines[-1].startswith("pruning: 25/25 block in 00:26")
    assert len(lines) == 4


@pytest.mark.usefixtures("slow_clock")
def test_a_generator_has_no_total(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress((n for n in range(3)), description="reading")) == [0, 1, 2]
    assert capsys.readouterr().err.splitlines()[0] == "reading: 2 it in 00:02"


@pytest.mark.usefixtures("slow_clock")
def test_an_empty_loop_is_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress([], description="nothing")) == []
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(module, "is_watched", lambda: True)
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.0)
    assert list(progress(range(3), description="training", unit="step")) == [0, 1, 2]
    assert "training: 100%" in capsys.readouterr().err


def test_nobody_watches_a_headless_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.delenv("LABUTILS_RUN_FOLDER", raising=False)
    assert module.is_watched()
    monkeypatch.setenv("LABUTILS_RUN_FOLDER", "results/lab")
    assert not module.is_watched()


def test_clock() -> None:
    assert [clock(0.0), clock(61.4), clock(3725.0)] == ["00:00", "01:01", "1:02:05"]


@pytest.mark.usefixtures("slow_clock")
def test_a_line_tells_how_far_the_loops_inside_are(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in progress(range(2), description="sweep", unit="draw"):
        list(progress(range(30), description="prune", unit="pruning"))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "sweep: 0/2 draw, prune: 9/30 pruning in 00:10, 00:57 left"
    assert lines[-1].startswith("sweep: 2/2 draw in") and len(lines) <= 9
    list(progress(range(30), description="inner"))
    assert capsys.readouterr().err.startswith("inner: 2/30")


@pytest.mark.usefixtures("slow_clock")
def test_loops_inside_that_know_no_total_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in progress(range(1), description="outer"):
        list(progress((number for number in range(20)), description="reading"))
    assert capsys.readouterr().err.splitlines()[0] == "outer: 0/1 it, reading: 9 it in 00:10"


def test_a_terminal_gets_a_second_bar_for_the_loop_inside(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "is_watched", lambda: True)
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.0)
    for _ in progress(range(1), description="sweep"):
        for _ in progress(range(1), description="grid"):
            list(progress(range(3), description="blocks"))
    shown = capsys.readouterr().err
    assert "sweep: 100%" in shown and "grid: " in shown and "blocks" not in shown


def test_a_loop_that_is_left_early_leaves_no_trace() -> None:
    for _ in progress(range(3), description="left"):
        break
    for _ in progress(range(3), description="failed"):
        with pytest.raises(ZeroDivisionError):
            list(progress((1 / 0 for _ in range(3)), description="inside"))
    assert module._running.get() == ()
