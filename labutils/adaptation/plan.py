"""A whole study written down: what is drawn, trained and scored. Carried out, stored with its origin, read again."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from labutils.adaptation.configurations import Adaptation, Tuning
from labutils.adaptation.jobs import StudySetting
from labutils.adaptation.samples import Sample, draw_samples
from labutils.adaptation.study import RUN, StudyRows, run_study
from labutils.adaptation.training import load_base
from labutils.core import paths
from labutils.core.files import hash_bytes, without_paths
from labutils.core.paths import run_folder
from labutils.core.provenance import hash_weights
from labutils.data.tasks import Task, load_task
from labutils.runner.stored_rows import load_rows, read_origin, store_rows


@dataclass(frozen=True)
class StudyPlan:
    """All that the rows of a study depend on.

    `model`, `revision`: as for `load_base`. `sources`, `n_samples`, `n_words`, `n_pool`: what is adapted on, as for
    `draw_samples`. `adaptations`, `finetunings`: a line per configuration. `task`, `n_items`: the sentence pairs, as
    for `load_task`. `heldout`: text on which adaptations are read. The rest are the sizes of `StudySetting`.
    """

    model: str
    sources: list[str]
    task: str
    heldout: str
    adaptations: list[str]
    finetunings: list[str]
    revision: str | None = None
    n_samples: int = 24
    n_words: int = 4000
    n_pool: int | None = None
    n_items: int | None = None
    n_folds: int = 5
    n_base: int = 3
    seq_len: int = 128
    n_heldout: int = 16
    seed: int = 0

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> "StudyPlan":
        """The plan in the parameters of a notebook, which may hold others beside it.

        Raises:
            LookupError: one that has no default is missing.
        """
        known = {field.name: parameters[field.name] for field in fields(cls) if field.name in parameters}
        try:
            return cls(**known)
        except TypeError as error:
            raise LookupError(f"a study needs more parameters: {error}") from error

    @property
    def setting(self) -> StudySetting:
        return StudySetting(self.n_folds, self.n_base, self.seq_len, self.n_heldout, self.seed)

    def draw(self) -> list[Sample]:
        """The samples of abstracts."""
        return draw_samples(
            self.sources, self.n_samples, n_words=self.n_words, n_pool=self.n_pool, seed=self.seed,
            revision=self.revision if self.sources[0].startswith("hub:") else None,
        )  # fmt: skip

    def pairs(self) -> Task:
        """The sentence pairs."""
        return load_task(self.task, n_items=self.n_items, seed=self.seed)

    def described(self) -> dict[str, Any]:
        """The plan as JSON has it: configurations written out in full, no folders of this machine."""
        lines = {
            "adaptations": [str(Adaptation.read(line)) for line in self.adaptations],
            "finetunings": [str(Tuning.read(line)) for line in self.finetunings],
        }
        named = {name: getattr(self, name) for name in ("model", "task", "heldout")}
        named = {name: without_paths(value) for name, value in named.items()}
        return asdict(self) | named | {"sources": [without_paths(source) for source in self.sources]} | lines


def carry_out(plan: StudyPlan, *, folder: Path | str | None = None, n_jobs: int | None = None) -> StudyRows:
    """Draw the samples and do all runs; see `run_study` for the rows, `folder` and `n_jobs`."""
    return run_study(
        plan.model, plan.draw(), plan.pairs(), adaptations=plan.adaptations, finetunings=plan.finetunings,
        heldout=plan.heldout, setting=plan.setting, folder=None if folder is None else Path(folder),
        revision=plan.revision, n_jobs=n_jobs,
    )  # fmt: skip


def save_study(rows: StudyRows, plan: StudyPlan, folder: Path | str) -> dict[str, Any]:
    """Store rows and their origin in a folder, predictions in single precision; the origin is returned."""
    slim = {name: "category" for name in RUN} | {"fold": "int8", "item": "int32"}
    return store_rows(
        {"runs": rows.runs, "predictions": rows.predictions.astype(slim)}, Path(folder), plan=plan.described(),
        single=("predicted",), model_sha256=hash_weights(load_base(plan.model, revision=plan.revision).model),
        processor_seconds=round(float(rows.runs["seconds"].sum() + _adaptation_seconds(rows.runs))),
    )  # fmt: skip


def load_study(source: Path | str, plan: StudyPlan | None = None) -> StudyRows:
    """Rows as `save_study` left them.

    Args:
        source: `data:<name>` for what comes with the collection, or a folder.
        plan: what the rows must have come from; None takes whatever is stored.

    Raises:
        LookupError: no such study. ValueError: a file was altered, or the rows come from another plan.
    """
    tables = load_rows(source, read_origin(source)["plan"] if plan is None else plan.described())
    runs, predictions = tables["runs"], tables["predictions"]
    plain = {name: runs[name].dtype for name in RUN} | {"item": "int64", "fold": "int64"}
    return StudyRows(runs, predictions.astype(plain))


def load_runs(source: Path | str) -> pd.DataFrame:
    """The runs of a study, without their predictions.

    Args:
        source: as for `load_study`; a Parquet file of runs; or `run:<notebook>`, the rows that this notebook left in
            the same run.

    Raises:
        LookupError: there are none.
    """
    file = _parquet(source)
    return load_study(source).runs if file is None else pd.read_parquet(file)


def origin_table(source: Path | str) -> pd.DataFrame:
    """Where rows come from, for the top of a notebook: columns `item` and `value`, both text.

    Raises:
        LookupError: as `load_runs`.
    """
    file = _parquet(source)
    if file is not None:
        rows = [("rows", file.name), ("sha256", hash_bytes(file.read_bytes()))]
    else:
        about = read_origin(source)
        rows = [("rows", str(source)), ("sha256", about["files"]["runs.parquet"])]
        rows += [("model", about["plan"]["model"]), ("weights sha256", about["model_sha256"])]
        rows += [("runs", about["rows"]["runs"]), ("date", about["date"]), ("machine", about["machine"])]
        rows += [("minutes of one core", round(about["processor_seconds"] / 60, 1)), *about["versions"].items()]
    return pd.DataFrame([(item, str(value)) for item, value in rows], columns=["item", "value"])


def _parquet(source: Path | str) -> Path | None:
    """The file of runs that a source names; None where it names a stored study."""
    text = str(source)
    if text.startswith("run:"):
        name = text.removeprefix("run:")
        path = run_folder() / name / "rows.parquet"
        if not path.exists():
            raise LookupError(f"{name} has left no rows in this run: run it first, or name a file of runs")
        return path
    return paths.find_file(text) if text.endswith(".parquet") else None


def _adaptation_seconds(runs: pd.DataFrame) -> float:
    """Every adaptation once, however many fine-tunings started from it."""
    return float(runs.drop_duplicates(["sample", "adaptation"])["adaptation_seconds"].sum())
