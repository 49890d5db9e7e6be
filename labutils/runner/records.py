"""What a run folder knows of each notebook: the inputs it had, the outputs it left, how it ended.

Each notebook's folder holds a `record.json`, written last. The run's `manifest.json` and `ledger.jsonl` are put
together from the records, so any run, after any interruption, leaves both complete for whatever has been recorded.
"""

import errno
import importlib.metadata
import itertools
import json
import math
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

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
from labutils.runner.locks import FOLDER as LOCKS
from labutils.runner.locks import MANIFEST, lock
from labutils.runner.notebooks import hash_cells
from labutils.runner.planning import Study

KEY_PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "pandas", "scipy", "scikit-learn")
MANIFEST_FILE = f"{MANIFEST}.json"
BETWEEN_SOURCES = re.compile("→| \\+ ")
MOST_FILES = 10_000  # of a folder that a parameter names
OUTPUTS = ("*.ipynb", "*.html", "*.parquet", "*.jsonl", "figures/*.png", "kept/*")


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


def check_run_folder(run: Path, stems: Iterable[str]) -> None:
    """Make sure that a run can write into a folder, which need not exist yet; nothing is left of the trial.

    Raises:
        ValueError: something is in the way, or the folder cannot be written.
    """
    folders = [run, run / LOCKS, *(run / stem for stem in stems)]
    for path, wanted in [(path, "folder") for path in folders] + [
        (run / MANIFEST_FILE, "file"),
        (run / LEDGER, "file"),
    ]:
        if path.exists() and path.is_dir() != (wanted == "folder"):
            raise ValueError(f"{path} is in the way, where the run needs a {wanted}: remove it, or name another --out")
    above = next(path for path in (run, *run.parents) if path.exists())
    if not above.is_dir():
        raise ValueError(f"--out {run}: {above} is a file, not a folder; name another folder")
    try:
        with tempfile.TemporaryFile(dir=above) as trial:
            trial.write(b"trial")
            trial.flush()
    except OSError as error:
        raise ValueError(f"--out {run}: nothing can be written into {above}: {error.strerror}") from error


def new_record(study: Study, inputs: Mapping[str, Any], outcome: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a study: what it was, what went in, what came out."""
    seeds = {name: portable(value) for name, value in study.parameters.items() if "seed" in name}
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
    if record["status"] == "interrupted":
        return ["its last run was interrupted"]
    if record["status"] != "succeeded" or not (run / stem / "result.json").exists():
        return ["its last run failed"]
    changed = [name for name in {**record["inputs"], **inputs} if record["inputs"].get(name) != inputs.get(name)]
    damaged = [f"{name} is missing or altered" for name in find_damaged(run, record)]
    return [f"{name} changed" for name in changed] + damaged


def find_damaged(run: Path, record: Mapping[str, Any]) -> list[str]:
    """The outputs of a recorded notebook that are no longer what it left."""
    files = {name: run / record["notebook"] / name for name in record["outputs"]}
    return [name for name, path in files.items() if not path.exists() or hash_file(path) != record["outputs"][name]]


def write_manifest(run: Path) -> None:
    """Put `manifest.json` and `ledger.jsonl` together from the records; safe when several runs do so at once."""
    with lock(run, MANIFEST):
        records = read_records(run)
        write_atomically(run / MANIFEST_FILE, json.dumps({"notebooks": records}, indent=2) + "\n")
        ledgers = [
            run / stem / LEDGER
            for stem, record in records.items()
            # A notebook that reads the others' verdicts has none of its own to add.
            if record["status"] == "succeeded" and not record["after_all"]
        ]
        write_atomically(run / LEDGER, "".join(path.read_text() for path in ledgers if path.exists()))


def portable(value: Any) -> Any:
    """A parameter's value as JSON can hold it, without this machine's folders."""
    if isinstance(value, Mapping):
        return {name: portable(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [portable(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: ".inf", -math.inf: "-.inf"}.get(value, ".nan")  # JSON has no number for it; so YAML writes it
    return without_paths(value) if isinstance(value, str) else value


def _ledger_state(run: Path, stem: str, record: Mapping[str, Any]) -> str:
    path = run / stem / LEDGER
    return hash_file(path) if record["status"] == "succeeded" and path.exists() else record["status"]


def _find_outputs(folder: Path) -> list[Path]:
    return sorted(path for pattern in OUTPUTS for path in folder.glob(pattern))


def find_named(parameters: Mapping[str, Any]) -> dict[str, Path]:
    """The files and folders that text parameters name outside the collection.

    Raises:
        ValueError: one that cannot be looked at, or a folder of more files than a model or a data set has.

        find_named({"text": "file:notes.txt"})  # {"notes.txt": Path("/…/notes.txt")}
    """
    # "a → b" and "a + task:b" name two sources; a file may have either sign in its name.
    parts = {part for entry in _texts(parameters) for part in (entry, *BETWEEN_SOURCES.split(entry))}
    sources = {part.strip().removeprefix("task:") for part in parts}
    named = {source.removeprefix("file:") for source in sources if "/" in source or source.startswith("file:")}
    found = {}
    for name in sorted({split_part(name)[0] for name in named}):
        try:
            path = paths.find_file(name)
        except LookupError:
            continue  # A hub id, or a source that the notebook itself will refuse.
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                continue  # no file can have such a name
            raise ValueError(f"the parameter {name!r} cannot be read: {error.strerror}") from error
        if path.is_dir() and next(itertools.islice(path.rglob("*"), MOST_FILES, None), None) is not None:
            told = f"a folder of more than {MOST_FILES:,} files: name the folder or file that is meant"
            raise ValueError(f"the parameter {name!r} names {told}")
        if path.is_file() or path.is_dir():  # a device or a pipe may have no end
            found[name] = path
    return found


def check_named(parameters: Mapping[str, Any]) -> None:
    """Make sure that what text parameters name can be told apart from other content.

    Raises:
        ValueError: as `find_named` does.
        LookupError: a package that is not installed.
    """
    find_named(parameters)
    _find_versions(parameters)


def _identify_named(parameters: Mapping[str, Any]) -> dict[str, str]:
    """What text parameters name: SHA-256 of files and folders, versions of packages."""
    files = {portable(name): hash_path(path) for name, path in find_named(parameters).items()}
    return _find_versions(parameters) | files


def _texts(parameters: Mapping[str, Any]) -> list[str]:
    entries = [entry for value in parameters.values() for entry in (value if isinstance(value, list) else [value])]
    return [entry for entry in entries if isinstance(entry, str)]


def _find_versions(parameters: Mapping[str, Any]) -> dict[str, str]:
    versions = {}
    for entry in _texts(parameters):
        if entry.startswith("package:"):
            package = entry.removeprefix("package:")
            try:
                versions[entry] = importlib.metadata.version(package)
            except (importlib.metadata.PackageNotFoundError, ValueError):
                raise LookupError(f"the package {package!r} among the parameters is not installed") from None
    return versions
