"""The registry of claims (data/claims.yaml) and the verdict that paired differences give on one of them."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from labutils.claims.outcomes import KINDS, NEGLIGIBLE, boundaries, decide, region
from labutils.claims.verdicts import Judged, Verdict
from labutils.core.options import suggest
from labutils.core.paths import DATA
from labutils.core.yaml_text import parse_yaml
from labutils.stats.bootstrap import UNITS, Interval, Statistic, crossed_bootstrap, p_value

REGISTRY = DATA / "claims.yaml"
PER_SPARSITY = "relative to dense loss, per unit of sparsity"
RELATIVE = ("relative to dense loss", PER_SPARSITY)
MARGIN_UNITS = {
    "relative to dense loss": "nats", PER_SPARSITY: "nats per unit of sparsity", "nats": "nats", "accuracy": "accuracy",
    "log ratio": "log ratio",
}  # fmt: skip
NEEDS = "SGHTQX"


class Margin(NamedTuple):
    """The difference below which two things count as equal, fixed before any run."""

    value: float
    unit: str


class Guard(NamedTuple):
    """Interval of the dense model's accuracy, and the accuracy of guessing: at chance nothing can be lost."""

    low: float
    high: float
    chance: float


@dataclass(frozen=True)
class Claim:
    """One row of the registry; the header of data/claims.yaml explains the fields."""

    id: str
    source: str
    statement: str
    quantity: str
    kind: str
    margin: Margin | None
    type: str | None
    needs: tuple[str, ...]
    studied_in: str | None
    also: str = ""
    short: str = ""
    exploratory: bool = False
    same_fact_as: str | None = None

    def region(self, margin: float | None) -> tuple[float, float]:
        """Where the judged quantity lies if the claim holds, for a margin in the quantity's own unit."""
        return region(self.kind, margin)

    @property
    def name(self) -> str:
        """The claim in few words, for figures and lists; its statement where there are none."""
        return self.short or self.statement.rstrip(".")

    @property
    def aside(self) -> str:
        """Why the claim is no test of its own, so that it is neither corrected for nor counted; "" where it is one."""
        if self.exploratory:
            return "exploratory: set up after a look at results, so neither corrected nor counted"
        return f"the same fact as {self.same_fact_as}: neither corrected nor counted" if self.same_fact_as else ""


def load_claims() -> pd.DataFrame:
    """The registry as a table, one row per claim in the order of the file; the margin becomes two columns.

    >>> load_claims()[["id", "statement", "margin_value"]]
    """
    rows = []
    for one in all_claims():
        margin = one.margin or (None, None)
        row = asdict(one) | {"needs": " ".join(one.needs), "margin_value": margin[0], "margin_unit": margin[1]}
        rows.append({name: value for name, value in row.items() if name != "margin"})
    return pd.DataFrame(rows)


def all_claims() -> list[Claim]:
    """The claims of the registry in the order of the file.

    >>> [one.id for one in all_claims() if one.studied_in == "01_layerwise_sparsity"]
    """
    return list(_registry()[0].values())


def claim(claim_id: str) -> Claim:
    """One claim of the registry; an unknown id is a LookupError that names the nearest.

    >>> claim("C14").margin.value
    """
    claims = _registry()[0]
    if claim_id not in claims:
        hint = f"{suggest(claim_id.upper(), claims)} Ids run from {min(claims)} to {max(claims)}."
        raise LookupError(f"no claim {claim_id!r} in {REGISTRY.name}.{hint}")
    return claims[claim_id]


def tensions() -> list[tuple[list[list[str]], str]]:
    """Claims that pull against each other: (sides, question), a side listing claim ids or names of other work."""
    return [(entry["pair"], entry["question"]) for entry in _registry()[1]]


def judge(
    claim_id: str,
    differences: pd.DataFrame | None = None,
    *,
    interval: Interval | None = None,
    dense_loss: float | None = None,
    scope: Mapping[str, Any],
    statistic: str | Statistic = "mean",
    guard: Guard | None = None,
    unit: str | None = None,
    level: float = 0.95,
    seed: int = 0,
    units: tuple[str, str] = UNITS,
) -> Verdict:
    """Verdict on a claim from paired differences signed as its `quantity` says, or from an interval already computed.

    >>> gain = lab.contrast_interval(lab.contrast(rows, {"owl": ("ria/uniform", "ria/owl")}))
    >>> judge("C02", interval=gain, dense_loss=lab.sweeps.dense_loss(rows), scope={"model": "lab-llama"})

    `scope` says on what it was found (at least `model`); `unit` is that of the differences, `units` names what was
    resampled. With a `guard` whose interval includes chance, an interval that the rows leave undefined, or one that has
    no width and is not at zero, the verdict is "not testable here". Margins relative to the dense loss need
    `dense_loss`. The claim is supported when the whole interval lies in the region where it holds, contradicted when
    wholly outside, and else inconclusive; within the margin around zero, an effect on the side that the claim denies is
    "real, negligible", and a claim of a positive effect whose interval holds zero is "equivalent". Because these rules
    read a two-sided interval at `level`, equivalence is tested at (1 - level)/2 on each side, more strictly than by two
    one-sided tests at 1 - level.
    """
    judged = claim(claim_id)
    if guard is not None and guard.low <= guard.chance:
        found = f"accuracy [{guard.low:.3f}, {guard.high:.3f}] against {guard.chance:.3f} for guessing"
        return not_testable(claim_id, f"the dense model is at chance and has nothing to lose: {found}", scope=scope)
    if (differences is None) == (interval is None):
        raise ValueError(f"judge {claim_id} needs either `differences` or `interval`, not both or neither")
    if interval is None:
        interval = crossed_bootstrap(differences, statistic, level=level, seed=seed, units=units)
    if not interval.defined:
        return not_testable(claim_id, interval.note, scope=scope)
    for name in ("estimate", "low", "high"):
        if not isfinite(getattr(interval, name)):
            raise ValueError(f"judge {claim_id}: the {name} of the interval is {getattr(interval, name)}")
    if interval.low == interval.high != 0:  # two arms that agree exactly differ by 0 without any doubt
        found = f"every resample gives {interval.estimate:+.3g}: nothing varied, or the measure is at its limit"
        return not_testable(
            claim_id, f"an interval of width zero says nothing of what is not seen ({found})", scope=scope
        )
    margin = _margin_in_unit(judged, dense_loss)
    outcome = decide(judged.kind, interval.low, interval.high, margin)
    remark = _remark_on_size(judged, interval, margin, outcome)
    return Verdict(
        claim=judged.id,
        statement=judged.statement,
        outcome=outcome,
        first_outcome=outcome,
        scope=_plain_scope(scope),
        estimate=interval.estimate,
        low=interval.low,
        high=interval.high,
        level=interval.level,
        unit=unit or (MARGIN_UNITS[judged.margin.unit] if judged.margin else ""),
        p_value=p_value(interval.samples, boundaries(judged.kind, outcome, margin)),
        margin=margin,
        n_items=interval.n_items,
        n_draws=interval.n_draws,
        note="; ".join(filter(None, [remark, interval.note])),
        item_unit=interval.units[0],
        draw_unit=interval.units[1],
        judged=interval.evidence
        and Judged(interval.evidence, {"dense_loss": dense_loss, "guard": guard, "unit": unit}),
    )


def not_testable(claim_id: str, reason: str, *, scope: Mapping[str, Any]) -> Verdict:
    """The verdict "not testable here", for a model at chance, of another architecture, or otherwise unable to tell.

    >>> not_testable("C07", "the dense model is at chance on every data set", scope={"model": "lab-llama"})
    """
    judged = claim(claim_id)
    outcome = "not testable here"
    return Verdict(
        claim=judged.id,
        statement=judged.statement,
        outcome=outcome,
        first_outcome=outcome,
        scope=_plain_scope(scope),
        note=reason,
    )


def read_registry(path: Path) -> tuple[dict[str, Claim], list[dict[str, Any]]]:
    """Claims by id, and tensions, of a registry file; ValueError names the entry that breaks its rules."""
    content = parse_yaml(path.read_text(encoding="utf-8"), name=path.name)
    claims = {name: _read_claim(name, entry) for name, entry in content["claims"].items()}
    for one in claims.values():
        if one.same_fact_as and (one.same_fact_as not in claims or claims[one.same_fact_as].aside or one.exploratory):
            raise ValueError(
                f"claim {one.id}: same_fact_as is {one.same_fact_as}, but names a claim of the file that is neither "
                "exploratory nor said to be another's fact, and stands in a claim that is not exploratory"
            )
    for entry in content["tensions"]:
        unknown = [name for side in entry["pair"] for name in side if _is_id(name) and name not in claims]
        if set(entry) != {"pair", "question"} or len(entry["pair"]) < 2 or unknown:
            raise ValueError(f"{path.name}: tension {entry} needs a question and two sides of known claims")
    return claims, content["tensions"]


@cache
def _registry() -> tuple[dict[str, Claim], list[dict[str, Any]]]:
    return read_registry(REGISTRY)


def _is_id(name: str) -> bool:
    return re.fullmatch(r"[CR]\d\d", name) is not None


def _read_claim(name: str, entry: dict[str, Any]) -> Claim:
    try:
        margin = None if entry["margin"] is None else Margin(**entry["margin"])
        one = Claim(**(entry | {"id": name, "margin": margin, "needs": tuple(entry["needs"])}))
    except (TypeError, KeyError) as error:
        raise ValueError(f"claim {name}: a field is missing or unknown: {error}") from error
    checks = {
        "the id is a letter C or R and two digits": _is_id(name),
        f"the kind is one of {', '.join(KINDS)}": one.kind in KINDS,
        f"the kind {one.kind} needs a margin": one.kind == "positive" or margin is not None,
        "a margin is positive": margin is None or margin.value > 0,
        f"a margin's unit is one of {', '.join(MARGIN_UNITS)}": margin is None or margin.unit in MARGIN_UNITS,
        "the type is D, O or null": one.type in ("D", "O", None),
        f"needs are letters of {NEEDS}": len(one.needs) > 0 and set(one.needs) <= set(NEEDS),
        "exploratory is true or false": isinstance(one.exploratory, bool),
        "same_fact_as is an id or null": one.same_fact_as is None or isinstance(one.same_fact_as, str),
        "source, statement and quantity are texts": all([one.source, one.statement, one.quantity]),
    }
    for rule, holds in checks.items():
        if not holds:
            raise ValueError(f"claim {name}: {rule}")
    return one


def _margin_in_unit(judged: Claim, dense_loss: float | None) -> float | None:
    """The margin in the unit of the judged quantity."""
    if judged.margin is None or judged.margin.unit not in RELATIVE:
        return judged.margin and float(judged.margin.value)
    if dense_loss is None or not isfinite(dense_loss) or dense_loss <= 0:
        share = f"{judged.margin.value:.0%} of the dense model's mean loss"
        raise ValueError(f"judge {judged.id}: the margin is {share}; pass that loss as dense_loss, not {dense_loss}")
    return float(judged.margin.value * dense_loss)


def _remark_on_size(judged: Claim, interval: Interval, margin: float | None, outcome: str) -> str:
    """What a clear effect within the margin means for the claim; of other effects nothing."""
    clear = interval.low > 0 or interval.high < 0
    if margin is None or not clear or interval.low < -margin or interval.high > margin:
        return ""
    if outcome != NEGLIGIBLE:
        return f"statistically clear, practically negligible: the whole interval lies within ±{margin:.2g}"
    side = "in the direction of the claim" if judged.kind == "positive" and interval.low > 0 else "against the claim"
    return f"an effect {side}, too small to matter: the whole interval lies within ±{margin:.2g}"


def _plain_scope(scope: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
    """The scope with single values only: lists become text, absent entries are left out."""
    if "model" not in scope:
        raise ValueError(f"a verdict's scope must name the model it was found on, got {dict(scope)}")
    plain = {}
    for name, value in scope.items():
        value = value.item() if hasattr(value, "item") else value
        if value is not None:
            plain[name] = value if isinstance(value, str | int | float | bool) else ", ".join(map(str, value))
    return plain
