"""What is taken out of a model: whole blocks, sublayers, neurons, key-value groups, experts, by their numbers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Integral

Numbers = Mapping[int, tuple[int, ...]]

PARTS = ("attention", "mlp")


@dataclass(frozen=True)
class Removal:
    """What is taken out of a model. All numbers are those of the dense model, from 0 on.

    >>> Removal(blocks=(3,), neurons={0: (1, 5)})

    Attributes:
        blocks: blocks that go as a whole.
        sublayers: (block, "attention" or "mlp") whose output is no longer added to the residual stream. No
            configuration of transformers can leave one out, so their last matrix is set to zero: nothing gets
            smaller.
        neurons: block → inner neurons of its feed-forward part.
        groups: block → key-value heads, each with all the query heads that read it.
        experts: block → experts of its mixture.
    """

    blocks: tuple[int, ...] = ()
    sublayers: tuple[tuple[int, str], ...] = ()
    neurons: Numbers = field(default_factory=dict)
    groups: Numbers = field(default_factory=dict)
    experts: Numbers = field(default_factory=dict)

    def kept_blocks(self, n_blocks: int) -> list[int]:
        """The blocks that stay, in their order."""
        return [block for block in range(n_blocks) if block not in self.blocks]


def kept_units(removed: Numbers, block: int, count: int) -> list[int]:
    """The units of a block that stay, in their order.

    >>> kept_units({2: (0, 3)}, 2, 5)
    [1, 2, 4]
    """
    gone = set(removed.get(block, ()))
    return [unit for unit in range(count) if unit not in gone]


def check_numbers(given: Iterable[int], count: int, what: str, *, may_be_all: bool = False) -> None:
    """Refuse numbers that are not there, that come twice, or that leave nothing.

    Raises:
        ValueError: it says which, and which there are.
    """
    numbers = list(given)
    wrong = [number for number in numbers if isinstance(number, bool) or not isinstance(number, Integral)]
    if wrong or any(not 0 <= number < count for number in numbers):
        bad = wrong[0] if wrong else next(number for number in numbers if not 0 <= number < count)
        raise ValueError(f"there is no {what} {bad!r}; the model has {count}, numbered 0 to {count - 1}.")
    if len(set(numbers)) < len(numbers):
        twice = next(number for number in numbers if numbers.count(number) > 1)
        raise ValueError(f"{what} {twice} is named twice; name each once.")
    if len(numbers) == count and not may_be_all:
        raise ValueError(f"all {count} of a kind ({what}) would go; at least one must stay.")
