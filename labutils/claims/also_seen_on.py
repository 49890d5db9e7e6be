"""Also seen on: the verdicts of runs on models and texts that cannot be shipped, kept as ledgers and as one page.

The page is generated from the ledgers, the collection's own beside the others; a stale page fails a test.
"""

import re
import shutil
from pathlib import Path

from labutils.claims.ledger import FILE, ledger
from labutils.claims.registry import load_claims
from labutils.claims.verdicts import Verdict
from labutils.core import paths
from labutils.core.files import write_atomically

LEDGERS = paths.REPOSITORY / "docs" / "ledgers"
PAGE = paths.REPOSITORY / "docs" / "also_seen_on.md"
OWN = "lab models"
MARKS = "blank , . ( ) + - _"
NAME = re.compile(r"\w[\w ,.()+-]{0,99}")
INTRODUCTION = """# Also seen on

The verdicts of the collection's own models, and those of runs on real models and real text, which are not part of the
repository. Each column is one run; effects are signed as the claim is (`data/claims.yaml`), with 95 % intervals over
items and what was repeated (calibration draws, seeds, samples, random neurons), corrected by Holm within the run. This
page is generated from the ledgers beside it (`python -m labutils record <run> <name>`).
"""


def record_elsewhere(run: str | Path, name: str) -> Path:
    """Keep a run's ledger under a name and write the page anew; returns the ledger's path.

    >>> record_elsewhere("results/full", "lab models")

    Raises:
        LookupError, ValueError: those of `find_recordable`.
    """
    ledger = find_recordable(run, name)
    target = LEDGERS / f"{name}.jsonl"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ledger, target)
    write_atomically(PAGE, also_seen_page())
    return target


def find_recordable(run: str | Path, name: str) -> Path:
    """The ledger of a run that can be kept under this name.

    Raises:
        LookupError: the run holds no ledger.
        ValueError: a name that cannot be that of a file and a column.
    """
    if not NAME.fullmatch(name):
        allowed = f"a letter or digit, then at most 99 letters, digits or any of {MARKS}"
        raise ValueError(f"{name!r} cannot name a run: {allowed}")
    ledger = paths.expand(run) / FILE
    if not ledger.exists():
        raise LookupError(f"{run} holds no {FILE}; run a study into this folder first")
    return ledger


def also_seen_page() -> str:
    """The page: a row per claim, a column per kept ledger, and under it on what each run was made."""
    names = sorted((path.stem for path in LEDGERS.glob("*.jsonl")), key=lambda name: (name != OWN, name))
    found = {
        name: [Verdict.from_row(row) for row in ledger(LEDGERS / f"{name}.jsonl").to_dict("records")] for name in names
    }
    claims = load_claims().set_index("id")["statement"]
    lines = ["| claim | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for claim, statement in claims.items():
        cells = [
            "<br>".join(f"**{v.outcome}** {v.effect()}" for v in found[name] if v.claim == claim) for name in names
        ]
        if any(cells):
            lines.append(f"| **{claim}** {statement} | " + " | ".join(cells) + " |")
    about = []
    for name in names:
        scopes = dict.fromkeys(", ".join(f"{key} {value}" for key, value in v.scope.items()) for v in found[name])
        about += [f"\n**{name}**\n", *(f"- {scope}" for scope in scopes)]
    return INTRODUCTION + "\n" + "\n".join(lines) + "\n\n## On what\n" + "\n".join(about) + "\n"
