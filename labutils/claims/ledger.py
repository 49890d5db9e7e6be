"""The ledger: verdicts of many studies in one place, corrected for their number, and the files that hold them."""

import json
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd

from labutils.claims.evidence import find_evidence, judge_again
from labutils.claims.outcomes import without_evidence
from labutils.claims.registry import claim
from labutils.claims.verdicts import Verdict
from labutils.core import paths
from labutils.core.files import write_atomically
from labutils.stats.bootstrap import holm

FILE = "ledger.jsonl"


def correct(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts after Holm's correction over all that are tests of their own; the order stays.

    Where the corrected p-value exceeds 1 - level, "supported", "contradicted" and "real, negligible" become what is
    left without the evidence (`outcomes.without_evidence`), and `correction` says so. Verdicts on claims that are
    exploratory or the same fact as another (`Claim.aside`) and those without a p-value take no part. Correcting again,
    alone or among others, starts from the first outcome. No corrected p-value is below 2 x tests / (resamples + 1):
    many tests need many resamples.
    """
    asides = [claim(verdict.claim).aside for verdict in verdicts]
    corrected = [
        replace(verdict, outcome=verdict.first_outcome, p_holm=None, correction=aside)
        for verdict, aside in zip(verdicts, asides, strict=True)
    ]
    tested = [i for i, verdict in enumerate(verdicts) if verdict.p_value is not None and not asides[i]]
    for index, adjusted in zip(tested, holm([verdicts[index].p_value for index in tested]), strict=True):
        verdict = replace(corrected[index], p_holm=float(adjusted))
        left = without_evidence(claim(verdict.claim).kind, verdict.outcome)
        if left != verdict.outcome and adjusted > 1 - verdict.level + 1e-9:
            reason = f"{verdict.outcome} before Holm's correction over {len(tested)} tests, p = {adjusted:.2g} after it"
            verdict = replace(verdict, outcome=left, correction=reason)
        corrected[index] = verdict
    return corrected


def reject_repeated(verdicts: Sequence[Verdict], where: str) -> None:
    """ValueError where two verdicts are on one claim: it would be counted, and corrected for, twice.

    >>> reject_repeated([c16, c17], "this study")
    """
    repeated = [name for name, n in Counter(verdict.claim for verdict in verdicts).items() if n > 1]
    if repeated:
        models = [str(verdict.scope.get("model")) for verdict in verdicts if verdict.claim == repeated[0]]
        raise ValueError(
            f"{where} holds {len(models)} verdicts on {repeated[0]} (on {'; '.join(models)}), and a run has one for "
            "each claim. Conclude with the verdict that is meant and show the others as sentences, or judge them in "
            "another run, that is, another folder."
        )


def write_ledger(path: Path, verdicts: Sequence[Verdict]) -> None:
    """Write verdicts as JSON lines, atomically: a reader sees the old file or the new one.

        write_ledger(Path("results/trial/ledger.jsonl"), [verdict])

    Raises:
        ValueError: a number is NaN or infinite; nothing is written.
    """
    lines = [json.dumps(verdict.as_row(), allow_nan=False, default=np.generic.item) + "\n" for verdict in verdicts]
    write_atomically(path, "".join(lines))


def ledger(folder: str | Path, *, from_rows: bool = False) -> pd.DataFrame:
    """One row per claim and run, Holm-corrected over all of them, from one ledger file or all below a folder.

    >>> found = ledger("results/full")
    >>> found[["run", "claim", "outcome", "p_holm"]]

    A folder's own ledger stands for everything below it. Columns: `run` (the ledger's folder, relative to `folder`) and
    those of `Verdict.as_row`. A last line cut off by an interruption is left out with a warning that names the file,
    kept in `.attrs["interrupted"]`. Raises LookupError without any ledger or for a claim that is not in the registry,
    ValueError for any other line that is not a verdict, and for a run that holds two verdicts on one claim.

    With `from_rows` every verdict is judged anew from the rows that were kept of it (`data/evidence` holds those of the
    stored notebooks), and nothing else is read; raises as `judge_again` does.
    """
    folder = paths.expand(folder)
    if from_rows:
        return _judge_anew(folder)
    files = [folder] if folder.is_file() else _find_ledgers(folder)
    if not files:
        raise LookupError(f"no {FILE} in {folder} or below: run a study into this folder first")
    runs, verdicts, interrupted = [], [], []
    for file in files:
        found, whole = _read_verdicts(file)
        reject_repeated(found, str(file))
        name = file.parent.relative_to(folder).as_posix() if folder.is_dir() else "."
        runs += [folder.resolve().name if name == "." else name] * len(found)
        verdicts += found
        if not whole:
            interrupted.append(f"{name}/{file.name}")
            warnings.warn(f"{file}: the last line is cut off and was left out; repeat that run", stacklevel=2)
    return _table(runs, verdicts, interrupted)


def _judge_anew(folder: Path) -> pd.DataFrame:
    kept = find_evidence(folder)
    if not kept:
        raise LookupError(f"no kept rows in {folder} or below: run a study into this folder first")
    found = {place: judge_again(place) for place in kept}
    names = [place.relative_to(folder).as_posix().removesuffix("/evidence") for place in kept]
    runs = [name for name, verdicts in zip(names, found.values(), strict=True) for _ in verdicts]
    return _table(runs, sum(found.values(), []), [])


def _table(runs: Sequence[str], verdicts: Sequence[Verdict], interrupted: list[str]) -> pd.DataFrame:
    rows = [{"run": run} | verdict.as_row() for run, verdict in zip(runs, correct(verdicts), strict=True)]
    columns = ["run", *(one.name for one in fields(Verdict) if one.name != "judged")]
    table = pd.DataFrame(rows, columns=None if rows else columns)
    table.attrs["interrupted"] = interrupted
    return table


def _find_ledgers(folder: Path) -> list[Path]:
    if (folder / FILE).is_file():
        return [folder / FILE]
    below = sorted(folder.iterdir()) if folder.is_dir() else []
    return [file for entry in below if entry.is_dir() for file in _find_ledgers(entry)]


def _read_verdicts(file: Path) -> tuple[list[Verdict], bool]:
    """The verdicts of a file, and whether its last line was whole."""
    lines, verdicts = file.read_bytes().split(b"\n"), []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            if number == len(lines):  # no line end follows
                return verdicts, False
            raise ValueError(f"{file}, line {number} is not JSON: {error}") from error
        try:
            verdicts.append(Verdict.from_row(row))
        except (TypeError, AttributeError) as error:
            raise ValueError(f"{file}, line {number} is not a verdict: {error}") from error
        claim(verdicts[-1].claim)
    return verdicts, True
