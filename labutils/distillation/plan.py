"""The study of notebook 08 as a plan: what is compared, on what, with how many seeds."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar

import pandas as pd

from labutils.core import paths
from labutils.core.provenance import hash_weights
from labutils.distillation.arms import DistillSetting, arms_along, parse_arm
from labutils.distillation.matchers import find_method
from labutils.distillation.sweep import DistillSweep, distill_sweep
from labutils.models.loading import load_model
from labutils.runner.long_study import LongStudy
from labutils.runner.stored_rows import Tables, load_rows, read_origin

REFERENCE = "kd"  # what every other arm is compared with
NOTHING = "none"  # learns from labels alone: what the reference must beat
TABLES = tuple(field.name for field in fields(DistillSweep))


@dataclass(frozen=True)
class DistillPlan(LongStudy):
    """All that the rows of a study depend on, under the names of the notebook's parameters.

        plan = lab.distillation.DistillPlan.of(globals())
        sweep = plan.load("data:distillation_runs")

    Attributes:
        model, revision, tasks: as for `distill_sweep`; rates: its `learning_rates`.
        methods: compared at the setting's own rank and share.
        studied: methods also compared with plain distillation at every rank of `ranks` and share of `shares`, and from
            students that are cut from the model.
        controls: arms that must beat plain distillation if the design can see a gain.
        n_seeds: of all methods, at every share and with both kinds of student.
        n_seeds_others: of every other arm.
        floor, ceiling: students are trained on those of the `tasks` whose teacher's validation score is at least
            `floor` above chance and below `ceiling`; without a ceiling on all of them.
        setting: sizes.
    """

    room: ClassVar[str] = "distillation"
    notebook: ClassVar[str] = "08_layer_distillation"

    model: str
    tasks: list[str]
    methods: list[str]
    controls: list[str]
    studied: list[str]
    ranks: list[int]
    shares: list[float]
    rates: list[float]
    n_seeds: int
    n_seeds_others: int
    revision: str | None = None
    floor: float = 0.1
    ceiling: float | None = None
    setting: DistillSetting = DistillSetting()

    @property
    def arms(self) -> dict[str, int]:
        """All arms with their numbers of seeds.

        Plain distillation is always among them, at every rank, share and kind of student; beside it, at every share and
        kind of student, the student that learns from labels alone.
        """
        compared = list(dict.fromkeys([REFERENCE, *self.studied]))
        beside = list(dict.fromkeys([NOTHING, *compared]))
        # where every student is cut from the model there is no other kind to compare with
        cut = [f"{method}/cut" for method in beside] if self.setting.width is not None else []
        most = [*compared, *self.methods, *arms_along(beside, "share", self.shares, default=1), *cut]
        others = [*self.controls, *arms_along(compared, "rank", self.ranks, default=self.setting.rank)]
        return dict.fromkeys([*most, *others], self.n_seeds_others) | dict.fromkeys(most, self.n_seeds)

    def load_earlier(self, source: Path | str) -> tuple[DistillSweep, list[str]]:
        """Stored rows of this plan or of an earlier one, and what the plan they come from has otherwise.

            found, differing = plan.load_earlier("data:distillation_runs")

        For a notebook that can say which of its verdicts need rows that are not there yet. The rows must be of the same
        model.

        Returns:
            the rows; and a line per difference, such as "temperature: 1; now 4" (none for this plan's own rows).

        Raises:
            LookupError: nothing is stored there.
            ValueError: a file was altered, or the rows come from other weights.
        """
        wanted, stored = self.described(), read_origin(source)["plan"]
        differing = [
            f"{name}: {_said(stored.get(name, 'not known then'))}; now {_said(value)}"
            for name, value in wanted.items()
            if stored.get(name, ...) != value
        ]
        return self.from_tables(load_rows(source, None, model_sha256=self.hash_model())), differing

    def count_runs(self) -> int:
        """How many students the study trains if every task is admitted, those that choose learning rates included."""
        tuned = {parse_arm(arm).tuned for arm in self.arms}
        tuning = len(tuned) * len(self.rates) * self.setting.n_tuning if len(self.rates) > 1 else 0
        return len(self.tasks) * (sum(self.arms.values()) + tuning)

    def carry_out(self, *, folder: Path | str | None = None, n_jobs: int | None = None) -> DistillSweep:
        """Train and read everything; see `distill_sweep` for the rows, `folder` and `n_jobs`.

        Layers are kept of methods and controls alone: probes and clusters of the arms that vary rank, share and student
        are of no use to the study, and make up most of the rows.
        """
        for method in [*self.methods, *self.studied]:
            find_method(method)
        sweep = distill_sweep(
            self.model, self.tasks, arms=self.arms, learning_rates=self.rates, setting=self.setting,
            admitted=None if self.ceiling is None else (self.floor, self.ceiling),
            folder=None if folder is None else paths.expand(folder), revision=self.revision, n_jobs=n_jobs,
        )  # fmt: skip
        shown = {*self.methods, *self.controls, *self.studied, REFERENCE, NOTHING, "teacher", "untrained"}
        layers = (_of_arms(sweep.probes, shown), _of_arms(sweep.clusters, shown))
        return DistillSweep(sweep.items, sweep.runs, *layers, sweep.tuning, sweep.teachers)

    def hash_model(self) -> str:
        """SHA-256 of the weights of the teachers' backbone."""
        return hash_weights(load_model(self.model, revision=self.revision)[0])

    def to_tables(self, rows: DistillSweep) -> Tables:
        """The tables of a sweep that have rows."""
        return {name: getattr(rows, name) for name in TABLES if len(getattr(rows, name))}

    def from_tables(self, tables: Tables) -> DistillSweep:
        """The sweep, with empty frames for tables that had no rows."""
        return DistillSweep(**{name: tables.get(name, pd.DataFrame()) for name in TABLES})

    def count_seconds(self, rows: DistillSweep) -> float:
        """Of all students; teachers are few."""
        return float(rows.runs["seconds"].sum())


def _said(value: object) -> str:
    return ", ".join(map(str, value)).replace("lab:", "") if isinstance(value, list) else str(value)


def _of_arms(table: pd.DataFrame, arms: set[str]) -> pd.DataFrame:
    return table[table["arm"].isin(arms)].reset_index(drop=True) if len(table) else table
