"""What a cell prints: shown as a terminal would show it, at a cost linear in its size, and none of it lost."""

import json
import time
from pathlib import Path

import pytest
from nbformat.v4 import new_output
from tiny_notebooks import write_profile, write_study

from labutils.runner import run_studies
from labutils.runner.notebooks import read_notebook
from labutils.runner.streams import Log, Streams, show_text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\n", "plain\n"),
        ("10 %\r100 %\n", "100 %\n"),
        ("abcdef\rXY", "XYcdef"),
        ("windows\r\nline", "windows\nline"),
        ("abc\b\bX", "aXc"),
        ("|\b/\b-\bdone", "done"),
        ("\b\bx", "x"),
        ("a\n\bb", "a\nb"),
        ("ends\r", "ends"),
        ("\x1b[31mred\x1b[0m\rab", "\x1b[0mab\x1b[0m\x1b[31md\x1b[0m"),
        ("\x1b[31mred\rb\x1b[1mc", "\x1b[31mb\x1b[0m\x1b[31m\x1b[1mc\x1b[0m\x1b[31md\x1b[0m\x1b[31m\x1b[1m"),
        ("\x1b[31mred\x1b[0m\n", "\x1b[31mred\x1b[0m\n"),
        ("half done\r\x1b[Kdone", "done"),
        ("half\x1b[2K\rx", "x"),
    ],
)
def test_text_is_shown_as_a_terminal_shows_it(text: str, shown: str) -> None:
    assert show_text(text) == shown


@pytest.mark.parametrize(
    "piece", ["x" * 50, "x\b", "50 %\r", "word \r\n", "\x1b[31mx\x1b[0m\r", "x\x1b[K\r", "\x1b[31mx\r", "\b", "\r"]
)
def test_the_cost_is_linear_in_the_text(piece: str) -> None:
    def seconds(count: int) -> float:
        start = time.process_time()
        show_text(piece * count)
        return time.process_time() - start

    seconds(10_000)
    small, large = min(seconds(20_000) for _ in range(3)), min(seconds(160_000) for _ in range(2))
    assert large < 24 * small + 0.05, f"8 times the text took {large / small:.1f} times as long"


def test_a_log_holds_whole_lines_and_of_a_bar_its_state_once_in_a_while() -> None:
    bar = ["\r10 %", "\r20 %\r30 %", "\r100 %", "\n"]
    often, seldom = Log(seconds=0.0), Log(seconds=60.0)
    assert [line for piece in bar for line in often.lines(piece)] == ["10 %", "30 %", "100 %"]
    assert [line for piece in ["read\nsort\n", *bar, "done\n"] for line in seldom.lines(piece)] == [
        "read", "sort", "10 %", "done",
    ]  # fmt: skip


def test_streams_are_one_output_each_with_standard_output_first() -> None:
    outputs: list = []
    streams = Streams()
    figure = new_output("display_data", data={"text/plain": "figure"})
    streams.add(outputs, new_output("stream", name="stderr", text="a"))
    streams.add(outputs, new_output("stream", name="stdout", text="1\r"))
    outputs.append(figure)
    streams.add(outputs, new_output("stream", name="stdout", text="2"))
    streams.finish(outputs)
    assert [(output.get("name"), output.get("text")) for output in outputs] == [
        ("stdout", "2"),
        ("stderr", "a"),
        (None, None),
    ]


FLOOD = """\
import sys
for i in range(12_000):
    print(i, flush=True)
print("told", file=sys.stderr)"""
BULK = """\
print("x\\b" * 300_000)
print("y" * 300_000)
print(*(f"{i}\\r" for i in range(100_000)), sep="")"""
CLEARED = """\
from IPython.display import clear_output, display
handle = display("first", display_id=True)
print("gone")
clear_output(wait=True)
print("kept")
handle = display("first", display_id=True)
print("too")"""
UPDATE = "handle.update('second')"


@pytest.mark.usefixtures("frozen_inputs")
def test_all_output_arrives_in_order_and_no_part_of_it_holds_the_run_up(lab: Path) -> None:
    write_study(lab, "01_a", FLOOD, BULK, CLEARED, UPDATE)
    write_profile(lab, "lab", **{"01_a": {}})
    record = run_studies(out=lab / "run", notebooks=lab)["01_a"]
    assert record["status"] == "succeeded", record["failure"]
    flood, bulk, cleared, update = [
        cell
        for cell in read_notebook(lab / "run" / "01_a" / "01_a.ipynb").cells
        if cell.source in (FLOOD, BULK, CLEARED, UPDATE)
    ]
    assert [output.name for output in flood.outputs] == ["stdout", "stderr"]
    assert flood.outputs[0].text == "".join(f"{i}\n" for i in range(12_000)) and flood.outputs[1].text == "told\n"
    assert bulk.outputs[0].text == "x\n" + "y" * 300_000 + "\n99999\n"
    assert cleared.outputs[0].text == "kept\ntoo\n" and json.dumps(cleared.outputs[1].data).count("second") == 1
    assert update.outputs == [] and record["wall_seconds"] < 60
