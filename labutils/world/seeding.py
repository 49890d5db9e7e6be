"""Randomness of the controlled language: named streams, cheap draws, and what belongs to train and to test."""

import zlib
from bisect import bisect_left
from collections.abc import Sequence
from typing import TypeVar

from labutils.core.seeding import generator

Item = TypeVar("Item")

SPLITS = ("train", "test")
TEST_SHARE = 5  # one text in five belongs to the test split
_BUFFER = 4096


def check_split(split: str) -> None:
    """Raise ValueError unless `split` is "train" or "test"."""
    if split not in SPLITS:
        raise ValueError(f"split={split!r} is not one of {', '.join(SPLITS)}.")


def belongs(text: str, split: str) -> bool:
    """Whether `text` is of this split. Its CRC-32 alone decides, so that no text can be in both splits."""
    return (zlib.crc32(text.encode()) % TEST_SHARE == 0) == (split == "test")


class Draws:
    """Buffered random draws: several times faster than one call of a numpy generator per draw."""

    def __init__(self, seed: int, *names: object) -> None:
        self._generator = generator(seed, *names)
        self._buffer: list[float] = []

    def uniform(self) -> float:
        """A number in [0, 1)."""
        if not self._buffer:
            self._buffer = self._generator.random(_BUFFER).tolist()
        return self._buffer.pop()

    def chance(self, probability: float) -> bool:
        return self.uniform() < probability

    def integer(self, low: int, high: int) -> int:
        """An integer between `low` and `high`, both included."""
        return low + int(self.uniform() * (high - low + 1))

    def pick(self, items: Sequence[Item]) -> Item:
        return items[int(self.uniform() * len(items))]

    def sample(self, items: Sequence[Item], n: int) -> list[Item]:
        """`n` different items in random order; ValueError when there are fewer."""
        pool = list(items)
        if n > len(pool):
            raise ValueError(f"cannot draw {n} different items out of {len(pool)}.")
        for position in range(n):
            other = self.integer(position, len(pool) - 1)
            pool[position], pool[other] = pool[other], pool[position]
        return pool[:n]

    def weighted(self, items: Sequence[Item], cumulative: Sequence[float]) -> Item:
        """One item; `cumulative` holds the running sum of the weights, whose last entry is 1."""
        return items[bisect_left(cumulative, self.uniform())]
