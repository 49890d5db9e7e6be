"""The rows behind verdicts, kept so that anyone can judge from them again: one small table per verdict.

A folder of evidence holds `evidence.json`, a list of what was judged and how, and beside it the tables. Nothing else is
needed to come to the same verdicts: no model, no text, no notebook.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labutils.claims.registry import Guard, judge
from labutils.claims.verdicts import Verdict
from labutils.core.files import hash_bytes, write_atomically
from labutils.core.parquet import read_slim, slim_parquet
from labutils.stats.evidence import Evidence

FILE = "evidence.json"


def write_evidence(folder: Path, verdicts: Sequence[Verdict]) -> None:
    """Write what verdicts were judged from; the list last, so that a folder that has it is whole.

        write_evidence(Path("results/trial/01_layerwise_sparsity/evidence"), [verdict])

    A verdict without an estimate, or one whose interval cannot be computed from a table, is written as it is.
    """
    (folder / FILE).unlink(missing_ok=True)
    entries = []
    for number, verdict in enumerate(verdicts):
        if verdict.judged is None:
            entries.append({"verdict": verdict.as_row()})
            continue
        evidence = verdict.judged.evidence
        tables = {"": evidence.frame, **evidence.more}
        files = {name: f"{number}-{verdict.claim}{'-' if name else ''}{name}.parquet" for name in tables}
        contents = {files[name]: slim_parquet(table) for name, table in tables.items()}
        for file, content in contents.items():
            write_atomically(folder / file, content)
        entries.append({
            "claim": verdict.claim, "scope": verdict.scope, **verdict.judged.options, "tables": files,
            "sha256": {file: hash_bytes(content) for file, content in contents.items()},
            "function": evidence.function, "part": evidence.part, "arguments": evidence.options,
        })  # fmt: skip
    listed = {file for entry in entries for file in entry.get("tables", {}).values()}
    for stale in set(folder.glob("*.parquet")):
        if stale.name not in listed:
            stale.unlink()
    write_atomically(folder / FILE, json.dumps(entries, indent=1, allow_nan=False, default=np.generic.item) + "\n")


def judge_again(folder: Path) -> list[Verdict]:
    """The verdicts that the kept rows of a folder lead to, in the order in which they were written.

    Raises:
        LookupError: no evidence is kept there.
        ValueError: a table was altered, or names a function that is not one of the package's.

        judge_again(Path("data/evidence/01_layerwise_sparsity"))
    """
    if not (folder / FILE).is_file():
        raise LookupError(f"{folder} holds no {FILE}: nothing to judge again")
    entries = json.loads((folder / FILE).read_text(encoding="utf-8"))
    return [_judge_one(folder, entry) for entry in entries]


def find_evidence(folder: Path) -> list[Path]:
    """The folders of evidence at and below a folder, sorted."""
    return sorted(path.parent for path in folder.rglob(FILE))


def _judge_one(folder: Path, entry: Mapping[str, Any]) -> Verdict:
    if "verdict" in entry:
        return Verdict.from_row(entry["verdict"])
    tables = {name: _read_table(folder / file, entry["sha256"][file]) for name, file in entry["tables"].items()}
    evidence = Evidence(entry["function"], entry["part"], tables.pop(""), entry["arguments"], tables)
    guard = Guard(*entry["guard"]) if entry["guard"] else None
    return judge(
        entry["claim"], interval=evidence.recompute(), dense_loss=entry["dense_loss"], scope=entry["scope"],
        guard=guard, unit=entry["unit"],
    )  # fmt: skip


def _read_table(path: Path, expected: str) -> pd.DataFrame:
    content = path.read_bytes()
    if hash_bytes(content) != expected:
        raise ValueError(f"{path} is not the table that was judged: take it from its source again")
    return read_slim(content)
