"""A study of hours written down: read from parameters, carried out, stored with its origin, and read again."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from labutils.core import paths
from labutils.runner.records import portable
from labutils.runner.stored_rows import Tables, load_rows, store_rows

Study = TypeVar("Study", bound="LongStudy")


@dataclass(frozen=True)
class LongStudy(ABC):
    """All that the rows of a study depend on, as a dataclass whose fields are the parameters of a notebook.

    A field may itself be a dataclass with defaults, such as a setting of sizes; its fields are parameters beside the
    others.

        plan = StudyPlan.of({"model": "lab-llama", …})
        rows = plan.carry_out(folder="results/adaptation", n_jobs=16)
        plan.save(rows, "data/adaptation_runs")
        rows = plan.load("data:adaptation_runs")

    Attributes:
        room: the package of the study; runs are kept in `results/<room>`, rows in `data/<room>_runs`.
        notebook: whose parameters the plan takes where no file is given.
        single: columns that are stored in single precision.
    """

    room: ClassVar[str]
    notebook: ClassVar[str]
    single: ClassVar[tuple[str, ...]] = ("loss",)

    @classmethod
    def of(cls: type[Study], parameters: Mapping[str, Any]) -> Study:
        """The plan among the parameters of a notebook, which may hold others beside it, or as `described` gives it.

        Raises:
            LookupError: one that has no default is missing.
        """
        missing = [field.name for field in fields(cls) if field.default is MISSING and field.name not in parameters]
        if missing:
            raise LookupError(f"the {cls.room} study needs more parameters: {', '.join(missing)}")
        return cls(**_chosen(cls, parameters))

    def described(self) -> dict[str, Any]:
        """The plan as one mapping that JSON can hold, without this machine's folders."""
        plain = asdict(self)
        for field in fields(self):
            if is_dataclass(getattr(self, field.name)):
                plain |= plain.pop(field.name)
        return portable(plain)

    def forecast(self, seconds_per_run: float) -> str:
        """What the study takes on one core, from the seconds that a run took elsewhere.

        >>> plan.forecast(7.2)
        '720 runs × 7.2 s = 1.4 hours of one core'
        """
        n = self.count_runs()
        return f"{n:,} runs × {seconds_per_run:.1f} s = {n * seconds_per_run / 3600:.1f} hours of one core"

    def save(self, rows: Any, folder: Path | str) -> dict[str, Any]:
        """Store the study's rows and their origin in a folder; the origin is returned."""
        return store_rows(
            self.to_tables(rows), paths.expand(folder), plan=self.described(), single=self.single,
            model_sha256=self.hash_model(), processor_seconds=round(self.count_seconds(rows)),
        )  # fmt: skip

    def load(self, source: Path | str) -> Any:
        """The rows that `save` stored, if they come from this plan and from the model as it is now.

        Args:
            source: "data:<name>" for what comes with the collection, or a folder.

        Raises:
            LookupError: nothing is stored there.
            ValueError: a file was altered, or the rows come from another plan or other weights.
        """
        return self.from_tables(load_rows(source, self.described(), model_sha256=self.hash_model()))

    @abstractmethod
    def carry_out(self, *, folder: Path | str | None = None, n_jobs: int | None = None) -> Any:
        """Compute all rows.

        Args:
            folder: where finished runs are kept; a study that finds them there goes on from them. None keeps nothing.
            n_jobs: parallel processes; None leaves it to `joblib.parallel_config`.
        """

    @abstractmethod
    def count_runs(self) -> int:
        """How many runs the study makes; finished ones are not made again."""

    @abstractmethod
    def hash_model(self) -> str:
        """SHA-256 of the weights of the model that is studied."""

    @abstractmethod
    def to_tables(self, rows: Any) -> Tables:
        """The rows as they are stored; one table is called `runs`."""

    @abstractmethod
    def from_tables(self, tables: Tables) -> Any:
        """The inverse of `to_tables`."""

    @abstractmethod
    def count_seconds(self, rows: Any) -> float:
        """Seconds of computing that the rows took."""


def _chosen(kind: type, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The values among parameters for the fields of a dataclass, and of the dataclasses that are its defaults."""
    nested = [field for field in fields(kind) if is_dataclass(field.default)]
    values = {field.name: replace(field.default, **_chosen(type(field.default), parameters)) for field in nested}
    named = {field.name for field in fields(kind)} - set(values)
    return values | {name: parameters[name] for name in named if name in parameters}
