"""What others published for small models, with setting and caveat: numbers to hold one's own against.

The values stand in `data/published_values.yaml`; the page `docs/published_values.md` is made from it, and a stale page
fails a test.
"""

from pathlib import Path

import pandas as pd
import yaml

from labutils.core import paths
from labutils.core.options import suggest

VALUES = paths.DATA / "published_values.yaml"
PAGE = paths.REPOSITORY / "docs" / "published_values.md"
COLUMNS = ["model", "quantity", "pruning", "value", "sd", "n", "measured", "setting", "source", "caveat"]
NEEDED = {"model", "quantity", "pruning", "value", "setting", "source"}
HEAD = ["quantity", "pruning", "value", "measured here", "setting", "source", "caveat"]
INTRODUCTION = """# Published values

What others published for small models, to hold one's own numbers against. A number is worth what its setting says:
window length, calibration text, task template and even the version of the tokenizer move it. *Measured here* is this
project's number for the same, where model and data can be had without a hub; a test measures it anew. This page is made
from `data/published_values.yaml`; in Python the table is `lab.claims.published_values()`.
"""


def published_values(model: str | None = None, *, path: Path = VALUES) -> pd.DataFrame:
    """Values that others published, of one model (by its hub id) or of all.

    >>> published_values("facebook/opt-125m")[["pruning", "value", "setting"]]

    Returns:
        ``model, quantity, pruning, value, sd, n, measured, setting, source, caveat``; `sd` over the source's `n` seeds,
        `measured` what this project finds, all three NaN where there is none.

    Raises:
        LookupError: no value of that model.
        ValueError: an entry of the file lacks a field, has an unknown one, or names no setting or source of the file.
    """
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    rows = [_read_value(entry, content, path.name) for entry in content["values"]]
    table = pd.DataFrame(rows, columns=COLUMNS).astype({"value": float, "sd": float, "n": float, "measured": float})
    if model is None:
        return table
    known = list(table["model"].unique())
    if model not in known:
        raise LookupError(f"no published value of {model!r}.{suggest(model, known)} There are: {', '.join(known)}.")
    return table[table["model"] == model].reset_index(drop=True)


def published_page(path: Path = VALUES) -> str:
    """The page of all values: a table per model, and what its settings and sources mean.

    >>> print(published_page()[:20])
    """
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    lines = [INTRODUCTION]
    names = dict.fromkeys(entry["model"] for entry in content["values"])
    for model in names:
        lines += [f"## {model}\n", f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|"]
        lines += [_page_row(entry) for entry in content["values"] if entry["model"] == model]
        lines.append("")
    for title, key in (("Settings", "settings"), ("Sources", "sources")):
        lines += [f"## {title}\n", *(f"- **{name}**: {text}" for name, text in content[key].items()), ""]
    return "\n".join(lines)


def _page_row(entry: dict) -> str:
    spread = f" ± {entry['sd']:g} over {entry['n']} seeds" if "sd" in entry else ""
    here = f"{entry['measured']['value']:.4f}" if "measured" in entry else ""
    cells = [entry["quantity"], entry["pruning"], f"{entry['value']:g}{spread}", here, entry["setting"]]
    return "| " + " | ".join([*cells, entry["source"], entry.get("caveat", "")]) + " |"


def _read_value(entry: dict, content: dict, name: str) -> dict:
    unknown, missing = set(entry) - {*COLUMNS}, NEEDED - set(entry)
    if unknown or missing:
        raise ValueError(f"{name}: {entry} lacks {sorted(missing)} and has unknown {sorted(unknown)}")
    for field, group in (("setting", "settings"), ("source", "sources")):
        if entry[field] not in content[group]:
            raise ValueError(f"{name}: {field} {entry[field]!r} is not among its {group}")
    spelled = {"setting": content["settings"][entry["setting"]], "source": content["sources"][entry["source"]]}
    measured = entry.get("measured", {}).get("value")
    return {"caveat": ""} | entry | spelled | {"measured": measured}
