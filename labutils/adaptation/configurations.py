"""Hyperparameters of adaptation and fine-tuning, written as one line each: "lora rate=1e-3 steps=40".

A line is a method and the values that differ from the defaults. Lines can be parameters of a notebook, and two lines
that mean the same give equal configurations.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import ClassVar, TypeVar

import pandas as pd

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


def configuration_table(lines: Iterable[str], kind: type[Configuration] = Tuning) -> pd.DataFrame:
    """Configurations as rows under their lines: method, learning_rate, batch_size, rank, and epochs or steps.

    The column `nth_rate` counts the different learning rates of each method from its lowest, 1.

        configuration_table(runs["finetuning_line"]).query("epochs >= 2")

    Raises:
        ValueError: a line that is none, as `Configuration.read`.
    """
    rows = {line: asdict(kind.read(line)) for line in dict.fromkeys(lines)}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("line")
    return table.assign(nth_rate=table.groupby("method")["learning_rate"].rank("dense").astype(int))


def short_names(lines: Iterable[str], kind: type[Configuration] = Tuning) -> dict[str, str]:
    """Line → a name for figures that tells the lines apart: "full 1e-3, 3 epochs"; batch and rank where they differ.

    >>> short_names(["lora rate=1e-3 batch=16 epochs=3", "full rate=3e-4 epochs=1"])
    """
    table = configuration_table(lines, kind)
    length = "epochs" if "epochs" in table else "steps"
    names = {}
    for line, row in table.iterrows():
        name = f"{row['method']} {_plain(row['learning_rate'])}, {row[length]} {length}"
        name = name.removesuffix("s") if row[length] == 1 else name
        name += f", batch {row['batch_size']}" if table["batch_size"].nunique() > 1 else ""
        loras = table.loc[table["method"] == "lora", "rank"]
        name += f", rank {row['rank']}" if row["method"] == "lora" and loras.nunique() > 1 else ""
        names[str(line)] = name
    return names


def name_configurations(runs: pd.DataFrame) -> dict[str, str]:
    """Code → short name for all configurations of a study: {"D1": "full 3e-4, 40 steps", "H1": …}.

    >>> name_configurations(rows.runs)["H1"]

    Args:
        runs: `runs` of a study; the base model's, which has no adaptation, is left out.
    """
    adapted = runs[runs["adaptation"] != "none"]
    named = {}
    for column, kind in (("adaptation", Adaptation), ("finetuning", Tuning)):
        rows = adapted if column == "adaptation" else runs
        lines = dict(zip(rows[column], rows[f"{column}_line"], strict=True))
        short = short_names(lines.values(), kind)
        named |= {str(code): short[line] for code, line in lines.items()}
    return named


def _plain(rate: float) -> str:
    """A rate as one writes it: 3e-4."""
    digits, exponent = f"{rate:e}".split("e")
    return f"{float(digits):g}e{int(exponent)}"
