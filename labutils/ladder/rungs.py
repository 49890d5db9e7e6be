"""Rungs of the ladder: a recipe of a lab model and the seed it is trained from."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from labutils.lab_models.loop import find_spec

LINE = re.compile(r"(?P<recipe>[^@\s]+)@(?P<first>\d+)(-(?P<last>\d+))?")


@dataclass(frozen=True)
class Rung:
    """A model of the ladder. The seed draws its weights, its text and their order; the tokenizer is that of all."""

    recipe: str
    seed: int

    @property
    def name(self) -> str:
        """As it stands in tables: "lab-llama@3"."""
        return f"{self.recipe}@{self.seed}"


def read_rungs(lines: Sequence[str]) -> list[Rung]:
    """The rungs that lines name, a recipe and its seeds each.

    >>> [rung.name for rung in read_rungs(["lab-llama@0-2", "lab-opt@0"])]
    ['lab-llama@0', 'lab-llama@1', 'lab-llama@2', 'lab-opt@0']

    Raises:
        ValueError: no line, one that is not written like that, or a rung named twice.
        LookupError: no recipe of that name.
    """
    if isinstance(lines, str) or not lines:
        raise ValueError(f'a ladder needs a list of rungs, as ["lab-llama@0-4"], not {lines!r}')
    rungs: list[Rung] = []
    for line in lines:
        found = LINE.fullmatch(line)
        if found is None or int(found["last"] or found["first"]) < int(found["first"]):
            raise ValueError(f'{line!r} is not a recipe and its seeds; write "lab-llama@0-4" or "lab-llama@3"')
        seeds = range(int(found["first"]), int(found["last"] or found["first"]) + 1)
        rungs += [Rung(find_spec(found["recipe"]).name, seed) for seed in seeds]
    if twice := [rung.name for rung in rungs if rungs.count(rung) > 1]:
        raise ValueError(f"{twice[0]} stands twice in the ladder {', '.join(lines)}")
    return rungs
