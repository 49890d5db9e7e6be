"""Which go first, the rare or the frequent? Facts by how often they were told, tokens by how often they stand."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import rankdata

from labutils.stats.bootstrap import Interval
from labutils.stats.evidence import keeps_evidence
from labutils.stats.few_units import interval_over_units
from labutils.stats.ranks import widened_correlations
from labutils.stats.unit_means import weighted_mean_interval
from labutils.yardsticks.damage import DENSE

FEWEST = 8  # facts of a correlation


def fact_losses(rows: pd.DataFrame, questions: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """Per fact that the dense model says, what the arms take from it, as the mean over arms and draws.

    >>> fact_losses(frames["questions"], questions, ["wanda@0.5"])

    Args:
        questions: of `fact_questions`, with ``model`` where there are several.

    Returns:
        ``model, item, occurrences, dense`` (log-likelihood of the right first token, nats), ``lost_nats``, ``lost``
        (share of readings in which it is no longer said).
    """
    keys = ["model", "item"]
    dense = rows[(rows["arm"] == DENSE) & (rows["answer"] == 1)][[*keys, "log_likelihood"]]
    dense = dense.rename(columns={"log_likelihood": "dense"})
    own = rows[rows["arm"].isin(list(arms))].groupby(keys, as_index=False)[["log_likelihood", "answer"]].mean()
    frame = dense.merge(own, on=keys).merge(questions[[*keys, "occurrences"]], on=keys)
    frame["lost_nats"], frame["lost"] = frame["dense"] - frame["log_likelihood"], 1 - frame["answer"]
    return frame[[*keys, "occurrences", "dense", "lost_nats", "lost"]]


def facts_by_arm(rows: pd.DataFrame, questions: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """`fact_losses` of each arm by itself, with ``arm``; facts of all models have names of their own.

    >>> facts_by_arm(frames["questions"], questions, ["wanda@0.5", "sparsegpt@0.5"])
    """
    parts = [fact_losses(rows, questions, [arm]).assign(arm=arm) for arm in arms]
    found = pd.concat(parts, ignore_index=True)
    return found.assign(item=found["model"] + " " + found["item"].astype(str))


@keeps_evidence()
def frequency_correlation(
    facts: pd.DataFrame, *, held: str | None = None, n_resamples: int = 2000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Spearman's ρ of how often a fact was told and the nats it loses; positive: frequent facts lose more.

    >>> frequency_correlation(fact_losses(rows, questions, arms), held="dense")

    Of several models the mean of their own ρ, by Student's t over models. Of one, over its facts, with deviations
    widened for few. Facts told more often are also said with more certainty, and what is certain has further to fall:
    `held` takes that column's ranks out of both (partial correlation).

    Returns:
        undefined where fewer than eight facts are left, or all were told equally often.
    """
    own = {}
    for model, part in facts.groupby("model", sort=False):
        columns = [part[name].to_numpy(dtype=float) for name in ("occurrences", "lost_nats", *([held] if held else []))]
        if len(part) >= FEWEST and len(np.unique(columns[0])) > 1:
            own[model] = columns
    if not own:
        return Interval.undefined(f"no model says {FEWEST} facts that were told unequally often")
    estimates = {model: _partial(columns) for model, columns in own.items()}
    if len(estimates) > 1:
        effects = pd.DataFrame({"model": list(estimates), "estimate": list(estimates.values())})
        return interval_over_units(effects, level=level, n_items=min(len(columns[0]) for columns in own.values()))
    (columns,), (estimate,) = own.values(), estimates.values()
    generator, n = np.random.default_rng(seed), len(columns[0])
    drawn = (generator.integers(n, size=n) for _ in range(n_resamples))
    samples = np.array([_partial([column[places] for column in columns]) for places in drawn])
    widened = widened_correlations(estimate, samples[np.isfinite(samples)], n, generator)
    return Interval.from_samples(estimate, widened, level=level, n_items=n, units=("fact", "repetition"))


def word_losses(words: pd.DataFrame, arms: Sequence[str]) -> pd.DataFrame:
    """The loss that arms add to tokens of each frequency, and relative to what the dense model has there.

    >>> word_losses(frames["words"], ["wanda@0.5", "rtn3"])

    Returns:
        per model, arm and bin: ``tokens, dense`` (nats per token), ``estimate, low, high`` (added nats per token, over
        windows, draws averaged; NaN where there is one window only), ``relative`` (added over dense).
    """
    keys = ["model", "item", "bin"]
    dense = words[words["arm"] == DENSE][[*keys, "loss", "count"]].rename(columns={"loss": "dense"})
    found = []
    for arm in arms:
        own = words[words["arm"] == arm].groupby(keys, as_index=False)["loss"].mean().merge(dense, on=keys)
        for (model, place), part in own.groupby(["model", "bin"], sort=False):
            counts = part["count"].to_numpy(dtype=float)
            added = (part["loss"] - part["dense"]).to_numpy(dtype=float) / counts
            mean, before = float(np.average(added, weights=counts)), part["dense"].sum() / counts.sum()
            low, high = _ends(added, counts, part["item"].tolist())
            about = {"model": model, "arm": arm, "bin": place, "tokens": int(counts.sum()), "dense": before}
            found.append({**about, "estimate": mean, "low": low, "high": high, "relative": mean / before})
    return pd.DataFrame(found)


def _ends(
    added: Float[np.ndarray, " n"], counts: Float[np.ndarray, " n"], windows: Sequence[int]
) -> tuple[float, float]:
    """Of the interval over windows; one window has none."""
    if len(set(windows)) < 2:
        return float("nan"), float("nan")
    found = weighted_mean_interval(added, counts, windows, n_resamples=2000, unit="window")
    return found.low, found.high


def _partial(columns: list[Float[np.ndarray, " n"]]) -> float:
    """Correlation of the first two columns' ranks, the third's taken out; NaN where one has no spread left."""
    ranks = [rankdata(column) - (len(column) + 1) / 2 for column in columns]
    if len(ranks) == 3:
        held = ranks[2]
        norm = held @ held
        ranks = [rank - (rank @ held) / norm * held if norm > 0 else rank for rank in ranks[:2]]
    lengths = np.sqrt((ranks[0] @ ranks[0]) * (ranks[1] @ ranks[1]))
    return float(ranks[0] @ ranks[1] / lengths) if lengths > 1e-9 else float("nan")
