"""Hyperparameters of adaptation and fine-tuning, written as one line each: "lora rate=1e-3 steps=40".

A line is a method and the values that differ from the defaults. Lines can be parameters of a notebook, and two lines
that mean the same give equal configurations.
"""

from dataclasses import asdict, dataclass, fields
from typing import ClassVar, TypeVar

from labutils.core.options import suggest

Kind = TypeVar("Kind", bound="Configuration")
SHORT = {"learning_rate": "rate", "batch_size": "batch"}  # as lines spell them; stored studies are compared by lines


@dataclass(frozen=True)
class Configuration:
    """What all configurations share: the weights that are trained, and how fast."""

    method: str = "full"
    learning_rate: float = 1e-3
    batch_size: int = 8
    rank: int = 8
    methods: ClassVar[tuple[str, ...]] = ("full", "lora")

    def __post_init__(self) -> None:
        if self.method not in self.methods:
            known = ", ".join(self.methods)
            raise ValueError(f"method {self.method!r} is not one of {known}.{suggest(self.method, self.methods)}")
        for name, value in asdict(self).items():
            if name != "method" and not value > 0:
                raise ValueError(f"{SHORT.get(name, name)}={value} must be above 0")

    @classmethod
    def read(cls: type[Kind], line: str) -> Kind:
        """The configuration that a line describes; `learning_rate=` and `batch_size=` may be spelled in full.

        >>> Adaptation.read("lora rate=1e-3 steps=7").learning_rate
        0.001

        Raises:
            ValueError: an unknown method or name (the nearest is named), a value of another type, or one not above 0.
        """
        method, *settings = line.split() or [""]
        absent = {"method"} if method == "lora" else {"method", "rank"}
        known = {SHORT.get(field.name, field.name): field for field in fields(cls) if field.name not in absent}
        values = {}
        for setting in settings:
            name, equals, value = setting.partition("=")
            field = known.get(SHORT.get(name, name))
            if not equals or field is None:
                takes = ", ".join(f"{name}=…" for name in known)
                raise ValueError(f"{setting!r} in {line!r}: the method {method!r} takes {takes}.{suggest(name, known)}")
            try:
                values[field.name] = field.type(value)
            except ValueError as error:
                raise ValueError(f"{setting!r} in {line!r}: {name} is {field.type.__name__}") from error
        return cls(method, **values)

    def __str__(self) -> str:
        """The line with all values written out; the rank only where there is one."""
        values = {SHORT.get(name, name): value for name, value in asdict(self).items() if name != "method"}
        if self.method != "lora":
            del values["rank"]
        return " ".join([self.method, *(f"{name}={value:g}" for name, value in values.items())])


@dataclass(frozen=True)
class Adaptation(Configuration):
    """Language-model training on a sample.

    `method`: "full" trains all weights, "lora" a low-rank update of every linear layer (Hu et al. 2022, ICLR), whose
    inner dimension is `rank`. `learning_rate`: its peak. `batch_size`: sequences per step.
    """

    steps: int = 40


@dataclass(frozen=True)
class Tuning(Configuration):
    """Regression of a similarity score on a pair of sentences.

    As for `Adaptation`; `batch_size` counts pairs, and the method "head" leaves the language model as it is and trains
    the regression on top of it alone.
    """

    epochs: int = 3
    methods: ClassVar[tuple[str, ...]] = ("full", "lora", "head")
