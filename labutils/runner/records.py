"""What a run folder knows of each notebook: the inputs it had, the outputs it left, how it ended.

Each notebook's folder holds a `record.json`, written last. The run's `manifest.json` and `ledger.jsonl` are put
together from the records, so any run, after any interruption, leaves both complete for whatever has been recorded.
"""

import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from labutils.claims.ledger import FILE as LEDGER
from labutils.core import paths
from labutils.core.files import (
    git_state,
    hash_file,
    hash_package,
    hash_path,
    hash_tree,
    without_paths,
    write_atomically,
)
from labutils.core.parts import split_part
from labutils.core.provenance import find_versions
from labutils.runner.notebooks import hash_cells
from labutils.runner.planning import Study

KEY_PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "pandas", "scipy", "scikit-learn")
LOCKS, MANIFEST = ".locks", "manifest"
OUTPUTS = ("*.ipynb", "*.html", "*.parquet", "*.jsonl", "figures/*.png")


def shared_inputs() -> dict[str, Any]:
    """The inputs that all notebooks of a run have in common: sources of `labutils`, data shipped with it, versions."""
    data = hash_tree(paths.DATA) if paths.DATA.is_dir() else None
    return {"labutils_sha256": hash_package(), "data_sha256": data, "versions": find_versions(*KEY_PACKAGES)}


def study_inputs(study: Study, shared: Mapping[str, Any], run: Path) -> dict[str, Any]:
    """Everything that a study's result depends on; equal inputs need no second run."""
    inputs = {
        "cells_sha256": hash_cells(study.notebook),
        "parameters": portable(study.parameters),
        "named": _identify_named(study.parameters),
        **shared,
    }
    if study.last:
        others = {stem: record for stem, record in read_records(run).items() if stem != study.stem}
        inputs["ledgers"] = {stem: _ledger_state(run, stem, record) for stem, record in others.items()}
    return inputs


def new_record(study: Study, inputs: Mapping[str, Any], outcome: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a study: what it was, what went in, what came out."""
    seeds = {name: value for name, value in study.parameters.items() if "seed" in name}
    about = {"notebook": study.stem, "profile": study.profile, "after_all": study.last}
    return about | dict(outcome) | {"seeds": seeds, "git": git_state(), "inputs": dict(inputs)}


def write_record(run: Path, record: Mapping[str, Any]) -> None:
    """Write a study's record with the hashes of its outputs, then the run's manifest and ledger."""
    folder = run / record["notebook"]
    outputs = {path.relative_to(folder).as_posix(): hash_file(path) for path in _find_outputs(folder)}
    text = json.dumps(dict(record) | {"outputs": outputs}, indent=2, allow_nan=False)
    write_atomically(folder / "record.json", text + "\n")
    write_manifest(run)


def read_records(run: Path) -> dict[str, dict[str, Any]]:
    """The records of a run folder by notebook, in the order of their names."""
    found = sorted(run.glob("*/record.json"))
    return {path.parent.name: json.loads(path.read_text()) for path in found}


def find_changes(run: Path, stem: str, inputs: Mapping[str, Any]) -> list[str]:
    """Why a notebook must be computed: empty when it succeeded with these inputs and its outputs are intact."""
    path = run / stem / "record.json"
    if not path.exists():
        return ["no finished run"]
    record = json.loads(path.read_text())
    if record["status"] != "succeeded" or not (run / stem / "result.json").exists():
        return ["its last run failed"]
    changed = [name for name in {**record["inputs"], **inputs} if record["inputs"].get(name) != inputs.get(name)]
    damaged = [
        name
        for name, expected in record["outputs"].items()
        if not (run / stem / name).exists() or hash_file(run / stem / name) != expected
    ]
    return [f"{name} changed" for name in changed] + [f"{name} is missing or altered" for name in damaged]


def write_manifest(run: Path) -> None:
    """Put `manifest.json` and `ledger.jsonl` together from the records; safe when several runs do so at once."""
    with lock(run, MANIFEST):
        records = read_records(run)
        write_atomically(run / "manifest.json", json.dumps({"notebooks": records}, indent=2) + "\n")
        ledgers = [
            run / stem / LEDGER
            for stem, record in records.items()
            # A notebook that reads the others' verdicts has none of its own to add.
            if record["status"] == "succeeded" and not record["after_all"]
        ]
        write_atomically(run / LEDGER, "".join(path.read_text() for path in ledgers if path.exists()))


def lock(run: Path, name: str) -> FileLock:
    """The lock of a notebook's folder, or of the manifest, among threads and processes."""
    folder = run / LOCKS
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{name}.lock")


def find_locks(run: Path) -> set[str]:
    """The notebooks that any run has begun in this folder."""
    return {path.stem for path in (run / LOCKS).glob("*.lock")} - {MANIFEST}


def portable(value: Any) -> Any:
    """A parameter's value without this machine's folders."""
    if isinstance(value, Mapping):
        return {name: portable(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [portable(entry) for entry in value]
    return without_paths(value) if isinstance(value, str) else value


def _ledger_state(run: Path, stem: str, record: Mapping[str, Any]) -> str:
    path = run / stem / LEDGER
    return hash_file(path) if record["status"] == "succeeded" and path.exists() else record["status"]


def _find_outputs(folder: Path) -> list[Path]:
    return sorted(path for pattern in OUTPUTS for path in folder.glob(pattern))


def _identify_named(parameters: Mapping[str, Any]) -> dict[str, str]:
    """What text parameters name outside the collection: SHA-256 of files and folders, versions of packages."""
    entries = [entry for value in parameters.values() for entry in (value if isinstance(value, list) else [value])]
    named = {entry for entry in entries if isinstance(entry, str) and ("/" in entry or entry.startswith("file:"))}
    packages = [entry for entry in entries if isinstance(entry, str) and entry.startswith("package:")]
    found = {entry: importlib.metadata.version(entry.removeprefix("package:")) for entry in packages}
    parts = {part.strip() for entry in named for part in entry.split("→")}  # "a → b" names two texts
    for name in sorted(split_part(part.removeprefix("file:"))[0] for part in parts):
        try:
            found[portable(name)] = hash_path(paths.find_file(name))
        except LookupError:
            continue  # A hub id, or a source that the notebook itself will refuse.
    return found
