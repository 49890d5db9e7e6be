"""Also seen on: the verdicts of runs on models and texts that cannot be shipped, kept as ledgers and as one page.

The page is generated from the ledgers, the collection's own beside the others; a stale page fails a test.
"""

import datetime
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from math import exp
from pathlib import Path
from typing import Any

import yaml

from labutils.claims.ledger import FILE, ledger
from labutils.claims.ledger_page import write_p
from labutils.claims.outcomes import decide
from labutils.claims.registry import RELATIVE, all_claims, claim
from labutils.claims.verdicts import Verdict, plural
from labutils.core import paths
from labutils.core.files import write_atomically

LEDGERS = paths.REPOSITORY / "docs" / "ledgers"
PAGE = paths.REPOSITORY / "docs" / "also_seen_on.md"
OWN = "lab models"
MARKS = "blank , . ( ) + - _"
NAME = re.compile(r"\w[\w ,.()+-]{0,99}")
MODELS = "models.yaml"  # beside the ledgers: what a reader cannot look up elsewhere
NOT_RECORDED = "not recorded"
INTRODUCTION = """# Also seen on

The verdicts of the collection's own models, and those of runs on real models and real text, which are not part of the
repository. Effects are signed as the claim is (`data/claims.yaml`), with 95 % intervals over items and what was
repeated (calibration draws, seeds, samples, random neurons). **Outcomes and p are those of each claim on its own,
without a correction for the number of claims**: a correction within runs of two and of twenty claims would make runs
incomparable. Each run was judged with the statistics of its day; outcomes follow from its interval and margin by
today's rule, and where that changes the outcome its p is not recorded. *By an earlier definition*: the number that the
claim is judged on, or its interval, was defined anew after that run. The draws are few (two or three) in most runs on
real models, and their intervals wide. This page is generated from the ledgers beside it
(`python -m labutils record <run> <name>`).
"""


def record_elsewhere(run: str | Path, name: str, *, add: bool = False) -> Path:
    """Keep a run's ledger under a name and write the page anew; returns the ledger's path.

    >>> record_elsewhere("results/full", "lab models")

    With `add`, the verdicts kept under that name stay where the run has none on the same claim.

    Raises:
        LookupError, ValueError: those of `find_recordable`.
    """
    found = find_recordable(run, name, add=add)
    target = LEDGERS / f"{name}.jsonl"
    lines, about = found.read_text(encoding="utf-8"), _describe_run(paths.expand(run))
    if add:
        lines, about = _added(name, lines, about)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, lines)
    write_atomically(_about(target), json.dumps(about) + "\n")
    write_atomically(PAGE, also_seen_page())
    return target


def _added(name: str, lines: str, about: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The lines of a kept ledger with a run's in place of those on the same claims; and what is told of both."""
    new = {json.loads(line)["claim"] for line in lines.splitlines()}
    old = _kept(name).read_text(encoding="utf-8").splitlines(keepends=True)
    stay = [line for line in old if json.loads(line)["claim"] not in new]
    earlier = _read_about(name)
    ends = {claim: _end(earlier, claim) for claim in (json.loads(line)["claim"] for line in stay)}
    commits = {commit for each in (earlier, about) for commit in each.get("commit", "").split(", ") if commit}
    about |= {"earlier": ends} | ({"commit": ", ".join(sorted(commits))} if commits else {})
    return "".join(stay) + lines, about


def _end(about: dict[str, Any], claim: str) -> str | None:
    """When the run that judged a claim ended, as an hour or, where only that is known, a day."""
    return about.get("earlier", {}).get(claim) or about.get("finished") or about.get("kept")


def find_recordable(run: str | Path, name: str, *, add: bool = False) -> Path:
    """The ledger of a run that can be kept under this name, or added to what is kept under it.

    Raises:
        LookupError: the run holds no ledger; or nothing is kept that it could be added to.
        ValueError: a name that cannot be that of a file and a column.
    """
    if not NAME.fullmatch(name):
        allowed = f"a letter or digit, then at most 99 letters, digits or any of {MARKS}"
        raise ValueError(f"{name!r} cannot name a run: {allowed}")
    ledger = paths.expand(run) / FILE
    if not ledger.exists():
        raise LookupError(f"{run} holds no {FILE}; run a study into this folder first")
    if add and not _kept(name).exists():
        raise LookupError(f"nothing is kept under {name!r} to add to; record it without adding")
    return ledger


def also_seen_page() -> str:
    """The page: the kept runs, then for every claim a table with a row per run, and last on what each run was made."""
    found = kept_verdicts()
    names = list(found)
    models = yaml.safe_load((LEDGERS / MODELS).read_text(encoding="utf-8")) if (LEDGERS / MODELS).exists() else {}
    blocks = [INTRODUCTION, "## The runs\n", *_runs_table(found, models), "\n## The claims"]
    for one in all_claims():
        rows = [_verdict_row(name, verdict) for name in names for verdict in found[name] if verdict.claim == one.id]
        if rows:
            blocks += [f"\n### {one.id}: {one.statement}\n"]
            blocks += [f"*{one.aside[0].upper()}{one.aside[1:]}.*\n"] if one.aside else []
            blocks += ["| run | outcome | effect [interval] | margin | p | over |", "|---" * 6 + "|", *rows]
    blocks.append("\n## On what")
    for name in names:
        scopes = dict.fromkeys(", ".join(f"{key} {value}" for key, value in v.scope.items()) for v in found[name])
        blocks += [f"\n**{name}**\n", *(f"- {scope}" for scope in scopes)]
    return "\n".join(blocks) + "\n"


def kept_verdicts() -> dict[str, list[Verdict]]:
    """The verdicts of every kept run by its name, the collection's own first: each on its own, by today's rule.

    >>> [verdict.outcome for verdict in kept_verdicts()["lab models"]]
    """
    names = sorted((path.stem for path in LEDGERS.glob("*.jsonl")), key=lambda name: (name != OWN, name))
    return {name: [_judge_again(row) for row in ledger(_kept(name)).to_dict("records")] for name in names}


def judged_earlier(name: str, claim_id: str) -> bool:
    """Whether a claim was defined anew (`revised` in `data/claims.yaml`) after a kept run was finished.

    >>> judged_earlier("SmolLM2-135M-Instruct on C4, WikiText-2 and PubMed", "C01")
    True

    Of a run that tells its day alone, one of the same day counts as earlier.
    """
    revised, ended = claim(claim_id).revised, _end(_read_about(name), claim_id)
    if not revised or ended is None:
        return bool(revised)
    anew = datetime.datetime.fromisoformat(revised)
    if "T" in ended:
        return datetime.datetime.fromisoformat(ended) < anew
    return datetime.date.fromisoformat(ended) <= anew.date()


def _judge_again(row: dict[str, Any]) -> Verdict:
    """A kept verdict on its own, by today's rule; without its p where the rule has changed the outcome."""
    verdict = Verdict.from_row(row)
    verdict = replace(verdict, outcome=verdict.first_outcome, p_holm=None, correction="")
    if verdict.estimate is None:
        return verdict
    today = decide(claim(verdict.claim).kind, verdict.low, verdict.high, verdict.margin)
    return verdict if today == verdict.outcome else replace(verdict, outcome=today, p_value=None)


def _runs_table(found: dict[str, list[Verdict]], models: dict[str, dict[str, str]]) -> list[str]:
    """A row per run, and under it what its models are."""
    lines = ["| run | models (parameters) | dense loss | over | kept |", "|---" * 5 + "|"]
    used = {
        name: list(dict.fromkeys(model for one in verdicts for model in _models(one)))
        for name, verdicts in found.items()
    }
    for name, verdicts in found.items():
        told = [f"{model} ({models.get(model, {}).get('parameters', NOT_RECORDED)})" for model in used[name]]
        counts = [("items", [one.n_items for one in verdicts]), ("draws", [one.n_draws for one in verdicts])]
        sizes = ", ".join(f"{_span(numbers)} {unit}" for unit, numbers in counts if any(numbers))
        lines.append(f"| {name} | {', '.join(told)} | {_dense_losses(verdicts)} | {sizes} | {_when_kept(name)} |")
    seen = dict.fromkeys(model for names in used.values() for model in names)
    described = [f"- `{model}`: {models[model]['about']}" for model in seen if model in models]
    return [*lines, "", *described] if described else lines


def _models(verdict: Verdict) -> list[str]:
    return str(verdict.scope["model"]).split(", ")


def _span(numbers: Sequence[int | None]) -> str:
    known = [number for number in numbers if number is not None]
    return " to ".join(map(str, sorted({min(known), max(known)})))


def _dense_losses(verdicts: Sequence[Verdict]) -> str:
    """The dense losses of a run, which the margins that are relative to them tell."""
    told = []
    for one in verdicts:
        margin = claim(one.claim).margin
        if one.margin and margin and margin.unit in RELATIVE and not one.unit.startswith("%"):
            loss = one.margin / margin.value
            told.append(f"{loss:.2f} nats" if one.unit.startswith("nats") else f"{one.unit} = {loss:.2f}")
            told[-1] += f" (perplexity {exp(loss):.3g})" if one.unit.startswith("nats") else ""
    return "; ".join(dict.fromkeys(told)) or NOT_RECORDED


def _when_kept(name: str) -> str:
    about = _read_about(name)
    return about.get("kept", NOT_RECORDED) + (f", made at {about['commit']}" if "commit" in about else "")


def _read_about(name: str) -> dict[str, Any]:
    path = _about(_kept(name))
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _verdict_row(name: str, verdict: Verdict) -> str:
    outcome = f"**{verdict.outcome}**" + (", by an earlier definition" if judged_earlier(name, verdict.claim) else "")
    if verdict.estimate is None:
        return f"| {name} | {outcome} | {verdict.note.replace('|', '/')} | | | |"
    margin = "none" if verdict.margin is None else f"{verdict.margin:.2g}"
    p = NOT_RECORDED if verdict.p_value is None else write_p(verdict.p_value)
    counted = [(verdict.item_unit, verdict.n_items), (verdict.draw_unit, verdict.n_draws)]
    over = ", ".join(f"{n} {unit if n == 1 else plural(unit)}" for unit, n in counted if n is not None)
    cells = [name, outcome, verdict.effect(), margin, p, over]
    return f"| {' | '.join(cells)} |"


def _kept(name: str) -> Path:
    return LEDGERS / f"{name}.jsonl"


def _about(kept: Path) -> Path:
    """What is told of a kept ledger's run, in a file beside it."""
    return kept.with_suffix(".json")


def _describe_run(run: Path) -> dict[str, str]:
    """The day on which a run is kept and, where its manifest tells, the commits of its notebooks and their last end."""
    about = {"kept": datetime.date.today().isoformat()}
    if not (run / "manifest.json").exists():
        return about
    records = json.loads((run / "manifest.json").read_text(encoding="utf-8"))["notebooks"].values()
    commits = sorted({record["git"]["commit"][:7] for record in records if record["git"]["commit"]})
    ends = [record["finished"] for record in records if record.get("finished")]
    about |= {"finished": max(ends)} if ends else {}
    return about | ({"commit": ", ".join(commits)} if commits else {})
