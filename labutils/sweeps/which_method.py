"""Which method at which sparsity: what was measured here, as advice and as the page `docs/which_method.md`."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from labutils.core import paths
from labutils.core.files import write_atomically
from labutils.data.sources import short_source
from labutils.runner.notebooks import read_notebook
from labutils.runner.real_manifest import made_earlier, read_manifest, safe
from labutils.runner.real_rows import load_real_rows
from labutils.runner.stored_evidence import load_stored_rows
from labutils.stats.bootstrap import Interval, crossed_bootstrap, write_interval
from labutils.sweeps.contrasts import contrast

PAGE = paths.REPOSITORY / "docs" / "which_method.md"
MARGIN = 0.01  # of the dense loss: what the registry calls too small to matter
RESAMPLES = 2000
STUDIES = ("02_pruning_strategy", "03_optiprune")  # whose arms are methods
# Passes over the calibration text and the solving after them, from none to probes and many solves.
EFFORT = {"magnitude": 0, "wanda": 1, "ri": 1, "ria": 1, "sparsegpt": 2, "optiprune": 2, "optiprune-auto": 3}
COLUMNS = [
    "model",
    "pattern",
    "sparsity",
    "take",
    "loses",
    "low",
    "high",
    "percent",
    "best",
    "as_good",
    "worst",
    "worst_loses",
]
INTRODUCTION = """# Which method at my sparsity?

What this collection measured, model by model. At every share of zeros the table names the *least costly* method whose
loss is shown to be no worse than that of the best one by more than 1 % of the dense model's loss (95 % intervals over
items and calibration draws, all texts of a study together). Cost is counted in work, not in time: magnitude reads no
text, Wanda and relative importance read it, Hessian reconstruction also solves with it, and the choice by measurement
probes every block and solves again and again. *Loses* is what the method adds to the loss of the dense model. A model
that is unlike these may answer otherwise: run the notebook on it. This page is made from stored rows: those of a real
model on real text first, where there are any, then those of the lab models on the controlled language.
"""


class Source(NamedTuple):
    """Rows of a study, where they are read (a link from `docs`), and what a reader must know of them besides."""

    link: str
    rows: pd.DataFrame
    note: str = ""


def advise(rows: pd.DataFrame, *, margin: float = MARGIN, fewest: int = 2) -> pd.DataFrame:
    """The least costly arm that is no worse than the best by more than the margin, per model, pattern and sparsity.

    >>> advise(rows)[["sparsity", "take", "loses"]]

    Args:
        rows: of `sweep`; every arm on the same items and draws.
        margin: as a share of the dense model's mean loss.
        fewest: arms that there must be at a sparsity; of one alone the row tells what it loses.

    Returns:
        ``model, pattern, sparsity, take``; ``loses, low, high`` (nats per token above the dense model) and ``percent``
        of the dense loss; ``best``, the arm of the lowest mean loss; ``as_good``, all arms within the margin, the least
        costly first; ``worst`` and what it loses.
    """
    found = []
    for model, own in rows.groupby("model", sort=False):
        dense = own.loc[own["arm"] == "dense", "loss"].mean()
        pruned = own[own["arm"] != "dense"]
        for (pattern, sparsity), part in pruned.groupby(["pattern", "sparsity"]):
            if part["arm"].nunique() >= fewest:
                advice = _advise_one(part, own[own["arm"] == "dense"], dense, margin)
                found.append({"model": model, "pattern": pattern, "sparsity": sparsity, **advice})
    return pd.DataFrame(found, columns=COLUMNS)


def write_which_method() -> Path:
    """Write the page anew from the stored rows, and return its path.

    >>> write_which_method()
    """
    write_atomically(PAGE, _present_page())
    return PAGE


def find_stale_page() -> list[str]:
    """One line where the page is not what the stored rows say; nothing where it is.

    >>> find_stale_page()
    """
    fresh = PAGE.exists() and PAGE.read_text(encoding="utf-8") == _present_page()
    told = f"{PAGE.name} is not what the stored rows say: `labutils store` and `labutils record --pages` write it"
    return [] if fresh else [told]


def _present_page() -> str:
    return which_method_page(real_sources() | lab_sources())


def lab_sources() -> dict[str, Source]:
    """By title, the rows of the stored notebooks that compare methods.

    >>> lab_sources()["03_optiprune"].rows
    """
    return {stem: Source(f"../notebooks/{stem}.ipynb", load_stored_rows(stem)) for stem in STUDIES}


def real_sources() -> dict[str, Source]:
    """The same of the recorded run on a real model; empty where there is none.

    >>> list(real_sources())
    """
    manifest, found = read_manifest(), {}
    for stem in STUDIES:
        if stem in manifest.get("notebooks", {}):
            earlier = made_earlier(stem, read_notebook(paths.NOTEBOOKS / f"{stem}.ipynb"), manifest)
            note = "Run with an earlier state of the notebook." if earlier else ""
            found[f"{stem} on {safe(manifest['name'])}"] = Source(f"real/{stem}.md", load_real_rows(stem), note)
    return found


def which_method_page(tables: Mapping[str, Source]) -> str:
    """The page: a table per study and model.

    >>> which_method_page({"02": Source("notebooks/02_pruning_strategy.ipynb", rows)})

    Args:
        tables: title of a study → its rows.
    """
    lines = [INTRODUCTION]
    for title, (link, rows, note) in tables.items():
        for model, part in advise(rows).groupby("model", sort=False):
            own = rows[(rows["model"] == model) & (rows["arm"] != "dense")]
            told = [f"Read on {_name_texts(own['evaluation'])}."]
            if set(own["calibration"]) != set(own["evaluation"]):
                told.append(f"Calibrated on {_name_texts(own['calibration'])}.")
            lines += [f"## {model}, in [{title}]({link})\n", " ".join([*told, note]).strip() + "\n"]
            lines += [
                "| zeros | take | it loses (nats per token) | of the dense loss | as good | avoid |",
                "|---" * 6 + "|",
            ]
            lines += [_line(row) for row in part.to_dict("records")]
            lines.append("")
    return "\n".join(lines)


def _name_texts(sources: pd.Series) -> str:
    """Files without their folders; other sources whole."""
    return ", ".join(dict.fromkeys(short_source(text) if text.startswith("file:") else text for text in sources))


def _advise_one(part: pd.DataFrame, dense_rows: pd.DataFrame, dense: float, margin: float) -> dict[str, object]:
    means = part.groupby("arm")["loss"].mean().sort_values()
    best = means.index[0]
    good = [best]
    for arm in means.index[1:]:
        behind = contrast(part, {"behind": (arm, best)})
        if _interval(behind).high <= margin * dense:
            good.append(arm)
    good.sort(key=lambda arm: (effort(arm), means[arm]))
    take = good[0]
    added = _interval(_against_dense(part[part["arm"] == take], dense_rows))
    return {
        "take": take, "loses": added.estimate, "low": added.low, "high": added.high,
        "percent": 100 * added.estimate / dense, "best": best, "as_good": good, "worst": means.index[-1],
        "worst_loses": means.iloc[-1] - dense,
    }  # fmt: skip


def _interval(differences: pd.DataFrame) -> Interval:
    return crossed_bootstrap(differences, cells=("sparsity",), n_resamples=RESAMPLES)


def _against_dense(arm: pd.DataFrame, dense_rows: pd.DataFrame) -> pd.DataFrame:
    """Loss above the dense model, item by item, in every draw."""
    keys = ["model", "evaluation", "item"]
    base = dense_rows.drop_duplicates(keys)[[*keys, "loss"]].rename(columns={"loss": "dense"})
    both = arm.merge(base, on=keys, validate="many_to_one")
    return both.assign(value=both["loss"] - both["dense"])[
        ["model", "calibration", "evaluation", "sparsity", "draw", "item", "value"]
    ]


def effort(arm: str) -> float:
    """The work of an arm in passes over the calibration text, with the solving after them.

    >>> effort("magnitude/uniform"), effort("ria/owl"), effort("optiprune-auto")
    (0.0, 1.5, 3.0)
    """
    method, allocation, *_ = [*arm.split("/"), "own"]
    repair = 1 if "+obs" in method else 0
    return EFFORT.get(method.removesuffix("+obs"), 2) + repair + (allocation not in ("uniform", "own")) / 2


def _percent(value: float) -> str:
    return f"{value:.0f} %" if abs(value) >= 10 else f"{value:.2g} %"


def _line(row: Mapping[str, object]) -> str:
    zeros = f"{row['sparsity']:.0%}" if row["pattern"] == "unstructured" else str(row["pattern"])
    others = ", ".join(f"`{arm}`" for arm in row["as_good"] if arm != row["take"]) or "none"
    loses = write_interval(row["loses"], row["low"], row["high"])
    worst = (
        f"`{row['worst']}` ({row['worst_loses']:+.2g})".replace("(-", "(−")
        if row["worst"] not in row["as_good"]
        else "none"
    )
    return f"| {zeros} | `{row['take']}` | {loses} | {_percent(row['percent'])} | {others} | {worst} |"
