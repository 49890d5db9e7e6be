"""Hyperparameters of adaptation and fine-tuning, written as one line each: "lora rate=1e-3 steps=40".

A line is a method and the values that differ from the defaults. Lines can be parameters of a notebook, and two lines
that mean the same give equal configurations.
"""

from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from typing import ClassVar, TypeVar

Kind = TypeVar("Kind", bound="Configuration")


@dataclass(frozen=True)
class Configuration:
    """What all configurations share: the weights that are trained, and how fast."""

    method: str = "full"
    rate: float = 1e-3
    batch: int = 8
    rank: int = 8
    methods: ClassVar[tuple[str, ...]] = ("full", "lora")

    def __post_init__(self) -> None:
        if self.method not in self.methods:
            known = ", ".join(self.methods)
            raise ValueError(f"method {self.method!r} is not one of {known}{_near(self.method, self.methods)}")
        for name, value in asdict(self).items():
            if name != "method" and not value > 0:
                raise ValueError(f"{name}={value} must be above 0")

    @classmethod
    def read(cls: type[Kind], line: str) -> Kind:
        """The configuration that a line describes.

        Raises:
            ValueError: an unknown method or name (the nearest is named), a value of another type, or one not above 0.
        """
        method, *settings = line.split() or [""]
        absent = {"method"} if method == "lora" else {"method", "rank"}
        types = {field.name: field.type for field in fields(cls) if field.name not in absent}
        values = {}
        for setting in settings:
            name, equals, value = setting.partition("=")
            if not equals or name not in types:
                known = ", ".join(f"{known}=…" for known in types)
                raise ValueError(f"{setting!r} in {line!r}: the method {method!r} takes {known}{_near(name, types)}")
            try:
                values[name] = types[name](value)
            except ValueError as error:
                raise ValueError(f"{setting!r} in {line!r}: {name} is {types[name].__name__}") from error
        return cls(method, **values)

    def __str__(self) -> str:
        """The line with all values written out; the rank only where there is one."""
        values = {name: value for name, value in asdict(self).items() if name != "method"}
        if self.method != "lora":
            del values["rank"]
        return " ".join([self.method, *(f"{name}={value:g}" for name, value in values.items())])


@dataclass(frozen=True)
class Adaptation(Configuration):
    """Language-model training on a sample.

    `method`: "full" trains all weights, "lora" a low-rank update of every linear layer (Hu et al. 2022, ICLR), whose
    inner dimension is `rank`. `rate`: peak learning rate. `batch`: sequences per step.
    """

    steps: int = 40


@dataclass(frozen=True)
class Tuning(Configuration):
    """Regression of a similarity score on a pair of sentences.

    As for `Adaptation`; `batch` counts pairs, and the method "head" leaves the language model as it is and trains the
    regression on top of it alone.
    """

    epochs: int = 3
    methods: ClassVar[tuple[str, ...]] = ("full", "lora", "head")


def _near(given: str, known: object) -> str:
    near = get_close_matches(given, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
