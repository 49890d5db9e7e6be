"""Claims to browse: a table that sorts and filters by script, and is a plain table without."""

import html
from collections.abc import Sequence

from labutils.claims.ledger_page import UNTESTED, WORDS
from labutils.claims.outcomes import OUTCOMES
from labutils.claims.registry import tensions
from sitegen.claim_details import details
from sitegen.claims_data import Entry, Study, in_order_of_size, read_models
from sitegen.interval_drawings import draw_interval
from sitegen.text import inline, raw_html, write_number

HEAD = """# Claims

What papers say about pruning language models, and what became of it here, on models of 1 to 135 million parameters.
Each outcome is that of the claim on its own; where the correction for the number of claims asked in its run (Holm)
leaves less, the cell says so. *Contradicted* means that the claim did not transfer to these models; it does not refute
the paper. In the drawings the dot is the effect and the line its 95 % interval: **right of the middle speaks for the
claim**, and inside the grey band, which is the margin fixed before any run, an effect is too small to matter (the scale
is logarithmic far out). *80 % power from 2 margins on*: four of five such studies would tell an effect of 2 margins
from none. Open a row for the evidence.
"""
SYMBOLS = {outcome: WORDS[outcome].split()[0] for outcome in OUTCOMES}


def write_claims(entries: Sequence[Entry]) -> str:
    """The page, as Markdown.

    Args:
        entries: of `collect`.
    """
    models = in_order_of_size([study for entry in entries for study in entry.studies])
    lines = [controls(entries, models), '<table class="claims" id="claims-table">', _caption(entries), _head(models)]
    lines += [line for entry in entries for line in _body(entry, models)]
    return "\n".join([HEAD, raw_html(*lines, "</table>"), _models(), _tensions()])


def controls(entries: Sequence[Entry], models: Sequence[str]) -> str:
    """The filters, which the script shows; without it they stay hidden."""
    papers = sorted({name for entry in entries for name in entry.claim.source.split("; ")})
    return "\n".join([
        '<form class="filters" id="claims-filters" hidden aria-label="filter the claims">',
        '<label>Words <input type="search" name="words" placeholder="e.g. SparseGPT"></label>',
        _select("paper", "Paper", papers),
        _select("model", "Judged on", models),
        _select("outcome", "Outcome", [*OUTCOMES, UNTESTED]),
        '<button type="reset">All</button>',
        '<output name="count" aria-live="polite"></output>',
        "</form>",
    ])  # fmt: skip


def _select(name: str, title: str, values: Sequence[str]) -> str:
    options = "".join(f"<option>{html.escape(value)}</option>" for value in values)
    return f'<label>{title} <select name="{name}"><option value="">any</option>{options}</select></label>'


def _caption(entries: Sequence[Entry]) -> str:
    tested = sum(bool(entry.studies) for entry in entries)
    return f"<caption>{len(entries)} claims, {tested} of them judged on at least one model</caption>"


def _head(models: Sequence[str]) -> str:
    columns = ["claim", "paper", *models]
    cells = "".join(f'<th scope="col" data-column="{n}">{html.escape(name)}</th>' for n, name in enumerate(columns))
    return f"<thead><tr>{cells}</tr></thead>"


def _body(entry: Entry, models: Sequence[str]) -> list[str]:
    """The two rows of a claim: what became of it, and what opens below."""
    one = entry.claim
    by_model = {model: [study for study in entry.studies if study.model == model] for model in models}
    outcomes = {model: [study.verdict.outcome for study in own] or [UNTESTED] for model, own in by_model.items()}
    told = "|".join(f"{model}={'/'.join(found)}" for model, found in outcomes.items())
    aside = f'<span class="aside">{html.escape(one.aside)}</span>' if one.aside else ""
    cells = [
        f'<th scope="row" data-label="claim" data-sort="{one.id}"><a class="id" href="#{one.id}">{one.id}</a> '
        f"{html.escape(one.statement)} {aside}</th>",
        f'<td data-label="paper" data-sort="{html.escape(one.source)}">{html.escape(one.source)}</td>',
        *(_cell(model, own) for model, own in by_model.items()),
    ]
    opening = details(entry)
    more = f'<tr class="more"><td colspan="{len(models) + 2}">{opening}</td></tr>' if opening else ""
    about = f'data-paper="{html.escape(one.source)}" data-outcomes="{html.escape(told)}"'
    return [f'<tbody id="{one.id}" {about}><tr>{"".join(cells)}</tr>{more}</tbody>']


def _cell(model: str, studies: Sequence[Study]) -> str:
    """What became of a claim on one model; of several runs, one below the other."""
    label = f'data-label="{html.escape(model)}"'
    if not studies:
        return f'<td {label} data-sort="9"><span class="absent">not run</span></td>'
    order = OUTCOMES.index(studies[0].verdict.outcome)
    size = abs(studies[0].drawn[1]) if studies[0].drawn else 0.0
    return (
        f'<td {label} data-sort="{order}.{9999 - min(9999, round(size * 10)):04d}">{"".join(map(_study, studies))}</td>'
    )


def _study(study: Study) -> str:
    verdict = study.verdict
    parts = [badge(verdict.outcome)]
    if study.earlier:
        parts.append('<span class="after">by an earlier definition</span>')
    if study.corrected != verdict.outcome:
        parts.append(f'<span class="after">{html.escape(study.corrected)} after correction</span>')
    if study.drawn:
        low, estimate, high = map(write_number, study.drawn)
        in_words = f"{estimate} margins, interval {low} to {high}"
        parts.append(draw_interval(*study.drawn, in_words))
    if verdict.estimate is not None:
        parts.append(f'<span class="effect">{html.escape(verdict.effect())}</span>')
        power = _power(study)
        parts += [f'<span class="power">{power}</span>'] if power else []
    return f'<div class="study" title="{html.escape(study.run)}">{"".join(parts)}</div>'


def badge(outcome: str) -> str:
    """An outcome with its symbol and its word, so that colour is an aid only.

    >>> badge("supported")
    '<span class="badge-outcome supported">✔ supported</span>'
    """
    kind = outcome.replace(",", "").replace(" ", "-")
    return f'<span class="badge-outcome {kind}">{SYMBOLS[outcome]} {html.escape(outcome)}</span>'


def _power(study: Study) -> str:
    """The effect that such a study finds four times in five, in margins where there are any."""
    if study.detectable is None or not study.drawn or not study.verdict.margin:
        return ""
    return f"80 % power from {write_number(study.detectable / study.verdict.margin)} margins on"


def _models() -> str:
    about = read_models()
    lines = [f"- `{name}` ({one['parameters']} parameters): {one['about']}" for name, one in about.items()]
    return "\n".join(["## The models\n", *lines, ""])


def _tensions() -> str:
    lines = ["## Claims that pull against each other\n"]
    for sides, question in tensions():
        told = " against ".join(", ".join(_refer(name) for name in side) for side in sides)
        lines.append(f"<li>{told}: {inline(question)}</li>")
    return "\n".join([lines[0], raw_html("<ul>", *lines[1:], "</ul>")])


def _refer(name: str) -> str:
    known = len(name) == 3 and name[0] in "CR" and name[1:].isdigit()
    return f'<a href="#{name}">{name}</a>' if known else html.escape(name)
