"""A whole study written down: what is drawn, trained and scored. Carried out, stored with its origin, read again."""

import datetime
import importlib.metadata
import io
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from labutils import __version__, paths
from labutils.adaptation.configurations import Adaptation, Tuning
from labutils.adaptation.jobs import StudySetting
from labutils.adaptation.samples import Sample, draw_samples
from labutils.adaptation.study import RUN, StudyRows, run_study
from labutils.adaptation.training import load_base
from labutils.provenance import hash_weights
from labutils.studies.conclusion import run_folder
from labutils.studies.files import hash_bytes, without_paths, write_atomically
from labutils.tasks import Task, load_task

PACKAGES = ("torch", "transformers", "peft", "numpy", "pandas", "scikit-learn")


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


def save_study(rows: StudyRows, plan: StudyPlan, target: Path | str) -> dict[str, Any]:
    """Store rows as `<target>.parquet` (runs) and `<target>_predictions.parquet`, with their origin in `<target>.json`.

    Predictions are stored in single precision, the gold scores and folds as what they are.

    Returns:
        what the JSON file holds: plan, SHA-256 of the model's weights and of both files, versions, date, machine.
    """
    target = Path(target)
    runs, predictions = io.BytesIO(), io.BytesIO()
    rows.runs.to_parquet(runs, index=False)
    slim = {name: "category" for name in RUN} | {"fold": "int8", "item": "int32", "predicted": "float32"}
    rows.predictions.astype(slim).to_parquet(predictions, index=False, compression="zstd")
    about = {
        "plan": plan.described(),
        "runs": len(rows.runs),
        "model_sha256": hash_weights(load_base(plan.model, revision=plan.revision).model),
        "runs_sha256": hash_bytes(runs.getvalue()),
        "predictions_sha256": hash_bytes(predictions.getvalue()),
        "versions": _versions(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{os.cpu_count()}-core {platform.machine().replace('_', '-')} CPU",
        "run_seconds": round(float(rows.runs["seconds"].sum() + _adaptation_seconds(rows.runs)), 1),
    }
    write_atomically(target.with_name(f"{target.name}.parquet"), runs.getvalue())
    write_atomically(target.with_name(f"{target.name}_predictions.parquet"), predictions.getvalue())
    write_atomically(target.with_name(f"{target.name}.json"), json.dumps(about, indent=2) + "\n")
    return about


def load_study(source: Path | str, plan: StudyPlan | None = None) -> StudyRows:
    """Rows as `save_study` left them.

    Args:
        source: `data:<name>` for what comes with the collection, or the path that was `target` then.
        plan: what the rows must have come from.

    Raises:
        LookupError: no such study. ValueError: the files are not those that were stored, or came from another plan;
            the message names what differs.
    """
    about, target = study_origin(source), _place(source)
    files = {name: target.with_name(f"{target.name}{end}.parquet") for name, end in _ENDS.items()}
    for name, path in files.items():
        if hash_bytes(path.read_bytes()) != about[f"{name}_sha256"]:
            raise ValueError(f"{path.name} is not the file that {target.name}.json describes: run the study again")
    if plan is not None:
        wanted, found = plan.described(), about["plan"]
        differing = [name for name in wanted if wanted[name] != found.get(name)]
        if differing:
            name = differing[0]
            raise ValueError(
                f"the study {source} was run with {name}={found.get(name)!r}, not {wanted[name]!r} "
                f"({len(differing)} differ in all): ask for what was run, or run it anew with stored=None"
            )
    runs, predictions = (pd.read_parquet(files[name]) for name in _ENDS)
    plain = {name: runs[name].dtype for name in RUN} | {"item": "int64", "fold": "int64", "predicted": "float64"}
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
        about = study_origin(source)
        rows = [("rows", str(source)), ("sha256", about["runs_sha256"])]
        rows += [("model", about["plan"]["model"]), ("weights sha256", about["model_sha256"])]
        rows += [(name, about[name]) for name in ("runs", "date", "machine")]
        rows += [("minutes of all runs together", round(about["run_seconds"] / 60, 1)), *about["versions"].items()]
    return pd.DataFrame([(item, str(value)) for item, value in rows], columns=["item", "value"])


def study_origin(source: Path | str) -> dict[str, Any]:
    """What `save_study` wrote about a study; LookupError without it."""
    target = _place(source)
    path = target.with_name(f"{target.name}.json")
    if not path.exists():
        raise LookupError(f"no study {str(source)!r}: {path.name} was not found; run one, or name another")
    return json.loads(path.read_text(encoding="utf-8"))


_ENDS = {"runs": "", "predictions": "_predictions"}


def _place(source: Path | str) -> Path:
    text = str(source)
    return paths.DATA / text.removeprefix("data:") if text.startswith("data:") else Path(text)


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


def _versions() -> dict[str, str]:
    """Of python, of the collection itself, and of what the numbers depend on, as far as it is installed."""
    found = {"python": platform.python_version(), "labutils": __version__}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # peft is needed for LoRA alone
            continue
    return found
