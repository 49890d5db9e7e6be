"""Is the second model really worse? Paired differences of two per-item logs, with what they could have shown."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import t

from labutils.core import paths
from labutils.logs.figures import comparison_dots
from labutils.logs.harness_files import LIKELIHOODS, read_harness_log
from labutils.logs.own_tables import read_own_table
from labutils.logs.pairing import SERIES, pair_logs, select_rows
from labutils.stats.bootstrap import holm, p_value, write_interval
from labutils.stats.paired_outcomes import mcnemar, score_interval, smallest_visible_share
from labutils.stats.unit_means import weighted_mean_interval

Log = str | Path | pd.DataFrame
POWER = 0.8


@dataclass(frozen=True)
class LogComparison:
    """Two logs compared; `print` it for sentences.

    Attributes:
        table: a row per task, filter and metric: ``items, a, b`` (means), ``difference`` = b − a with ``low, high``;
            ``lost, won`` (items that only A, only B has right), ``p`` and ``p_holm``, ``mid_p``, ``smallest_visible``.
            NaN are the ends and ``smallest_visible`` where all items differ alike: nothing tells what others would do.
        items: both values, ``a`` and ``b``, of every item.
        level: of the intervals.
        unchecked: what could not be compared, or not be checked, in sentences.
    """

    table: pd.DataFrame
    items: pd.DataFrame
    level: float
    unchecked: tuple[str, ...] = ()

    def figure(self, title: str = "B against A, item by item") -> Figure:
        """Differences with their intervals, beside what could have been seen."""
        return comparison_dots(self.table, title=title, level=self.level)

    def __str__(self) -> str:
        return "\n".join([*(_sentence(row, self.level) for row in self.table.itertuples()), *self.unchecked])


def compare_logs(
    a: Log,
    b: Log,
    *,
    tasks: Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
    cluster: str | None = None,
    only_shared: bool = False,
    other_prompts: bool = False,
    level: float = 0.95,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> LogComparison:
    """Compare what two models answered to the same items, from their logs alone.

        print(lab.compare_logs("results/dense", "results/pruned"))

    A standard error of each model by itself, as harnesses print it, is too wide for two models on the same items, whose
    luck they share; here items are paired. Of metrics that are 0 or 1 the interval is Tango's score interval and p
    McNemar's exact test; of others, both are of the bootstrap over items. With `cluster` all are of the bootstrap over
    clusters. Where all items differ alike there is nothing to resample, and p is that of their signs, 2^(1 − n).
    `p_holm` corrects for all rows of the table (Holm 1979). `smallest_visible` is the difference that such data show
    four times in five: what is smaller may be there unseen.

    Args:
        a, b: what lm-evaluation-harness wrote with `--log_samples`: a folder or a `samples_….jsonl`; or a table of this
            collection (`score_task`, `score_items`, one arm of a `task_sweep`), as a frame, `.parquet` or `.csv`.
        tasks, metrics: what to compare; without them both logs must have the same, and all are. Perplexities are
            compared as log-likelihoods per word or byte (nats).
        cluster: of a document's keys, or a table's columns, the one that says which items belong together (a passage).
        only_shared: leave out items that only one log has, instead of refusing.
        other_prompts: compare although the models were asked in different words.

    Raises:
        LookupError: no log there, or a task or metric that one of them lacks.
        ValueError: logs of different items or prompts, items that stand there twice, damaged lines, or only one item.
    """
    if not 0 < level < 1:
        raise ValueError(f"level={level} must lie between 0 and 1")
    read = [_read(log, metrics, cluster) for log in (a, b)]
    logs = [select_rows(log, name, tasks, metrics) for log, name in zip(read, "AB", strict=True)]
    pairs = pair_logs(*logs, only_shared=only_shared, other_prompts=other_prompts)
    options = {"level": level, "n_resamples": n_resamples, "seed": seed, "unit": cluster or "item"}
    rows = [
        {**dict(zip(SERIES, key, strict=True)), **_compare(part, cluster is not None, options)}
        for key, part in pairs.groupby(SERIES, sort=False)
    ]
    table = pd.DataFrame(rows).astype({"lost": float, "won": float})
    table["p_holm"] = holm(table["p"])
    return LogComparison(table, pairs, level, tuple(_unchecked(read, tasks, metrics)))


def _unchecked(read: list[pd.DataFrame], tasks: Sequence[str] | None, metrics: Sequence[str] | None) -> Iterator[str]:
    """What a reader would otherwise take for compared, or for checked."""
    others = dict.fromkeys(pair for log in read for pair in log.attrs["not numbers"])
    named = [f"{task} {metric}" for task, metric in others if not metrics and (not tasks or task in tasks)]
    if named:
        yield f"Not compared, for their items have no single number: {', '.join(named)}."
    if any(log.attrs.get("items told by id alone") for log in read):
        yield (
            "That both tables are of the same items could not be checked: beside ids they tell nothing of an item. "
            "Keep its prompt or gold in the table."
        )


def _read(log: Log, metrics: Sequence[str] | None, cluster: str | None) -> pd.DataFrame:
    if isinstance(log, pd.DataFrame):
        return read_own_table(log, metrics=metrics, cluster=cluster)
    place = paths.expand(log)
    if not place.exists():
        raise LookupError(f"there is no {place}: give a folder or a file that lm_eval wrote, or a table")
    if place.suffix in (".parquet", ".csv"):
        return read_own_table(place, metrics=metrics, cluster=cluster)
    return read_harness_log(place, cluster=cluster)


def _compare(part: pd.DataFrame, clustered: bool, options: dict) -> dict[str, object]:
    """One row of the table, but for the correction."""
    first, second, weights = (part[name].to_numpy(dtype=float) for name in ("a", "b", "weight"))
    if len(part) < 2:
        raise ValueError(f"{part['task'].iloc[0]}: one item alone has no interval; evaluate more")
    means = {"items": len(part), "a": np.average(first, weights=weights), "b": np.average(second, weights=weights)}
    found: dict[str, object] = {**means, "difference": means["b"] - means["a"]}
    binary = bool(np.isin(np.concatenate([first, second]), (0.0, 1.0)).all())
    flips = {"lost": int((first > second).sum()), "won": int((second > first).sum())} if binary else {}
    if binary and not clustered:
        test = mcnemar(**flips)
        low, high = score_interval(len(part), **flips, level=options["level"])
        visible = smallest_visible_share(len(part), sum(flips.values()), level=options["level"], power=POWER)
        told = {"low": low, "high": high, **flips, "p": test.exact, "mid_p": test.mid}
        return found | told | {"smallest_visible": visible}
    interval = weighted_mean_interval(second - first, weights, part["unit"].tolist(), **options)
    freedom = interval.n_items - 1
    quantiles = t.ppf((1 + options["level"]) / 2, freedom) + t.ppf(POWER, freedom)
    # The resamples have Student's tails, so their quartiles tell the standard error better than their variance does.
    error = float(np.subtract(*np.quantile(interval.samples, (0.75, 0.25))) / (2 * t.ppf(0.75, freedom)))
    p, low, high = p_value(interval.samples), interval.low, interval.high
    if np.ptp(second - first) <= 1e-12 * max(1.0, np.abs(second - first).max()):  # no spread to resample
        p, low, high, error = 1.0 if not found["difference"] else 2.0**-freedom, np.nan, np.nan, np.nan
    ends = {"low": low, "high": high, "lost": flips.get("lost"), "won": flips.get("won")}
    return found | {**ends, "p": p, "mid_p": np.nan, "smallest_visible": quantiles * error}


def _sentence(row: object, level: float) -> str:
    name = f"{row.task} {row.metric}" + ("" if row.filter == "none" else f" ({row.filter})")
    name += " as log-likelihood in nats" if row.metric in LIKELIHOODS else ""
    flips = "" if pd.isna(row.lost) else f"; A alone is right on {row.lost:.0f} items, B alone on {row.won:.0f}"
    seen = "too few items to show any difference"
    ends = f"{row.difference:+.3f}".replace("-", "−") if row.difference else "0.000"
    if not pd.isna(row.smallest_visible):
        seen = f"differences below {row.smallest_visible:.3f} would mostly go unseen"
    if pd.isna(row.low):
        seen = "all items differ alike, so that nothing tells what would go unseen"
    else:
        ends = write_interval(row.difference, row.low, row.high, "+.3f")
    verdict = f"B is {'higher' if row.difference > 0 else 'lower'}"
    if row.p > 1 - level:
        verdict = "no difference is seen"
    elif row.p_holm > 1 - level:
        verdict += ", but not after the correction"
    return (
        f"{name}, {row.items} items: {row.a:.3f} → {row.b:.3f}, "
        f"{ends}{flips}; "
        f"p = {row.p:.2g}, corrected {row.p_holm:.2g}: {verdict}; {seen}."
    )
