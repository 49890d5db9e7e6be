"""Rows of a long study, stored with their origin, so that it can be read again in seconds and checked.

A folder of stored rows holds one Parquet file per table and `origin.json`: the plan that was carried out, SHA-256 of
the model, of the code and of every file, versions, date and machine.
"""

import datetime
import io
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from labutils import __version__
from labutils.core import paths
from labutils.core.files import git_state, hash_bytes, write_atomically
from labutils.core.provenance import find_versions

PACKAGES = ("torch", "transformers", "peft", "numpy", "pandas", "scikit-learn")
ORIGIN = "origin.json"  # written last: where it is, the tables that it lists are

Tables = dict[str, pd.DataFrame]


def store_rows(
    tables: Mapping[str, pd.DataFrame],
    folder: Path,
    *,
    plan: dict[str, Any],
    single: Sequence[str] = ("loss",),
    **about: Any,
) -> dict[str, Any]:
    """Write tables and their origin into a folder.

    Args:
        plan: all that the rows depend on, as JSON can hold it.
        single: columns to keep in single precision; the files are half as large.
        **about: further entries of the origin, such as the hash of the model.

    Returns:
        the origin, as `origin.json` holds it.
    """
    contents = {f"{name}.parquet": _to_parquet(table, single) for name, table in tables.items()}
    origin = {
        "plan": plan,
        **about,
        "files": {name: hash_bytes(content) for name, content in contents.items()},
        "rows": {name: len(table) for name, table in tables.items()},
        "versions": find_versions(*PACKAGES) | {"labutils": __version__},
        "commit": git_state()["commit"],
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine().replace('_', '-')}, {platform.system()}",
    }
    (folder / ORIGIN).unlink(missing_ok=True)
    for name, content in contents.items():
        write_atomically(folder / name, content)
    write_atomically(folder / ORIGIN, json.dumps(origin, indent=1, allow_nan=False) + "\n")
    return origin


def load_rows(source: str | Path, plan: Mapping[str, Any] | None = None, **about: Any) -> Tables:
    """The tables of a folder, if they are what its origin says and come from this plan.

    Args:
        source: "data:<name>" for a folder that comes with the collection, or a path.
        plan: what the rows must have come from; None takes whatever is stored.
        **about: entries of the origin that must be these as well, such as the hash of the model.

    Raises:
        LookupError: nothing is stored there.
        ValueError: a file was altered, or the rows come from something else; the first difference is named.

        load_rows("data:adaptation_runs")["runs"]
    """
    origin, folder = read_origin(source), _place(source)
    found = origin["plan"] | {name: origin.get(name) for name in about}
    plan = {**(origin["plan"] if plan is None else plan), **about}
    if differing := [name for name in {**found, **plan} if plan.get(name, ...) != found.get(name, ...)]:
        name = differing[0]
        raise ValueError(
            f"the rows in {source} were computed with {name}={found.get(name)!r}, not {plan.get(name)!r} "
            f"({len(differing)} differ in all): ask for what is stored, or compute anew with stored=None"
        )
    contents = {name: (folder / name).read_bytes() for name in origin["files"]}
    for name, content in contents.items():
        if hash_bytes(content) != origin["files"][name]:
            raise ValueError(f"{name} in {source} is not the file that {ORIGIN} describes: compute the rows again")
    tables = {name.removesuffix(".parquet"): pd.read_parquet(io.BytesIO(data)) for name, data in contents.items()}
    return {
        name: table.astype({column: "float64" for column in table if table[column].dtype == "float32"})
        for name, table in tables.items()
    }


def read_origin(source: str | Path) -> dict[str, Any]:
    """What `store_rows` wrote about the rows; LookupError where nothing is stored."""
    path = _place(source) / ORIGIN
    if not path.exists():
        raise LookupError(f"nothing is stored in {source}: compute the rows with stored=None, or name another folder")
    return json.loads(path.read_text(encoding="utf-8"))


def describe_origin(source: str | Path) -> str:
    """A sentence on where stored rows come from.

    >>> describe_origin("data:distillation_runs")
    """
    origin = read_origin(source)
    versions = ", ".join(f"{name} {origin['versions'][name]}" for name in ("python", "torch", "transformers"))
    return (
        f"The rows are stored ones (`{source}`), not computed here: they come from a run of {origin['date']} on a "
        f"machine with {origin['machine']} ({versions})."
    )


def _to_parquet(table: pd.DataFrame, single: Sequence[str]) -> bytes:
    buffer = io.BytesIO()
    slim = {name: "float32" for name in single if name in table}
    table.astype(slim).to_parquet(buffer, index=False, compression="zstd")
    return buffer.getvalue()


def _place(source: str | Path) -> Path:
    name = str(source)
    return paths.DATA / name.removeprefix("data:") if name.startswith("data:") else paths.expand(name)
