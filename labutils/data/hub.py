"""Data sets of the Hugging Face hub, or local folders in its format, opened through `datasets`."""

import glob
from pathlib import Path
from typing import Any

from labutils.core import paths
from labutils.core.extras import import_optional
from labutils.core.text_files import read_text

STANDS_FOR_TEST = ("test", "validation")
FILE_SUFFIXES = (".parquet", ".json", ".jsonl", ".gz", ".zst", ".csv", ".txt")


def _is_folder(name: str) -> bool:
    try:
        return paths.find_file(name).is_dir()
    except (LookupError, OSError):
        return False


def _take_apart(name: str) -> tuple[str, str | None, str | None]:
    """Data set (hub id or local folder), configuration and file named by ``<data set>[/<config or file>]``."""
    parts = name.split("/")
    beginnings = ["/".join(parts[:n]) for n in range(len(parts), 0, -1)]
    folder = next((beginning for beginning in beginnings if beginning and _is_folder(beginning)), None)
    dataset = folder or "/".join(parts[:2])
    rest = name[len(dataset) + 1 :] or None
    place = str(paths.find_file(folder)) if folder else dataset
    if rest and Path(rest).suffix in FILE_SUFFIXES:
        return place, None, rest
    return place, rest, None


def _load(name: str, revision: str | None) -> Any:
    datasets = import_optional("datasets", purpose="A hub: source", extra="hub")
    dataset, config, file = _take_apart(name)
    local = Path(dataset).is_dir()
    if local and not file and glob.has_magic(dataset):
        raise LookupError(f"{dataset}: *, ? and [ in a folder's name stand for other folders too; rename the folder")
    # `datasets` takes *, ? and [ in the name of a file for a pattern, too
    files = glob.escape(f"{dataset}/{file}") if local and file else file
    try:
        return datasets.load_dataset(dataset, config, data_files=files, revision=revision)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        if local and file and isinstance(error.__cause__, UnicodeDecodeError):
            read_text(Path(dataset, file))  # refuses it, and names the line
        raise LookupError(
            f"hub data set {name!r} (revision {revision or 'latest'}) could not be loaded: {error.__cause__ or error}. "
            "Check the name, and that files are whole and in UTF-8; without a network download it first and set "
            "HF_HUB_OFFLINE=1, give a local folder (hub:<folder>), or use file:<path>"
        ) from error


def open_dataset(name: str, *, split: str, part: str, revision: str | None) -> tuple[Any, bool]:
    """One split of a hub data set, and whether it is to be used whole.

    `part` names a split of the data set, taken whole; without it `split` is looked for (`validation` stands in for a
    missing test split), and a data set of a single split is left to the caller to cut. LookupError when the data set
    cannot be loaded, ValueError when it has no such split.
    """
    splits = _load(name, revision)
    wanted = (part,) if part else STANDS_FOR_TEST if split == "test" else (split,)
    if not part and len(splits) == 1:
        return next(iter(splits.values())), False
    for candidate in wanted:
        if candidate in splits:
            return splits[candidate], True
    raise ValueError(
        f"hub:{name} has no split {part or split!r}; name one with hub:{name}#<split>: {', '.join(splits)}"
    )
