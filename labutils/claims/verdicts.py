"""A verdict: what one study says about one claim, as a row of the ledger and as a sentence."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from labutils.claims.outcomes import NEGLIGIBLE
from labutils.stats.bootstrap import write_interval
from labutils.stats.evidence import Evidence

UNITS = ("item_unit", "draw_unit")
# Beside its name in a sentence, what an outcome means.
MEANINGS = {
    "contradicted": ", that is, not transferred to this model,",
    NEGLIGIBLE: " (an effect, but too small to matter)",
}


@dataclass(frozen=True)
class Judged:
    """From what a verdict was found: the rows of its interval, and what else `judge` was given."""

    evidence: Evidence
    options: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one study says about one claim, and on what it was found (`scope`: model, corpus, grid, parameters ...).

    `n_items` and `n_draws` say how many of `item_unit` and `draw_unit` the interval was found over; what was not
    repeated has None. `p_value` is two-sided, against the values that the outcome excludes (`outcomes.boundaries`).
    `outcome` may be weaker than `first_outcome` once `labutils.claims.ledger.correct` has adjusted for the other tests
    of the ledger (`p_holm`). `judged` is what it was found from, where an interval keeps its rows; it is no part of a
    row.
    """

    claim: str
    statement: str
    outcome: str
    first_outcome: str
    scope: dict[str, str | int | float | bool]
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    level: float = 0.95
    unit: str = ""
    p_value: float | None = None
    p_holm: float | None = None
    margin: float | None = None
    n_items: int | None = None
    n_draws: int | None = None
    note: str = ""
    correction: str = ""
    item_unit: str = "item"
    draw_unit: str = "calibration draw"
    judged: Judged | None = field(default=None, repr=False, compare=False)

    def as_row(self) -> dict[str, Any]:
        """Flat dictionary that JSON can hold; the entries of `scope` become `scope_<name>`."""
        row = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in ("scope", "judged")}
        return row | {f"scope_{name}": value for name, value in self.scope.items()}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Verdict":
        """The inverse of `as_row`. Other columns are ignored.

        NaN, by which a DataFrame marks absence, becomes None; whole numbers of a scope, which a DataFrame with absent
        values holds as floats, are integers again. Units that a row does not name are items and calibration draws.
        """
        present = {name: _plain(value) for name, value in row.items()}
        scope = {
            name.removeprefix("scope_"): int(value) if isinstance(value, float) and value.is_integer() else value
            for name, value in present.items()
            if name.startswith("scope_") and value is not None
        }
        known = {one.name: present[one.name] for one in fields(cls) if one.name in present and one.name != "judged"}
        known = {name: value for name, value in known.items() if not (name in UNITS and value is None)}
        counts = {name: None if known.get(name) is None else int(known[name]) for name in ("n_items", "n_draws")}
        return cls(**(known | counts | {"scope": scope}))

    def effect(self) -> str:
        """The estimate with its unit and interval, to two significant digits of the interval's width."""
        if self.estimate is None:
            return "no estimate"
        return write_interval(self.estimate, self.low, self.high, unit=self.unit)

    def sentence(self) -> str:
        """One sentence for a reader: the outcome, where, the effect with its interval, and what limits it."""
        where = ", ".join(str(self.scope[name]) for name in ("model", "corpus") if name in self.scope)
        remarks = " ".join(f"{remark[0].upper()}{remark[1:]}." for remark in (self.note, self.correction) if remark)
        if self.estimate is None:
            return f"{self.claim} {self.outcome} ({where}). {remarks}".strip()
        outcome = self.outcome + MEANINGS.get(self.outcome, "")
        return f"{self.claim} {outcome} on {where}: {self.evidence()}. {remarks}".strip()

    def evidence(self) -> str:
        """The effect with its interval, and how many of what it was found over; of a verdict that has an estimate."""
        counted = [(self.item_unit, self.n_items), (self.draw_unit, self.n_draws)]
        basis = " and ".join(
            f"{count} {unit if count == 1 else plural(unit)}" for unit, count in counted if count is not None
        )
        return f"{self.effect()}, {self.level:.0%} interval over {basis}"


def plural(unit: str) -> str:
    """Several of a unit: "draw of random neurons" → draws of random neurons."""
    head, of, rest = unit.partition(" of ")
    return f"{head}s{of}{rest}"


def _plain(value: Any) -> Any:
    """A value of a DataFrame as JSON would give it: Python's own number types, None for NaN."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and value != value else value
