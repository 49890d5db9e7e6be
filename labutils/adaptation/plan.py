"""The study of notebook 06 as a plan: what is drawn, trained and scored; and where its stored runs come from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from labutils.adaptation.configurations import Adaptation, Tuning
from labutils.adaptation.jobs import StudySetting
from labutils.adaptation.samples import Sample, draw_samples
from labutils.adaptation.study import RUN, StudyRows, run_study
from labutils.adaptation.training import load_base
from labutils.core import paths
from labutils.core.files import hash_bytes
from labutils.core.paths import run_folder
from labutils.core.provenance import hash_weights
from labutils.data.tasks import Task, load_task
from labutils.runner.long_study import LongStudy
from labutils.runner.stored_rows import Tables, load_rows, read_origin


@dataclass(frozen=True)
class StudyPlan(LongStudy):
    """All that the rows of a study depend on.

        plan = lab.adaptation.StudyPlan.of(globals())
        rows = plan.load("data:adaptation_runs")

    `model`, `revision`: as for `load_base`. `sources`, `n_samples`, `n_words`, `n_pool`: what is adapted on, as for
    `draw_samples`. `adaptations`, `finetunings`: a line per configuration. `task`, `n_items`: the sentence pairs, as
    for `load_task`. `heldout`: text on which adaptations are read. `setting`: sizes.
    """

    room: ClassVar[str] = "adaptation"
    notebook: ClassVar[str] = "06_biomedical_adaptation"
    single: ClassVar[tuple[str, ...]] = ("predicted",)

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
    setting: StudySetting = StudySetting()

    def draw(self) -> list[Sample]:
        """The samples of abstracts."""
        return draw_samples(
            self.sources, self.n_samples, n_words=self.n_words, n_pool=self.n_pool, seed=self.setting.seed,
            revision=self.revision if self.sources[0].startswith("hub:") else None,
        )  # fmt: skip

    def pairs(self) -> Task:
        """The sentence pairs."""
        return load_task(self.task, n_items=self.n_items, seed=self.setting.seed)

    def described(self) -> dict[str, Any]:
        """As for `LongStudy`, with configurations written out in full: lines that mean the same are the same."""
        return super().described() | {
            "adaptations": [str(Adaptation.read(line)) for line in self.adaptations],
            "finetunings": [str(Tuning.read(line)) for line in self.finetunings],
        }

    def carry_out(self, *, folder: Path | str | None = None, n_jobs: int | None = None) -> StudyRows:
        """Draw the samples and do all runs; see `run_study` for the rows, `folder` and `n_jobs`."""
        return run_study(
            self.model, self.draw(), self.pairs(), adaptations=self.adaptations, finetunings=self.finetunings,
            heldout=self.heldout, setting=self.setting, folder=None if folder is None else paths.expand(folder),
            revision=self.revision, n_jobs=n_jobs,
        )  # fmt: skip

    def hash_model(self) -> str:
        """SHA-256 of the base model's weights."""
        return hash_weights(load_base(self.model, revision=self.revision).model)

    def to_tables(self, rows: StudyRows) -> Tables:
        """Runs, and predictions in the smallest types that hold them."""
        slim = {name: "category" for name in RUN} | {"fold": "int8", "item": "int32"}
        return {"runs": rows.runs, "predictions": rows.predictions.astype(slim)}

    def from_tables(self, tables: Tables) -> StudyRows:
        """Runs and predictions in the types that `run_study` gives them."""
        runs, predictions = tables["runs"], tables["predictions"]
        plain = {name: runs[name].dtype for name in RUN} | {"item": "int64", "fold": "int64"}
        return StudyRows(runs, predictions.astype(plain))

    def count_runs(self) -> int:
        """How many fine-tunings with their cross-validation the study makes."""
        return (self.n_samples * len(self.adaptations) + self.setting.n_base) * len(self.finetunings)

    def count_seconds(self, rows: StudyRows) -> float:
        """All fine-tunings, and every adaptation once, however many fine-tunings started from it."""
        adaptations = rows.runs.drop_duplicates(["sample", "adaptation"])["adaptation_seconds"]
        return float(rows.runs["seconds"].sum() + adaptations.sum())


def load_runs(source: Path | str) -> pd.DataFrame:
    """The runs of a study, without their predictions.

    Args:
        source: `data:<name>` for what comes with the collection, or a folder of stored rows; a Parquet file of runs; or
            `run:<notebook>`, the rows that this notebook left in the same run.

    Raises:
        LookupError: there are none. ValueError: a file was altered.

        lab.adaptation.load_runs("data:adaptation_runs")
    """
    file = _parquet(source)
    return load_rows(source)["runs"] if file is None else pd.read_parquet(file)


def origin_table(source: Path | str) -> pd.DataFrame:
    """Where rows come from, for the top of a notebook: columns `item` and `value`, both text.

    >>> lab.show(origin_table("data:adaptation_runs"))

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
