"""The page that says which method to use: a choice by script, and the same answers as plain tables without."""

import html
import math
from collections.abc import Sequence

from sitegen.text import raw_html
from sitegen.which_data import BUDGETS, SIZES, Advice

HEAD = """# Which method shall I use?

The *least costly* method whose loss is shown to be no worse than that of the best one by more than 1 % of the dense
loss (95 % intervals over items and calibration draws). Every answer is computed from stored rows; where nothing like
your model was measured, the page says so. Models were calibrated on {tokens}; with fewer or more we have no rows.
"""
NONE = """A model that is unlike these may answer otherwise. Two commands tell it for yours; the first, what it takes:

```sh
python -m labutils run 02_pruning_strategy --profile lab --out results/mine -p 'model=/path/to/model' --forecast
python -m labutils run 02_pruning_strategy --profile lab --out results/mine -p 'model=/path/to/model'
```
"""
KINDS = {"llama": "Llama and its kin", "gpt2": "GPT-2", "opt": "OPT"}
UNMEASURED = ("sentence encoder", "mixture of experts", "another decoder")
COLUMNS = ("zeros", "work", "take", "it loses (nats per token)", "of the dense loss", "as good", "avoid", "took")


def write_which(found: Sequence[Advice], tokens: str) -> str:
    """The page, as Markdown.

    Args:
        found: of `which_data.collect`.
        tokens: on how many tokens the models were calibrated, in words.
    """
    models = list(dict.fromkeys((one.model, one.study) for one in found))
    tables = [
        _table(model, study, [o for o in found if (o.model, o.study) == (model, study)]) for model, study in models
    ]
    answer = '<div id="method-answer" role="status" aria-live="polite" hidden></div>'
    return "\n".join([
        HEAD.format(tokens=tokens), raw_html(_form(found), answer), NONE, "## All answers\n", raw_html(*tables),
    ])  # fmt: skip


def _form(found: Sequence[Advice]) -> str:
    zeros = sorted({one.zeros for one in found}, key=lambda text: (":" in text, text))
    kinds = {KINDS.get(one.architecture, one.architecture) for one in found}
    return "\n".join([
        '<form class="filters" id="method-form" hidden aria-label="your model">',
        _select("zeros", "Zeros", zeros, "50%"),
        _select("kind", "Kind of model", [*sorted(kinds), *UNMEASURED], KINDS["llama"]),
        _select("size", "Parameters", list(SIZES), "10 to 500 million"),
        _select("budget", "What it may cost", list(BUDGETS), "several prunings"),
        "</form>",
    ])  # fmt: skip


def _select(name: str, title: str, values: Sequence[str], chosen: str) -> str:
    options = "".join(
        f"<option{' selected' if value == chosen else ''}>{html.escape(value)}</option>" for value in values
    )
    return f'<label>{title} <select name="{name}">{options}</select></label>'


def _table(model: str, study: str, found: Sequence[Advice]) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in COLUMNS)
    about = f"{model} ({found[0].size or 'size not told'}), read on {found[0].text}, from the rows of {study}"
    rows = "".join(map(_row, found))
    return (
        f'<details class="answers"><summary>{html.escape(about)}</summary>'
        f'<div class="table-frame" tabindex="0" role="region" aria-label="{html.escape(about)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></details>"
    )


def _row(one: Advice) -> str:
    row = one.row
    others = ", ".join(arm for arm in row["as_good"] if arm != row["take"]) or "none"
    avoid = "none" if row["worst"] in row["as_good"] else f"{row['worst']} ({row['worst_loses']:+.2g})"
    loses = f"{row['loses']:.2g} [{row['low']:.2g}, {row['high']:.2g}]".replace("-", "−")
    took = "" if math.isnan(one.seconds) else write_seconds(one.seconds)
    cells = [one.zeros, one.budget, row["take"], loses, f"{row['percent']:.2g} %", others, avoid, took]
    told = f"{one.sentence()} There it took {took}." if took else one.sentence()
    about = {
        "kind": KINDS.get(one.architecture, one.architecture), "size": one.size, "zeros": one.zeros,
        "budget": one.budget, "told": told, "study": one.study,
    }  # fmt: skip
    data = " ".join(f'data-{name}="{html.escape(value)}"' for name, value in about.items())
    return f"<tr {data}>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>"


def write_seconds(seconds: float) -> str:
    """A time for a reader.

    >>> write_seconds(0.28), write_seconds(36.2), write_seconds(234)
    ('0.28 s', '36 s', '3.9 min')
    """
    if seconds >= 90:
        return f"{seconds / 60:.2g} min"
    return f"{seconds:.2g} s"
