"""What a recovery costs in time: the processor's seconds, and the seconds that one waits."""

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Spent:
    """Time spent.

    Attributes:
        seconds: of the processor, all threads together; what a GPU does is not in it.
        wall_seconds: by the clock on the wall, whatever else the machine did meanwhile.
    """

    seconds: float = 0.0
    wall_seconds: float = 0.0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.seconds + other.seconds, self.wall_seconds + other.wall_seconds)


class Stopwatch:
    """It runs from when it is made.

    >>> Stopwatch().spent()
    Spent(seconds=0.0, wall_seconds=0.0)
    """

    def __init__(self) -> None:
        self._begun = time.process_time(), time.perf_counter()

    def spent(self) -> Spent:
        """The time since then."""
        return Spent(time.process_time() - self._begun[0], time.perf_counter() - self._begun[1])
