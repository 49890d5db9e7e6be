"""Text that a cell prints: put together as it comes, and at the end shown as a terminal would show it.

nbclient keeps every message as an output of its own and merges them by regular expressions, whose time is quadratic in
the length of some texts. Here both cost time linear in the text.
"""

import re
import time
from collections.abc import Iterator

from nbformat import NotebookNode

# A sequence that a terminal does not print, such as a colour or "erase the line"; else one character.
STEP = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|.", re.DOTALL)
MOVES = re.compile(r"([\r\b])")
RESET, MOST_COLOURS = ("\x1b[0m", "\x1b[m"), 8  # sequences in force at a time: letters, ground, bold …
BAR_EVERY_SECONDS = 10.0
ERASE_REST, ERASE_LINE = ("\x1b[K", "\x1b[0K"), "\x1b[2K"


class Streams:
    """The standard output and the standard error of one cell, each a single output where its first text came."""

    def __init__(self) -> None:
        self._texts: dict[str, tuple[NotebookNode, list[str]]] = {}

    def add(self, outputs: list[NotebookNode], output: NotebookNode) -> None:
        """Take a text; the first of its stream becomes one of the cell's outputs."""
        if output.name not in self._texts:
            whole = NotebookNode(output_type="stream", name=output.name, text="")
            outputs.append(whole)
            self._texts[output.name] = whole, []
        self._texts[output.name][1].append(output.text)

    def clear(self) -> None:
        """The cell's outputs were cleared."""
        self._texts = {}

    def finish(self, outputs: list[NotebookNode]) -> None:
        """Write the texts into their outputs; where both streams stand together, standard output comes first.

        They come by two ways, so that which of them is first would be left to chance.
        """
        for whole, pieces in self._texts.values():
            whole["text"] = show_text("".join(pieces))
        for place, (first, second) in enumerate(zip(outputs, outputs[1:], strict=False)):
            if first.get("name") == "stderr" and second.get("name") == "stdout":
                outputs[place : place + 2] = [second, first]


class Log:
    """The lines that one reads in a log of what a stream writes.

    A bar, which goes to the begin of its line and draws itself anew many times a second, tells its state now and then.
    """

    def __init__(self, seconds: float = BAR_EVERY_SECONDS) -> None:
        self._seconds, self._told, self._in_bar = seconds, -seconds, False

    def lines(self, text: str) -> Iterator[str]:
        r"""Of the next piece of the stream.

        >>> list(Log().lines("read\n\r10 %\r20 %"))
        ['read', '20 %']
        """
        for number, line in enumerate(text.split("\n")):
            self._in_bar = "\r" in line or (self._in_bar and number == 0)  # a bar's end may come as a piece of its own
            shown = show_text(line).rstrip()
            if shown and (not self._in_bar or time.monotonic() - self._told >= self._seconds):
                self._told = time.monotonic() if self._in_bar else self._told
                yield shown


def show_text(text: str) -> str:
    r"""The text as a terminal shows it: `\r` goes to the begin of the line, `\b` one place back, and both overwrite.

    >>> show_text("10 %\r100 %\nabc\b\bX")
    '100 %\naXc'
    """
    if "\r" not in text and "\b" not in text:
        return text
    return "\n".join(_show_line(line) if MOVES.search(line) else line for line in text.split("\n"))


def _show_line(line: str) -> str:
    if "\x1b" in line:
        return _show_marked_line(line)
    shown: list[str] = []
    place = 0
    for part in MOVES.split(line):
        if part == "\r":
            place = 0
        elif part == "\b":
            place = max(0, place - 1)
        else:
            shown[place : place + len(part)] = part
            place += len(part)
    return "".join(shown)


def _show_marked_line(line: str) -> str:
    """A line with sequences: they take no room; every character keeps the colours in which it was written."""
    shown: list[tuple[str, str]] = []
    place, colours = 0, ""
    for step in STEP.findall(line):
        if step == "\r":
            place = 0
        elif step == "\b":
            place = max(0, place - 1)
        elif step in ERASE_REST:
            del shown[place:]
        elif step == ERASE_LINE:  # programs that use it write the line anew from its begin
            shown, place = [], 0
        elif step in RESET:
            colours = RESET[0]
        elif len(step) > 1:
            colours = "".join(re.findall(STEP, colours + step)[-MOST_COLOURS:]) if step.endswith("m") else colours
        else:
            shown[place : place + 1] = [(colours, step)]
            place += 1
    written, before = [], ""
    for own, character in [*shown, (colours, "")]:
        if own != before:
            written.append(own if own.startswith(RESET[0]) else RESET[0] + own if before else own)
        written.append(character)
        before = own
    return "".join(written)
