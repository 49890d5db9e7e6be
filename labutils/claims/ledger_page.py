"""The ledger as tables for readers: the tested claims, the untested ones folded, and the tensions."""

import html
from typing import Any

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from labutils.claims.ledger_summary import in_reading_order
from labutils.claims.outcomes import NEGLIGIBLE
from labutils.claims.registry import all_claims, claim, tensions
from labutils.claims.verdicts import Verdict, plural
from labutils.core.long_tables import Table
from labutils.stats.bootstrap import expected_false_contradictions

UNTESTED = "not yet tested"
# Symbol and words carry the meaning, so that colour is an aid only.
WORDS = {
    "supported": "✔ supported",
    "contradicted": "✘ contradicted: not transferred here",
    NEGLIGIBLE: "≪ real, negligible: an effect too small to matter",
    "equivalent": "≈ equivalent: no difference beyond the margin",
    "inconclusive": "? inconclusive",
    "not testable here": "∅ not testable here",
}
STYLES = {
    WORDS["supported"]: "background-color: #d5efe3; color: #00402b",
    WORDS["contradicted"]: "background-color: #fbe0cf; color: #6b2c00",
    WORDS[NEGLIGIBLE]: "background-color: #e6dff2; color: #35205e",
    WORDS["equivalent"]: "background-color: #d9e9f5; color: #003a5e",
    WORDS["inconclusive"]: "background-color: #f3eec4; color: #4a4300",
    WORDS["not testable here"]: "background-color: #e6e6e6; color: #333333",
}


def ledger_table(frame: pd.DataFrame) -> Styler:
    """The claims that were looked at, with what was found about each, for any reader; `frame` comes from `ledger`.

    >>> ledger_table(ledger("results/full"))

    A claim's id links to the notebook that judges it. What restates another claim's fact stands behind that claim and
    what is exploratory at the end; neither is counted. The other claims are told by `untested_claims`.
    """
    several = frame["run"].nunique() > 1
    rows = [_describe(row, several_runs=several) for row in in_reading_order(frame).to_dict("records")]
    columns = ["claim", "source", "what it says", "outcome", "effect [interval]", "p", "found on", "remarks"]
    table = pd.DataFrame(rows, columns=columns)
    styler = _style(table, _caption(frame), "ledger").format(_link, subset=["claim"])
    return styler.map(STYLES.__getitem__, subset=["outcome"]) if rows else styler


def untested_claims(frame: pd.DataFrame) -> str:
    """The claims of the registry that no verdict of the ledger is on: a folded table, as Markdown.

    >>> Markdown(untested_claims(ledger("results/full")))
    """
    missing = [one for one in all_claims() if one.id not in set(frame["claim"])]
    if not missing:
        return "Every claim of the registry was looked at."
    lines = [f"| {one.id} | {_cell(one.source)} | {_cell(one.statement)} |" for one in missing]
    summary = f"{len(missing)} of {len(all_claims())} claims are {UNTESTED}"
    head = ["| claim | source | what it says |", "|---|---|---|"]
    return "\n".join([f"<details><summary>{summary}</summary>", "", *head, *lines, "", "</details>"])


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


def _caption(frame: pd.DataFrame) -> str:
    """What the table counts, how its intervals were made, and what chance alone would give."""
    counted = frame[np.array([not claim(name).aside for name in frame["claim"]], dtype=bool)]
    levels = sorted(set(frame["level"].dropna())) or [0.95]
    n_tests = int(counted["p_value"].notna().sum())
    repeated = [plural(unit) for unit in dict.fromkeys(frame.loc[frame["n_draws"].notna(), "draw_unit"])]
    expected = expected_false_contradictions(n_tests, level=max(levels))
    caption = (
        f"{counted['claim'].nunique()} of {len(all_claims())} claims looked at, {n_tests} tests. Intervals at "
        f"{', '.join(f'{level:.0%}' for level in levels)} over items and what was repeated "
        f"({', '.join(repeated) or 'nothing'}); outcomes and p after Holm's correction over all tests. Without it, "
        f"{expected:.1f} contradictions would be expected by chance alone if no tested claim had any effect."
    )
    aside = [name for name in dict.fromkeys(frame["claim"]) if claim(name).aside]
    if aside:
        caption += f" Beside these, neither counted nor corrected: {', '.join(aside)}."
    if frame.attrs.get("interrupted"):
        caption += f" Interrupted, last line left out: {', '.join(frame.attrs['interrupted'])}."
    return caption


def _describe(row: dict[str, Any], *, several_runs: bool) -> dict[str, str]:
    verdict, one = Verdict.from_row(row), claim(row["claim"])
    where = ", ".join(str(value) if name == "model" else f"{name} {value}" for name, value in verdict.scope.items())
    return {
        "claim": one.id,
        "source": one.source,
        "what it says": one.statement,
        "outcome": WORDS[verdict.outcome],
        "effect [interval]": "" if verdict.estimate is None else verdict.effect(),
        "p": "" if verdict.p_holm is None else write_p(verdict.p_holm),
        "found on": f"{where} (run {row['run']})" if several_runs else where,
        "remarks": "; ".join(filter(None, [verdict.note, verdict.correction])),
    }


def write_p(value: float) -> str:
    """A p-value for a reader, to two digits.

    >>> write_p(0.00002), write_p(0.034), write_p(1.0)
    ('< 0.0001', '0.034', '1')
    """
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def _link(claim_id: str) -> str:
    """A claim's id, as a link to the notebook that judges it."""
    stem = claim(claim_id).studied_in
    return claim_id if stem is None else f'<a href="{stem}.ipynb">{claim_id}</a>'


def _cell(text: str) -> str:
    """A text as a cell of a Markdown table."""
    return html.escape(text).replace("|", "\\|")


def _findings(name: str, frame: pd.DataFrame) -> str:
    """One line on one name of a tension's side."""
    if name not in {one.id for one in all_claims()}:
        return f"{name}: published work, not a claim of this ledger"
    found = [Verdict.from_row(row) for row in frame[frame["claim"] == name].to_dict("records")]
    texts = [f"{WORDS[verdict.outcome]} ({verdict.scope['model']}, {verdict.effect()})" for verdict in found]
    return f"{name}: {'; '.join(texts) or '· ' + UNTESTED}"


def _style(table: pd.DataFrame, caption: str, identifier: str) -> Styler:
    """A table whose every text is escaped; the fixed identifier keeps stored outputs the same between runs."""
    left = {"text-align": "left", "vertical-align": "top", "white-space": "pre-line"}
    heading = {"selector": "th", "props": [("text-align", "left")]}
    styler = Table(table, uuid=identifier).format(escape="html").hide(axis="index").set_properties(**left)
    return styler.set_caption(html.escape(caption)).set_table_styles([heading])
