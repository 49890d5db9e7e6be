"""Progress of long loops: a bar where somebody watches, timed lines where nobody does.

In a terminal or in Jupyter, `progress` draws a tqdm bar with the time left, and under it one for the loop inside.
Without a terminal (a log file, a notebook run headless) it writes a line at most every ten seconds, which tells how
far the loop and those inside it are: of a sweep over calibration draws, the draw, the pruning and the block. What takes
less than two seconds prints nothing in either case.
"""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

from tqdm.std import tqdm  # not `tqdm.auto`, which warns in a Jupyter without widgets

Item = TypeVar("Item")

QUIET_SECONDS = 2.0
LINE_EVERY_SECONDS = 10.0

_running: ContextVar[tuple["_Loop", ...]] = ContextVar("loops that are running, the outermost first", default=())


def progress(
    iterable: Iterable[Item], *, total: int | None = None, description: str, unit: str = "it"
) -> Iterator[Item]:
    """Yield the items of `iterable` and show how far the loop has come.

    Args:
        iterable: what to loop over.
        total: number of items; taken from `len(iterable)` where that is known.
        description: what is being done, shown before the count.
        unit: name of one item, for the speed.

        for layer in progress(layers, description="prune", unit="layer"): ...
    """
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    outer = _running.get()
    loop = _Loop(description, total, unit, time.monotonic())
    _running.set((*outer, loop))
    try:
        yield from _shown(iterable, loop, outer)
    finally:
        _running.set(outer)


@dataclass
class _Loop:
    """How far a loop is."""

    description: str
    total: int | None
    unit: str
    start: float
    done: int = 0
    last_line: float | None = None

    def __str__(self) -> str:
        count = f"{self.done}/{self.total}" if self.total is not None else f"{self.done}"
        return f"{self.description}: {count} {self.unit}"


def _shown(iterable: Iterable[Item], loop: _Loop, outer: tuple[_Loop, ...]) -> Iterator[Item]:
    if not is_watched():
        yield from _lines(iterable, loop, outer)
    elif len(outer) < 2:
        shown = {"total": loop.total, "desc": loop.description, "unit": loop.unit, "delay": QUIET_SECONDS}
        yield from tqdm(iterable, **shown, leave=not outer)
    else:
        yield from iterable


def is_watched() -> bool:
    """True in a terminal and in an interactive Jupyter kernel; False in logs and in notebooks run by the runner."""
    if "LABUTILS_RUN_FOLDER" in os.environ:
        return False
    return sys.stderr.isatty() or _in_jupyter()


def clock(seconds: float) -> str:
    """Write a duration as `MM:SS`, or `H:MM:SS` from one hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"


def _in_jupyter() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and "IPKernelApp" in shell.config


def _lines(iterable: Iterable[Item], loop: _Loop, outer: tuple[_Loop, ...]) -> Iterator[Item]:
    first = outer[0] if outer else loop
    for done, item in enumerate(iterable, start=1):
        yield item
        loop.done = done
        now = time.monotonic()
        # A loop's first line comes with its first item, if that took a while; an inner loop waits for its turn.
        waited = now - (first.last_line or first.start) >= LINE_EVERY_SECONDS
        due = waited or (not outer and first.last_line is None and now - first.start >= QUIET_SECONDS)
        if due and (outer or done != loop.total):  # a whole loop's last line follows
            _write_line((*outer, loop), now)
    seconds = time.monotonic() - loop.start
    if not outer and seconds >= QUIET_SECONDS:
        _write_line((loop,), loop.start + seconds)


def _write_line(loops: tuple[_Loop, ...], now: float) -> None:
    first, seconds = loops[0], now - loops[0].start
    done = _items_done(loops)
    left = f", {clock(seconds / done * (first.total - done))} left" if first.total and 0 < done < first.total else ""
    print(f"{', '.join(map(str, loops))} in {clock(seconds)}{left}", file=sys.stderr, flush=True)
    first.last_line = now


def _items_done(loops: tuple[_Loop, ...]) -> float:
    """Items of the outermost loop, with the part of the present one that the loops inside have done."""
    loop, *inner = loops
    share = _items_done(tuple(inner)) / inner[0].total if inner and inner[0].total else 0.0
    return loop.done + min(share, 1.0)
