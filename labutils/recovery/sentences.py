"""What the tables of a recovery study say, in sentences; every number comes from the table."""

import pandas as pd

from labutils.stats.bootstrap import write_interval


def tell_ways(table: pd.DataFrame) -> str:
    """Every way's mean share and seconds, and the fastest to one half.

    >>> tell_ways(recovered_shares(rows, pairs).assign(way="lora"))
    'lora brings back 43% in 12 seconds. No way brings half of it back.'

    Args:
        table: of `recovered_shares`, with a column `way`.
    """
    found = table.dropna(subset=["estimate"]).groupby("way", sort=False)[["estimate", "seconds"]].mean()
    if found.empty:
        return "Pruning lost nothing clear that could come back."
    each = [
        f"{row.Index} brings back {_share(row.estimate)} in {row.seconds:.0f} seconds" for row in found.itertuples()
    ]
    half = found[found["estimate"] > 0.5].sort_values("seconds")
    last = f"The fastest to one half is {half.index[0]}." if len(half) else "No way brings half of it back."
    return f"{'; '.join(each)}. {last}"


def _share(value: float) -> str:
    """As per cent, with a true minus sign and no negative zero."""
    return format(round(value, 2) + 0.0, ".0%").replace("-", "−")


def tell_cells(table: pd.DataFrame, what: str) -> str:
    """Each row's estimate with its interval as per cent: "blocks → lora on lab-llama 83% [80%, 86%]".

    >>> tell_cells(recovered_shares(rows, pairs), "arm")
    """
    known = table.dropna(subset=["estimate"]).itertuples()
    told = [
        f"{getattr(row, what)} on {row.model} {write_interval(row.estimate, row.low, row.high, '.0%')}" for row in known
    ]
    return "; ".join(told) or "nothing clear was lost"


def tell_rates(tried: pd.DataFrame) -> str:
    """Which choices of a learning rate lie at an end of the grid, where a wider one might have found a better.

    >>> tell_rates(try_rates("lab-llama", arms=["wanda → lora"], **given))
    """
    if tried["rate"].nunique() < 2 or tried["loss"].isna().all():
        return "One rate was given, so none was tried."
    ends = tried["rate"].min(), tried["rate"].max()
    chosen = tried[tried["chosen"]]
    edge = [f"{row.stage} on {row.model}" for row in chosen[chosen["rate"].isin(ends)].itertuples()]
    return f"{len(edge)} of {len(chosen)} choices lie at an end of the grid: {', '.join(edge) or 'none'}."
