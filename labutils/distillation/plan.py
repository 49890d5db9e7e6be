"""The study of notebook 08 as a plan: what is compared, on what, with how many seeds."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar

import pandas as pd

from labutils.core import paths
from labutils.core.provenance import hash_weights
from labutils.distillation.arms import DistillSetting, arms_along
from labutils.distillation.matchers import find_method
from labutils.distillation.sweep import DistillSweep, distill_sweep
from labutils.models.loading import load_model
from labutils.runner.long_study import LongStudy
from labutils.runner.stored_rows import Tables

REFERENCE = "kd"  # what every other arm is compared with
TABLES = tuple(field.name for field in fields(DistillSweep))


@dataclass(frozen=True)
class DistillPlan(LongStudy):
    """All that the rows of a study depend on, under the names of the notebook's parameters.

        plan = lab.distillation.DistillPlan.of(globals())
        sweep = plan.load("data:distillation_runs")

    Attributes:
        model, revision, tasks: as for `distill_sweep`; rates: its `learning_rates`.
        methods: compared at the setting's own rank and share.
        studied: methods with as many seeds as plain distillation, also compared with it at every rank of `ranks` and
            share of `shares`.
        controls: arms that must beat plain distillation if the design can see a gain.
        n_seeds: of plain distillation and the studied methods.
        n_seeds_others: of every other arm.
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
    setting: DistillSetting = DistillSetting()

    @property
    def arms(self) -> dict[str, int]:
        """All arms with their numbers of seeds; plain distillation is always among them, at every rank and share."""
        most = list(dict.fromkeys([REFERENCE, *self.studied]))
        others = [
            *self.methods,
            *self.controls,
            *arms_along(most, "rank", self.ranks, default=self.setting.rank),
            *arms_along(most, "share", self.shares, default=1),
        ]
        return dict.fromkeys([*most, *others], self.n_seeds_others) | dict.fromkeys(most, self.n_seeds)

    def carry_out(self, *, folder: Path | str | None = None, n_jobs: int | None = None) -> DistillSweep:
        """Train and read everything; see `distill_sweep` for the rows, `folder` and `n_jobs`.

        Layers are kept of methods and controls alone: probes and clusters of the arms that vary rank and share are of
        no use to the study, and make up most of the rows.
        """
        for method in [*self.methods, *self.studied]:
            find_method(method)
        sweep = distill_sweep(
            self.model, self.tasks, arms=self.arms, learning_rates=self.rates, setting=self.setting,
            folder=None if folder is None else paths.expand(folder), revision=self.revision, n_jobs=n_jobs,
        )  # fmt: skip
        shown = {*self.methods, *self.controls, *self.studied, REFERENCE, "teacher", "untrained"}
        layers = (_of_arms(sweep.probes, shown), _of_arms(sweep.clusters, shown))
        return DistillSweep(sweep.items, sweep.runs, *layers, sweep.tuning)

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


def _of_arms(table: pd.DataFrame, arms: set[str]) -> pd.DataFrame:
    return table[table["arm"].isin(arms)].reset_index(drop=True) if len(table) else table
