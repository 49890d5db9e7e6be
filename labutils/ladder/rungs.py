"""Rungs of the ladder: a recipe of a lab model and the seed it is trained from."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labutils.core import paths
from labutils.lab_models.loop import find_spec

LINE = re.compile(r"(?P<recipe>[^@\s]+)@((?P<first>\d+)(-(?P<last>\d+))?|shipped)")


@dataclass(frozen=True)
class Rung:
    """A model of the ladder. The seed draws its weights, its text and their order; the tokenizer is that of all.

    Without a seed it is the model of the recipe that comes with the collection, which read more than the others may.
    """

    recipe: str
    seed: int | None

    @property
    def name(self) -> str:
        """As it stands in tables: "lab-llama@3", "lab-llama@shipped"."""
        return f"{self.recipe}@{'shipped' if self.seed is None else self.seed}"


def read_rungs(lines: Sequence[str]) -> list[Rung]:
    """The rungs that lines name: a recipe and its seeds, or a recipe and the word "shipped".

    >>> [rung.name for rung in read_rungs(["lab-llama@0-2", "lab-opt@shipped"])]
    ['lab-llama@0', 'lab-llama@1', 'lab-llama@2', 'lab-opt@shipped']

    Raises:
        ValueError: no line, one that is not written like that, a rung named twice, or "shipped" of a recipe whose
            model does not come with the collection.
        LookupError: no recipe of that name.
    """
    if isinstance(lines, str) or not lines:
        raise ValueError(f'a ladder needs a list of rungs, as ["lab-llama@0-4"], not {lines!r}')
    rungs: list[Rung] = []
    for line in lines:
        found = LINE.fullmatch(line)
        first, last = (found["first"] or 0, found["last"] or found["first"] or 0) if found else (0, -1)
        if int(last) < int(first):
            raise ValueError(f'{line!r} is not a recipe and its seeds; write "lab-llama@0-4" or "lab-llama@3"')
        recipe = find_spec(found["recipe"]).name
        if found["first"]:
            rungs += [Rung(recipe, seed) for seed in range(int(first), int(last) + 1)]
        elif shipped_folder(recipe).exists():
            rungs.append(Rung(recipe, None))
        else:
            raise ValueError(f"{line}: no model of {recipe} comes with the collection; give it seeds")
    if twice := [rung.name for rung in rungs if rungs.count(rung) > 1]:
        raise ValueError(f"{twice[0]} stands twice in the ladder {', '.join(lines)}")
    return rungs


def shipped_folder(recipe: str) -> Path:
    """Where the model of a recipe lies that comes with the collection, if one does."""
    return paths.MODELS / recipe
