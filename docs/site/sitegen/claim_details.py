"""What a row of the claims page opens to: paper, estimand, verdicts, cell, figure, rows, differences, and the rerun."""

import html

from labutils.claims.ledger_page import write_p
from labutils.claims.registry import Claim
from labutils.claims.verdicts import plural
from sitegen.claims_data import Entry, Study
from sitegen.gallery import image_path
from sitegen.text import first_paragraph, inline, write_number

KINDS = {
    "positive": "Holds where the whole interval lies above zero.",
    "no_worse": "Holds where the whole interval lies above minus the margin.",
    "negative_result": "Holds where the whole interval lies below the margin.",
    "equivalence": "Holds where the whole interval lies within the margin.",
}
TYPES = {"D": "An abstract states it.", "O": "Our contrast for what an abstract implies.", None: ""}
COLUMNS = (
    "run",
    "outcome",
    "after correction",
    "effect [interval]",
    "margin",
    "p",
    "effect found 4 times in 5",
    "over",
)


def details(entry: Entry) -> str:
    """The HTML of what opens; "" for a claim without a verdict."""
    if not entry.studies:
        return ""
    parts = [
        _part("What the paper says", _paper(entry.claim)),
        _part("What is judged", _estimand(entry.claim)),
        _part("Verdicts", verdict_table(entry.studies)),
        _part("The cell that computed it", _cell(entry)),
        _part("Its figure", _figure(entry)),
        _part("The rows", _rows(entry)),
        _part("What differs from the paper", _differences(entry)),
        _part("On your own model", _rerun(entry)),
    ]
    return f"<details><summary>Evidence for {entry.claim.id}</summary>{''.join(filter(None, parts))}</details>"


def verdict_table(studies: tuple[Study, ...]) -> str:
    """All verdicts on a claim with their numbers."""
    head = "".join(f'<th scope="col">{name}</th>' for name in COLUMNS)
    rows = "".join(_verdict_row(study) for study in studies)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<div class="table-frame" tabindex="0" role="region" aria-label="verdicts">{table}</div>'


def _verdict_row(study: Study) -> str:
    one = study.verdict
    counted = [(one.item_unit, one.n_items), (one.draw_unit, one.n_draws)]
    over = ", ".join(f"{n} {unit if n == 1 else plural(unit)}" for unit, n in counted if n is not None)
    cells = [
        study.run, one.outcome, study.corrected, one.effect() if one.estimate is not None else one.note,
        "" if one.margin is None else f"{one.margin:.2g}", "" if one.p_value is None else write_p(one.p_value),
        "" if study.detectable is None else write_number(study.detectable), over,
    ]  # fmt: skip
    return "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"


def _part(title: str, content: str) -> str:
    return f"<section><h3>{title}</h3>{content}</section>" if content else ""


def _paper(one: Claim) -> str:
    number = "The registry holds its statement and no number of the paper: sign and margin decide."
    return f"<p><b>{html.escape(one.source)}</b>: {html.escape(one.statement)} {TYPES[one.type]} {number}</p>"


def _estimand(one: Claim) -> str:
    margin = "No margin." if one.margin is None else f"Margin: {one.margin.value:g} ({html.escape(one.margin.unit)})."
    also = f"<p>Reported beside it: {inline(one.also)}.</p>" if one.also else ""
    return f"<p>{inline(one.quantity)}.</p><p>{KINDS[one.kind]} {margin}</p>{also}"


def _cell(entry: Entry) -> str:
    stem = entry.claim.studied_in
    if entry.cell is None:
        return ""
    link = f'<a href="notebooks/{stem}.html#cell-{entry.cell}">{stem}, cell {entry.cell}</a>'
    return f'<p>{link}</p><pre tabindex="0">{html.escape(entry.code)}</pre>'


def _figure(entry: Entry) -> str:
    figure, stem = entry.figure, entry.claim.studied_in
    if figure is None:
        return ""
    told = inline(first_paragraph(figure.finding) or figure.words)
    real = f' On a real model: <a href="{entry.real}">figures and verdicts</a>.' if entry.real else ""
    return (
        f'<figure><a href="notebooks/{stem}.html#cell-{figure.cell}"><img loading="lazy" src="{image_path(figure)}" '
        f'alt="{html.escape(figure.alt)}"></a><figcaption>{told}{real}</figcaption></figure>'
    )


def _rows(entry: Entry) -> str:
    if not entry.rows:
        return "<p>No rows are stored for it.</p>"
    links = "".join(
        f'<li><a href="rows/{html.escape(path)}" download>{html.escape(path)}</a></li>' for path in entry.rows
    )
    judged = any("evidence/" in path for path in entry.rows)
    again = (
        '<p>Judged anew from them, without a model: <code>labutils.ledger("data/evidence", from_rows=True)</code>.</p>'
    )
    return f"<ul>{links}</ul>{again if judged else ''}<p>Parquet: <code>pandas.read_parquet(file)</code> reads it.</p>"


def _differences(entry: Entry) -> str:
    lines = []
    for study in entry.studies:
        scope = "; ".join(f"{key.replace('_', ' ')} {value}" for key, value in study.verdict.scope.items())
        note = f" ({study.verdict.note})" if study.verdict.note and study.verdict.estimate is not None else ""
        lines.append(f"<li><b>{html.escape(study.run)}</b>: {html.escape(scope + note)}</li>")
    limits = f"<p>Limits, as its notebook says them: {inline(entry.limits)}</p>" if entry.limits else ""
    return f"<p>Judged here on:</p><ul>{''.join(lines)}</ul>{limits}"


def _rerun(entry: Entry) -> str:
    stem, name = entry.claim.studied_in, entry.models
    if not stem:
        return ""
    value = {"models": '["/path/to/model"]', "model": "/path/to/model"}.get(name)
    given = (
        f" \\\n    -p '{name}={value}' -p 'texts=[\"file:/path/to/text.txt\"]'" if value and name == "models" else ""
    )
    given = f" \\\n    -p 'model={value}'" if name == "model" else given
    command = f"python -m labutils run {stem} --profile lab --out results/mine{given}"
    more = "" if name else "It reads the rows of another notebook, which takes the model. "
    more += f"Its other parameters: <code>python -m labutils parameters {stem}</code>."
    return f'<pre tabindex="0">{html.escape(command)}</pre><p>{more}</p>'
