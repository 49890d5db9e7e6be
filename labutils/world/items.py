"""What a task is, and what its items are."""

from collections.abc import Callable
from dataclasses import dataclass

from labutils.world.seeding import Draws

FAMILIES = ("sentiment", "qa", "inference", "topic")


@dataclass(frozen=True, slots=True)
class Choice:
    """A prompt to be continued by a blank and one of the choices; `gold` is the position of the right one."""

    prompt: str
    choices: tuple[str, ...]
    gold: int


@dataclass(frozen=True, slots=True)
class Pair:
    """Two sentences and how much of their meaning they share, from 0 (nothing) to 5 (all)."""

    sentence1: str
    sentence2: str
    score: float


@dataclass(frozen=True)
class TaskSpec:
    """A task of the controlled language.

    >>> world.TASKS["qa/birthplaces"].chance

    `kind` is "choice" or "similarity"; `chance` is the accuracy (or rank correlation) of guessing; `splits_by` says
    what keeps train and test apart: the wording of the item, or the entity it asks about.
    """

    name: str
    write: Callable[[Draws, str], Choice | Pair]
    domain: str
    description: str
    chance: float
    kind: str = "choice"
    splits_by: str = "wording"

    @property
    def family(self) -> str:
        return self.name.split("/")[0]


def labelled(prompt: str, choices: tuple[str, ...], right: str) -> Choice:
    """An item whose choices stand in a fixed order."""
    return Choice(prompt, choices, choices.index(right))


def shuffled(draws: Draws, prompt: str, right: str, wrong: list[str]) -> Choice:
    """An item whose choices stand in random order."""
    choices = tuple(draws.sample([right, *wrong], 1 + len(wrong)))
    return Choice(prompt, choices, choices.index(right))


def others(draws: Draws, items: list[str] | tuple[str, ...], right: str, n: int) -> list[str]:
    """`n` different items, none of them the right one."""
    return draws.sample([item for item in dict.fromkeys(items) if item != right], n)
