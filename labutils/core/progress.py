"""Progress of long loops: a bar where somebody watches, timed lines where nobody does.

In a terminal or in Jupyter, `progress` draws a tqdm bar with the time left. Without a terminal (a log file, a
notebook run headless) it writes a dated line at most every ten seconds, so that a log stays short and still tells how
far the work is. What takes less than two seconds prints nothing in either case, and neither does a loop inside
another one that is being shown: of a sweep over prunings one sees the sweep.
"""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextvars import ContextVar
from typing import TypeVar

from tqdm.std import tqdm  # not `tqdm.auto`, which warns in a Jupyter without widgets

Item = TypeVar("Item")

QUIET_SECONDS = 2.0
LINE_EVERY_SECONDS = 10.0

_inside: ContextVar[bool] = ContextVar("inside a loop that shows its progress", default=False)


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
    if _inside.get():
        yield from iterable
        return
    _inside.set(True)
    try:
        yield from _shown(iterable, total, description, unit)
    finally:
        _inside.set(False)


def _shown(iterable: Iterable[Item], total: int | None, description: str, unit: str) -> Iterator[Item]:
    if is_watched():
        yield from tqdm(iterable, total=total, desc=description, unit=unit, delay=QUIET_SECONDS)
    else:
        yield from _lines(iterable, total, description, unit)


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


def _lines(iterable: Iterable[Item], total: int | None, description: str, unit: str) -> Iterator[Item]:
    start = time.monotonic()
    last_line = None
    done = 0
    for done, item in enumerate(iterable, start=1):
        yield item
        now = time.monotonic()
        waited = LINE_EVERY_SECONDS if last_line is None else now - last_line
        if now - start >= QUIET_SECONDS and waited >= LINE_EVERY_SECONDS and done != total:
            _write_line(description, done, total, unit, now - start)
            last_line = now
    seconds = time.monotonic() - start
    if seconds >= QUIET_SECONDS:
        _write_line(description, done, total, unit, seconds)


def _write_line(description: str, done: int, total: int | None, unit: str, seconds: float) -> None:
    left = f", {clock(seconds / done * (total - done))} left" if total and done and done < total else ""
    count = f"{done}/{total}" if total is not None else f"{done}"
    print(f"{description}: {count} {unit} in {clock(seconds)}{left}", file=sys.stderr, flush=True)
