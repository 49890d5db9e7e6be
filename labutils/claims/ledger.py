"""The ledger: verdicts of many studies in one place, corrected for their number, as files and as tables to read."""

import html
import json
import warnings
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from labutils.claims.evidence import find_evidence, judge_again
from labutils.claims.registry import claim, load_claims, tensions
from labutils.claims.verdicts import Verdict, plural
from labutils.core import paths
from labutils.core.files import write_atomically
from labutils.stats.bootstrap import expected_false_contradictions, holm

FILE = "ledger.jsonl"
UNTESTED = "not yet tested"
# Symbol and words carry the meaning, so that colour is an aid only.
WORDS = {
    "supported": "✔ supported",
    "contradicted": "✘ contradicted: not transferred to this model",
    "equivalent": "≈ equivalent: no difference beyond the margin",
    "inconclusive": "? inconclusive",
    "not testable here": "∅ not testable here",
    UNTESTED: "· not yet tested",
}
STYLES = {
    WORDS["supported"]: "background-color: #d5efe3; color: #00402b",
    WORDS["contradicted"]: "background-color: #fbe0cf; color: #6b2c00",
    WORDS["equivalent"]: "background-color: #d9e9f5; color: #003a5e",
    WORDS["inconclusive"]: "background-color: #f3eec4; color: #4a4300",
    WORDS["not testable here"]: "background-color: #e6e6e6; color: #333333",
    WORDS[UNTESTED]: "color: #666666",
}


def correct(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts after Holm's correction over all that have a p-value; the order stays.

    "supported" and "contradicted" become "inconclusive" where the corrected p-value exceeds 1 - level, and `correction`
    says so. The other outcomes claim no effect and stay. Correcting again, alone or among others, starts from the first
    outcome. No corrected p-value is below 2 x tests / (resamples + 1): many tests need many resamples.
    """
    tested = [index for index, verdict in enumerate(verdicts) if verdict.p_value is not None]
    corrected = [replace(verdict, outcome=verdict.first_outcome, p_holm=None, correction="") for verdict in verdicts]
    for index, adjusted in zip(tested, holm([verdicts[index].p_value for index in tested]), strict=True):
        verdict = replace(corrected[index], p_holm=float(adjusted))
        if verdict.outcome in ("supported", "contradicted") and adjusted > 1 - verdict.level + 1e-9:
            reason = f"{verdict.outcome} before Holm's correction over {len(tested)} tests, p = {adjusted:.2g} after it"
            verdict = replace(verdict, outcome="inconclusive", correction=reason)
        corrected[index] = verdict
    return corrected


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
    ValueError for any other line that is not a verdict.

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


def ledger_table(frame: pd.DataFrame) -> Styler:
    """Every claim of the registry with what was found about it, for any reader; `frame` comes from `ledger`.

    >>> ledger_table(ledger("results/full"))
    """
    rows = []
    for entry in load_claims().itertuples():
        about = {"claim": entry.id, "source": entry.source, "what it says": entry.statement}
        found = [about | _describe(row) for row in frame[frame["claim"] == entry.id].to_dict("records")]
        rows += found or [about | {"outcome": WORDS[UNTESTED], "effect [interval]": "", "found on": "", "remarks": ""}]
    table = pd.DataFrame(rows)
    levels = sorted(set(frame["level"].dropna())) or [0.95]
    n_tests = int(frame["p_value"].notna().sum())
    repeated = [plural(unit) for unit in dict.fromkeys(frame.loc[frame["n_draws"].notna(), "draw_unit"])]
    expected = expected_false_contradictions(n_tests, level=max(levels))
    caption = (
        f"{frame['claim'].nunique()} of {len(load_claims())} claims looked at, {n_tests} tests. Intervals at "
        f"{', '.join(f'{level:.0%}' for level in levels)} over items and what was repeated "
        f"({', '.join(repeated) or 'nothing'}); outcomes after Holm's correction over all tests. Without it, "
        f"{expected:.1f} contradictions would be expected by chance alone if no tested claim had any effect."
    )
    if frame.attrs.get("interrupted"):
        caption += f" Interrupted, last line left out: {', '.join(frame.attrs['interrupted'])}."
    return _style(table, caption, "ledger").map(STYLES.__getitem__, subset=["outcome"])


def tensions_table(frame: pd.DataFrame) -> Styler:
    """Claims that pull against each other, with what was found on each side; `frame` comes from `ledger`.

    >>> tensions_table(ledger("results/full"))
    """
    rows = []
    for sides, question in tensions():
        title = " against ".join(", ".join(side) for side in sides)
        findings = "\nagainst\n".join("\n".join(_findings(name, frame) for name in side) for side in sides)
        rows.append({"claims": title, "question": question, "found here": findings})
    return _style(pd.DataFrame(rows), "Claims that pull against each other", "tensions")


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


def _describe(row: dict[str, Any]) -> dict[str, str]:
    verdict = Verdict.from_row(row)
    where = ", ".join(str(value) if name == "model" else f"{name} {value}" for name, value in verdict.scope.items())
    remarks = "; ".join(filter(None, [verdict.note, verdict.correction]))
    effect = "" if verdict.estimate is None else verdict.effect()
    found_on = f"{where} (run {row['run']})"
    return {"outcome": WORDS[verdict.outcome], "effect [interval]": effect, "found on": found_on, "remarks": remarks}


def _findings(name: str, frame: pd.DataFrame) -> str:
    """One line on one name of a tension's side."""
    if name not in set(load_claims()["id"]):
        return f"{name}: published work, not a claim of this ledger"
    found = [Verdict.from_row(row) for row in frame[frame["claim"] == name].to_dict("records")]
    texts = [f"{WORDS[verdict.outcome]} ({verdict.scope['model']}, {verdict.effect()})" for verdict in found]
    return f"{name}: {'; '.join(texts) or WORDS[UNTESTED]}"


def _style(table: pd.DataFrame, caption: str, identifier: str) -> Styler:
    """A table whose every text is escaped; the fixed identifier keeps stored outputs the same between runs."""
    left = {"text-align": "left", "vertical-align": "top", "white-space": "pre-line"}
    heading = {"selector": "th", "props": [("text-align", "left")]}
    styler = table.style.set_uuid(identifier).format(escape="html").hide(axis="index").set_properties(**left)
    return styler.set_caption(html.escape(caption)).set_table_styles([heading])
