"""What the tables of a recovery study say, in sentences; every number comes from the table."""

import pandas as pd

from labutils.stats.bootstrap import write_interval


def tell_ways(table: pd.DataFrame) -> str:
    """Every way's mean share, the seconds that one waits and those of the processor, and the fastest to one half.

    >>> tell_ways(recovered_shares(rows, pairs).assign(way="lora"))
    'lora brings back 43% in 12 seconds (11 of the processor). No way brings half of it back.'

    Args:
        table: of `recovered_shares`, with a column `way`.
    """
    columns = ["estimate", "wall_seconds", "seconds"]
    found = table.dropna(subset=["estimate"]).groupby("way", sort=False)[columns].mean()
    if found.empty:
        return "Pruning lost nothing clear that could come back."
    each = [
        f"{row.Index} brings back {_share(row.estimate)} in {_time(row.wall_seconds)} seconds ({_time(row.seconds)} of "
        "the processor)"
        for row in found.itertuples()
    ]
    half = found[found["estimate"] > 0.5].sort_values("wall_seconds")
    last = f"The fastest to one half is {half.index[0]}." if len(half) else "No way brings half of it back."
    return f"{'; '.join(each)}. {last}"


def _time(seconds: float) -> str:
    return f"{seconds:.1f}" if seconds < 9.95 else f"{seconds:.0f}"


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
    """How many choices of a rate are settled, which are not, and what the trials took.

    >>> tell_rates(try_rates("lab-llama", arms={"wanda → lora": [0.7]}, **given))
    """
    chosen = tried[tried["chosen"]]
    loose = chosen[~chosen["settled"]]
    names = [f"{row.way} at {row.sparsity:g} on {row.model}" for row in loose.itertuples()]
    told = f"{len(chosen) - len(loose)} of {len(chosen)} choices lie between values that do worse; "
    listed = "; ".join(names) if len(loose) < len(chosen) else "all of them"
    told += f"not known to be the best: {listed or 'none'}."
    per_choice = tried["wall_seconds"].sum() / len(chosen)
    return f"{told} Finding one took {per_choice:.0f} seconds ({len(tried) / len(chosen):.1f} trainings) on average."
