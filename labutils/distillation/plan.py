"""A whole distillation study written down: carried out, stored with its origin, and read again."""

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from labutils.core.files import without_paths
from labutils.core.provenance import hash_weights
from labutils.distillation.arms import DistillSetting, arms_along
from labutils.distillation.matchers import find_method
from labutils.distillation.store import hash_code
from labutils.distillation.sweep import DistillSweep, distill_sweep
from labutils.models.loading import load_model
from labutils.runner.stored_rows import describe_origin, load_rows, store_rows

REFERENCE = "kd"  # what every other arm is compared with
TABLES = tuple(field.name for field in fields(DistillSweep))


@dataclass(frozen=True)
class DistillPlan:
    """All that the rows of a study depend on, under the names of the notebook's parameters.

    Attributes:
        model, revision, tasks, rates: as for `distill_sweep`.
        methods: compared at the setting's own rank and share.
        studied: methods with as many seeds as plain distillation, also compared with it at every rank of `ranks` and
            share of `shares`.
        controls: arms that must beat plain distillation if the design can see a gain.
        n_seeds: of plain distillation and the studied methods.
        n_seeds_others: of every other arm.
        setting: sizes.
    """

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

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> "DistillPlan":
        """The plan among parameters, those of its setting included, as a notebook or `described` has them.

        Raises:
            LookupError: one that has no default is missing.
        """
        own = [each for each in fields(cls) if each.name != "setting"]
        missing = [each.name for each in own if each.default is MISSING and each.name not in parameters]
        if missing:
            raise LookupError(f"a distillation study needs more parameters: {', '.join(missing)}")
        sizes = {each.name: parameters[each.name] for each in fields(DistillSetting) if each.name in parameters}
        return cls(
            **{each.name: parameters[each.name] for each in own if each.name in parameters},
            setting=DistillSetting(**sizes),
        )

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

    def described(self) -> dict[str, Any]:
        """The plan and its setting as one mapping that JSON can hold, without this machine's folders."""
        plain = asdict(self)
        plain |= plain.pop("setting") | {"model": without_paths(self.model)}
        return plain | {"tasks": [without_paths(task) for task in self.tasks]}


def carry_out(plan: DistillPlan, *, folder: Path | str | None = None, n_jobs: int | None = None) -> DistillSweep:
    """Train and read everything; see `distill_sweep` for the rows, `folder` and `n_jobs`.

    Layers are kept of methods and controls alone: probes and clusters of the arms that vary rank and share are of no
    use to the study, and make up most of the rows.
    """
    for method in [*plan.methods, *plan.studied]:
        find_method(method)
    sweep = distill_sweep(
        plan.model, plan.tasks, arms=plan.arms, rates=plan.rates, setting=plan.setting,
        folder=None if folder is None else Path(folder), revision=plan.revision, n_jobs=n_jobs,
    )  # fmt: skip
    shown = {*plan.methods, *plan.controls, *plan.studied, REFERENCE, "teacher", "untrained"}
    layers = (_of_arms(sweep.probes, shown), _of_arms(sweep.clusters, shown))
    return DistillSweep(sweep.items, sweep.runs, *layers, sweep.tuning)


def save_study(sweep: DistillSweep, plan: DistillPlan, folder: Path) -> dict[str, Any]:
    """Store a study's rows and their origin in a folder; the origin is returned."""
    tables = {name: getattr(sweep, name) for name in TABLES if len(getattr(sweep, name))}
    return store_rows(
        tables, folder, plan=plan.described(), model_sha256=_hash_model(plan), code_sha256=hash_code(),
        processor_seconds=round(float(sweep.runs["seconds"].sum())),
    )  # fmt: skip


def load_study(source: str | Path, plan: DistillPlan) -> DistillSweep:
    """The rows that `save_study` stored, if they come from this plan and from the model as it is now.

    Raises:
        LookupError: nothing is stored there.
        ValueError: a file was altered, or the rows come from another plan or other weights.
    """
    tables = load_rows(source, plan.described(), model_sha256=_hash_model(plan))
    return DistillSweep(**{name: tables.get(name, pd.DataFrame()) for name in TABLES})


def tell_origin(source: str | Path) -> str:
    """Where stored rows come from, and whether the sources that train and read a student are still the same."""
    return describe_origin(source, code_sha256=hash_code())


def _of_arms(table: pd.DataFrame, arms: set[str]) -> pd.DataFrame:
    return table[table["arm"].isin(arms)].reset_index(drop=True) if len(table) else table


def _hash_model(plan: DistillPlan) -> str:
    return hash_weights(load_model(plan.model, revision=plan.revision)[0])
