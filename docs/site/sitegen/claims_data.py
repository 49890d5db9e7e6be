"""What the claims page tells of each claim: from registry, kept ledgers, stored notebooks and their rows."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml
from nbformat import NotebookNode
from scipy.stats import norm

from labutils.claims.also_seen_on import LEDGERS, MODELS, judged_earlier, kept_verdicts
from labutils.claims.ledger import ledger
from labutils.claims.ledger_summary import effects_in_margins
from labutils.claims.registry import Claim, all_claims
from labutils.claims.verdicts import Verdict
from sitegen.notebooks import Figure, find_cell, find_figures, nearest_figure, read_limits

POWER = 0.8
# Rows of the studies that train, which keep them as a whole.
STUDY_ROWS = {
    "06_biomedical_adaptation": "adaptation_runs", "07_multilevel_analysis": "adaptation_runs",
    "08_layer_distillation": "distillation_runs",
}  # fmt: skip


@dataclass(frozen=True)
class Study:
    """One verdict of one run.

    Attributes:
        run: its name.
        model: the name's first part, by which runs stand in columns.
        verdict: on its own, by today's rule.
        corrected: the outcome after Holm's correction over the claims of its run.
        drawn: low, estimate and high in margins, positive where they speak for the claim; None where there are none.
        earlier: whether the claim was defined anew after the run.
    """

    run: str
    model: str
    verdict: Verdict
    corrected: str
    drawn: tuple[float, float, float] | None
    earlier: bool = False

    @property
    def detectable(self) -> float | None:
        """The smallest effect that four of five such studies would tell from zero, from the width of the interval.

        In the unit of the verdict, by the normal approximation; None without an interval.
        """
        one = self.verdict
        if one.estimate is None or not one.high > one.low:
            return None
        reach = norm.ppf((1 + one.level) / 2)
        return (one.high - one.low) / (2 * reach) * (reach + norm.ppf(POWER))


@dataclass(frozen=True)
class Entry:
    """A claim with all that the repository holds on it.

    Attributes:
        cell, code: place and source of the notebook's cell that judges it.
        figure: the figure nearest to that cell.
        limits: what its notebook says that it cannot show.
        rows: files of rows, relative to the repository.
        models: the parameter by which its notebook takes models.
        real: the page of its notebook on a real model, where that judged the claim.
    """

    claim: Claim
    studies: tuple[Study, ...]
    cell: int | None = None
    code: str = ""
    figure: Figure | None = None
    limits: str = ""
    rows: tuple[str, ...] = ()
    models: str = ""
    real: str = ""


def collect(found: Mapping[str, NotebookNode], repository: Path) -> list[Entry]:
    """All claims of the registry, those with verdicts first.

    >>> [entry.claim.id for entry in collect(notebooks, Path("."))][:3]
    ['C01', 'C02', 'C03']
    """
    studies = read_studies()
    entries = []
    for one in all_claims():
        own = tuple(study for study in studies if study.verdict.claim == one.id)
        notebook = found.get(one.studied_in or "")
        if notebook is None or not own:
            entries.append(Entry(one, own))
            continue
        place = find_cell(notebook, one.id)
        entries.append(Entry(
            one, own, place, "" if place is None else notebook.cells[place].source,
            nearest_figure(find_figures(notebook), place), read_limits(notebook),
            tuple(find_rows(one.id, one.studied_in, repository)), _model_parameter(notebook),
            _real_page(one, own, repository),
        ))  # fmt: skip
    return sorted(entries, key=lambda entry: not entry.studies)


def read_studies() -> list[Study]:
    """The verdicts of all kept runs."""
    found = []
    for run, verdicts in kept_verdicts().items():
        after = ledger(LEDGERS / f"{run}.jsonl").set_index("claim")["outcome"].to_dict()
        drawn = effects_in_margins(pd.DataFrame([verdict.as_row() for verdict in verdicts])).set_index("claim")
        for verdict in verdicts:
            ends = tuple(float(drawn.loc[verdict.claim, name]) for name in ("low", "estimate", "high"))
            known = not any(map(math.isnan, ends))
            earlier = judged_earlier(run, verdict.claim)
            found.append(Study(run, name_model(run), verdict, after[verdict.claim], ends if known else None, earlier))
    return found


def name_model(run: str) -> str:
    """The model in the name of a run.

    >>> name_model("SmolLM2-135M-Instruct on C4, WikiText-2 and PubMed"), name_model("lab models")
    ('SmolLM2-135M-Instruct', 'lab models')
    """
    return re.split(r" on | adapted | distilled |, ", run)[0]


def read_models() -> dict[str, dict[str, str]]:
    """What the kept runs tell of their models: `parameters` and `about`, by the name in a verdict's scope."""
    return yaml.safe_load((LEDGERS / MODELS).read_text(encoding="utf-8"))


def in_order_of_size(studies: Sequence[Study]) -> list[str]:
    """The models of studies, the largest first; those of unknown size last."""
    about, sizes = read_models(), {}
    for study in studies:
        names = str(study.verdict.scope["model"]).split(", ")
        millions = [float(about[name]["parameters"].split()[0]) for name in names if name in about]
        sizes[study.model] = max([sizes.get(study.model, 0.0), *millions])
    return sorted(sizes, key=lambda model: -sizes[model])


def find_rows(claim_id: str, stem: str, repository: Path) -> list[str]:
    """The files that hold the rows of a claim: what its verdict was judged from, and the rows of its study."""
    data, found = repository / "data", []
    listed = data / "evidence" / stem / "evidence.json"
    for entry in json.loads(listed.read_text(encoding="utf-8")) if listed.exists() else []:
        if entry.get("claim") == claim_id:
            found += [listed.parent / file for file in entry.get("tables", {}).values()]
    found.append(data / "rows" / f"{stem}.parquet")
    if stem in STUDY_ROWS:
        found += sorted((data / STUDY_ROWS[stem]).glob("*.parquet"))
    found.append(repository / "docs" / "real" / "rows" / f"{stem}.parquet")
    return [path.relative_to(repository).as_posix() for path in found if path.exists()]


def _model_parameter(notebook: NotebookNode) -> str:
    """`models` or `model`, as the notebook's parameters have it; "" where it takes none."""
    cells = [cell.source for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    names = [line.partition(":")[0].strip() for source in cells for line in source.splitlines()]
    return next((name for name in ("models", "model") if name in names), "")


def _real_page(one: Claim, studies: tuple[Study, ...], repository: Path) -> str:
    page = repository / "docs" / "real" / f"{one.studied_in}.md"
    judged = page.exists() and f"**{one.id}**" in page.read_text(encoding="utf-8")
    return f"docs/real/{one.studied_in}.html" if judged and studies else ""
