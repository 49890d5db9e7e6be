"""The page of a run: what was asked and answered, what failed, the verdicts; one file of HTML that fetches nothing.

It lies in the run folder as `index.html`, beside the folders of the notebooks, and can be shared with them or alone.
"""

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from labutils.claims.ledger import ledger
from labutils.claims.ledger_page import WORDS, write_p
from labutils.claims.ledger_summary import in_reading_order
from labutils.claims.registry import claim
from labutils.claims.verdicts import Verdict
from labutils.core.files import without_paths, write_atomically
from labutils.runner.records import read_records
from labutils.runner.spent import in_all

PAGE = "index.html"
STATUS = {"succeeded": "✔ succeeded", "failed": "✘ failed", "interrupted": "∅ interrupted"}
STYLE = """
:root { color-scheme: light dark; --line: #8888; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
.frame { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: 0.9rem; }
th, td { text-align: left; vertical-align: top; padding: 0.4rem 0.6rem; border-bottom: 1px solid var(--line); }
pre { overflow-x: auto; white-space: pre-wrap; }
"""


def keep_run_page(run: Path) -> None:
    """Write the page of a run folder from its records and its ledger; nothing where nothing is recorded.

    >>> keep_run_page(Path("results/lab"))

    A ledger that cannot be read, because it has two verdicts on a claim or the registry is not there, is told on the
    page: it is no fault of the run.
    """
    records = read_records(run)
    if not records:
        return
    found, trouble = pd.DataFrame(), ""
    try:
        found = ledger(run)
    except (LookupError, ValueError, OSError) as error:
        trouble = without_paths(str(error))
    write_atomically(run / PAGE, write_run_page(run.resolve().name, records, found, trouble=trouble))


def write_run_page(
    name: str, records: Mapping[str, Mapping[str, Any]], found: pd.DataFrame, *, trouble: str = ""
) -> str:
    """The page, as HTML.

    >>> write_run_page("trial", read_records(run), ledger(run))

    Args:
        name: of the run.
        records: of its notebooks by stem.
        found: its ledger; without rows where nothing was judged.
        trouble: why there is no ledger to show.
    """
    title = f"Run {name}"
    done = sum(record["status"] == "succeeded" for record in records.values())
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p>{done} of {len(records)} notebooks succeeded, {len(found)} claims judged, {_total(records)}.</p>",
        "<h2>Notebooks</h2>",
        _table(("notebook", "outcome", "answer", "time"), [_notebook(*each) for each in records.items()]),
    ]
    if trouble:
        parts.append(f"<h2>Verdicts</h2><p>{html.escape(trouble)}</p>")
    if len(found):
        rows = [_verdict(row) for row in in_reading_order(found).to_dict("records")]
        parts += [
            "<h2>Verdicts</h2>",
            "<p>Outcomes and p after Holm's correction over all claims of the run.</p>",
            _table(("claim", "what it says", "outcome", "effect [interval]", "p", "remarks"), rows),
        ]
    return "\n".join([
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
        f'<meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title>',
        f"<style>{STYLE}</style></head><body><main>", *parts, "</main></body></html>\n",
    ])  # fmt: skip


def _notebook(stem: str, record: Mapping[str, Any]) -> list[str]:
    """The row of a notebook: its link, how it ended, its answer or its failure, and the time that it took."""
    name = html.escape(stem)
    files = "".join(
        f' · <a href="{name}/{file}">{told}</a>'
        for file, told in (("rows.parquet", "rows"), (f"{name}.ipynb", "notebook"))
        if file in record["outputs"]
    )
    failure = record.get("failure")
    told = html.escape(record.get("answer") or "")
    if failure:
        where = f"cell {failure['cell']} ({failure['first_line']})"
        told = f"<b>{html.escape(where)}</b><pre>{html.escape(failure['message'])}</pre>"
    page = f'<a href="{name}/{name}.html">{name}</a>{files}'
    return [page, html.escape(STATUS[record["status"]]), told, _write_time(in_all(record, "wall_seconds"))]


def _verdict(row: Mapping[str, Any]) -> list[str]:
    verdict = Verdict.from_row(row)
    stem = claim(verdict.claim).studied_in
    link = f'<a href="{stem}/{stem}.html">{verdict.claim}</a>' if stem else verdict.claim
    p = "" if verdict.p_holm is None else write_p(verdict.p_holm)
    remarks = "; ".join(filter(None, [verdict.note, verdict.correction]))
    effect = "" if verdict.estimate is None else verdict.effect()
    return [link, *map(html.escape, (verdict.statement, WORDS[verdict.outcome], effect, p, remarks))]


def _table(columns: tuple[str, ...], rows: list[list[str]]) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in columns)
    body = "\n".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    table = f"<table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>"
    return f'<div class="frame" tabindex="0" role="region" aria-label="{columns[0]}s">{table}</div>'


def _total(records: Mapping[str, Mapping[str, Any]]) -> str:
    return f"{_write_time(sum(in_all(record, 'wall_seconds') for record in records.values()))} of work"


def _write_time(seconds: float) -> str:
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
