"""What the runner shows: one bar over notebooks and cells in a terminal or Jupyter, timed lines elsewhere."""

import sys
import threading
import time
from collections.abc import Sequence

from tqdm.std import tqdm

from labutils.core.progress import clock, is_watched
from labutils.runner.planning import Study


class Board:
    """Shows where the notebooks of a run are; safe to call from the threads that supervise them."""

    def __init__(self, studies: Sequence[Study]) -> None:
        self._cells = {study.stem: study.code_cells for study in studies}
        self._begun: dict[str, float] = {}
        self._counted = dict.fromkeys(self._cells, 0)
        self._mutex = threading.Lock()
        self._bar = None
        if is_watched():
            self._bar = tqdm(total=sum(self._cells.values()), unit="cell", desc="notebooks")

    def begin(self, stem: str) -> None:
        """A notebook starts; its clock runs from here."""
        self._begun[stem] = time.monotonic()

    def cell(self, stem: str, number: int, first_line: str) -> None:
        """A notebook begins with its code cell `number`."""
        with self._mutex:
            if self._bar is None:
                self._print(f"{self._place(stem, number)} {first_line}")
            else:
                self._advance(stem, number - 1)
                self._bar.set_postfix_str(f"{stem} {number}/{self._cells[stem]} {first_line}")

    def text(self, stem: str, number: int, line: str) -> None:
        """A cell reports how far it is."""
        with self._mutex:
            if self._bar is None:
                self._print(f"{self._place(stem, number)}   {line}")
            else:
                self._bar.set_postfix_str(f"{stem} {number}/{self._cells[stem]} {line}")

    def note(self, line: str) -> None:
        """Something worth a line of its own."""
        with self._mutex:
            self._print(line)

    def end(self, stem: str, line: str) -> None:
        """A notebook is done, one way or the other."""
        with self._mutex:
            if self._bar is not None:
                self._advance(stem, self._cells[stem])
            self._print(f"[{stem} {clock(time.monotonic() - self._begun.get(stem, time.monotonic()))}] {line}")

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()

    def _place(self, stem: str, number: int) -> str:
        seconds = time.monotonic() - self._begun[stem]
        return f"[{stem} {number}/{self._cells[stem]} {clock(seconds)}]"

    def _advance(self, stem: str, done: int) -> None:
        self._bar.update(done - self._counted[stem])
        self._counted[stem] = done

    def _print(self, line: str) -> None:
        if self._bar is None:
            print(line, file=sys.stderr, flush=True)
        else:
            self._bar.write(line, file=sys.stderr)
