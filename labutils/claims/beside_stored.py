"""A run beside the stored verdicts of the collection: the same outcomes, others, or too small a run to tell."""

from pathlib import Path

import pandas as pd

from labutils.claims.evidence import find_evidence, judge_again
from labutils.claims.ledger import reject_repeated
from labutils.claims.power import ENOUGH, power_of
from labutils.claims.verdicts import Verdict
from labutils.core import paths
from labutils.core.progress import progress

SAME, OTHER, TOO_SMALL = "the same", "another outcome", "too small a run to tell"
STORED = paths.DATA / "evidence"
COLUMNS = ["claim", "stored", "here", "power", "reading"]


def beside_stored(folder: str | Path, *, stored: str | Path = STORED) -> pd.DataFrame:
    """Every verdict of a run that the collection has too, each on its own, and how the two are to be read together.

        beside_stored("results/lab")

    Where the outcomes differ, smaller studies are drawn from the stored rows, each of the run's size and on settings
    that it shares (`power_of`): if fewer than four in five of them come to the stored outcome, the run is too small to
    tell, and its outcome speaks neither for nor against the stored one.

    Args:
        folder: a run's folder, whose verdicts keep their rows.
        stored: a folder of kept rows; those of the repository by default.

    Returns:
        ``claim``, the outcomes ``stored`` and ``here`` before any correction, the ``power`` (NaN where the outcomes
        agree or none can be computed), and the ``reading``. No rows where nothing is stored.

    Raises:
        LookupError: the run's folder holds no verdict with its rows.
        ValueError: a kept table was altered, or a folder has two verdicts on one claim.
    """
    if not find_evidence(paths.expand(folder)):
        raise LookupError(f"{folder} holds no verdict with its rows: run a study into this folder first")
    published, found = (_by_claim(paths.expand(place)) for place in (stored, folder))
    shared = [claim_id for claim_id in published if claim_id in found]
    rows = []
    for claim_id in progress(shared, description="beside the stored verdicts", unit="claim"):
        large, small = published[claim_id], found[claim_id]
        power, reading = _read(large, small)
        rows.append((claim_id, large.first_outcome, small.first_outcome, power, reading))
    return pd.DataFrame(rows, columns=COLUMNS)


def describe_beside(table: pd.DataFrame) -> str:
    """A sentence on `beside_stored`'s table.

    >>> describe_beside(beside_stored("results/lab"))
    'Of 13 verdicts that are stored too, 9 have the same outcome; too small a run to tell: C02, C07; …'
    """
    if table.empty:
        return "No verdict of this run is stored with its rows in the collection."
    readings = {name: part["claim"].tolist() for name, part in table.groupby("reading", sort=False)}
    same = len(readings.pop(SAME, []))
    told = [f"{reading}: {', '.join(claims)}" for reading, claims in readings.items()]
    return "; ".join([f"Of {len(table)} verdicts that are stored too, {same} have the same outcome", *told]) + "."


def _by_claim(folder: Path) -> dict[str, Verdict]:
    verdicts = [verdict for place in find_evidence(folder) for verdict in judge_again(place)]
    reject_repeated(verdicts, str(folder))
    return {verdict.claim: verdict for verdict in verdicts}


def _read(large: Verdict, small: Verdict) -> tuple[float, str]:
    if large.first_outcome == small.first_outcome:
        return float("nan"), SAME
    if large.judged is None or small.judged is None:
        return float("nan"), "no power known: not both were judged from rows"
    try:
        power = power_of(large, small)
    except ValueError as error:
        return float("nan"), f"no power known: {error}"
    return power, TOO_SMALL if power < ENOUGH else OTHER
