"""A learning rate for every way to train, and a strength for its penalty, on text that no verdict is read on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.core.progress import progress
from labutils.models.loading import model_name
from labutils.recovery.descent import Diverged
from labutils.recovery.draws import Bench, Draw, Recipe, RecoverySizes, Way
from labutils.recovery.readings import Reading
from labutils.recovery.stages import PENALTY, parse_arm, way_of
from labutils.recovery.study import common_key, finished_arms, kept_arm, prunes
from labutils.stats.bootstrap import Interval

TUNING_DRAW = 10_000  # a draw of its own: no arm that is judged trains in its order
COLUMNS = ["model", "way", "sparsity", "rate", "strength", "loss", "seconds", "wall_seconds"]
LEAST = 3  # values that must have been tried around a choice


def try_rates(
    source: str,
    *,
    arms: Mapping[str, Sequence[float]],
    text: str,
    held_out: Reading,
    rates: Sequence[float],
    strengths: Sequence[float] = (1e-3,),
    n_more: int = 4,
    sizes: RecoverySizes = RecoverySizes(),  # noqa: B008 (frozen)
    loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase],
    folder: Path | None = None,
) -> pd.DataFrame:
    """The held-out loss of every way to train at every rate, at the very sparsity at which it will be read.

    >>> tried = try_rates("lab-llama", arms={"wanda → lora": [0.7]}, text="lab:review", held_out=held_out,
    ...     rates=[1e-3, 3e-3, 1e-2], loaded=(model, tokenizer))

    The lowest loss is chosen, the lower value among equals; a rate at which training diverges has none. Where the best
    value lies at an end of its grid, the grid goes on by the same factor, at most `n_more` times. A penalty has rates
    tried at every strength, both grids going on half as often. A single rate is taken untried.

    Args:
        arms: arm → sparsities; data named by "@" are left out, since the way to train is the same.
        held_out: what is read; see `held_out_reading`.
        strengths: of penalties.

    Returns:
        ``model, way, sparsity, rate, strength, loss, seconds, wall_seconds, chosen, settled``, a row per trial.
        `settled` tells of a way that at least three values were tried, and that the chosen one lies between others.

    Raises:
        ValueError: everything that was tried diverges, or no rate or strength is above 0.
    """
    if not rates or not strengths or min(*rates, *strengths) <= 0:
        raise ValueError(f"rates={list(rates)} and strengths={list(strengths)} must be above 0, one or more of each.")
    bench = Bench(*loaded, [held_out], text, sizes, {})
    draw, finished, common = Draw(bench, TUNING_DRAW), finished_arms(folder), common_key(bench)
    ways = dict.fromkeys((way_of(arm), each) for arm, own in arms.items() for each in (own if prunes(arm) else [0.0]))
    ways = [way for way in ways if any(stage.trains for stage in parse_arm(way[0]))]
    ways.sort(key=lambda way: (str(parse_arm(way[0])[0]), way[1]))
    found = []
    for way, sparsity in progress(ways, total=len(ways), description="try learning rates", unit="way"):

        def trial(recipe: Recipe, way: str = way, sparsity: float = sparsity) -> Outcome:
            try:
                rows = kept_arm(draw, finished, common, way, sparsity, recipe)
            except Diverged:
                return float("nan"), 0.0, 0.0
            return rows["loss"].mean(), rows["seconds"].iloc[0], rows["wall_seconds"].iloc[0]

        table = _try_way(trial, way, sorted(rates), sorted(strengths), n_more)
        found.append(table.assign(model=model_name(source), way=way, sparsity=sparsity))
    return pd.concat(found, ignore_index=True)[[*COLUMNS, "chosen", "settled"]]


Outcome = tuple[float, float, float]  # held-out loss, processor seconds, seconds by the clock
Trial = Callable[[Recipe], Outcome]


def _try_way(trial: Trial, way: str, rates: list[float], strengths: list[float], n_more: int) -> pd.DataFrame:
    """All trials of one way, the chosen one among them."""
    penalised = any(stage.kind == PENALTY for stage in parse_arm(way))
    if len(rates) == 1:
        alone = {"rate": rates[0], "strength": strengths[0] if penalised else 0.0, "loss": float("nan")}
        return pd.DataFrame([alone]).assign(seconds=0.0, wall_seconds=0.0, chosen=True, settled=False)
    known: dict[Recipe, Outcome] = {}
    if penalised:
        chosen, settled = _search_both(trial, known, rates, strengths, n_more // 2)
    else:
        chosen, settled = _search(Recipe, trial, known, rates, n_more)
    if not known[chosen][0] < float("inf"):
        tried = sorted({recipe.rate for recipe in known})
        raise ValueError(f"{way}: training diverges at every rate from {tried[0]:g} to {tried[-1]:g}; give lower ones.")
    rows = [
        {"rate": recipe.rate, "strength": recipe.strength, "loss": loss, "seconds": seconds, "wall_seconds": wall,
         "chosen": recipe == chosen}
        for recipe, (loss, seconds, wall) in known.items()
    ]  # fmt: skip
    return pd.DataFrame(rows).assign(settled=settled)


def _search_both(
    trial: Trial, known: dict[Recipe, Outcome], rates: list[float], strengths: list[float], n_more: int
) -> tuple[Recipe, bool]:
    """The best strength, each at the best of its own rates: a strong penalty wants another rate than a weak one."""
    at_strength: dict[Recipe, tuple[Recipe, bool]] = {}

    def best_rate(outer: Recipe) -> Outcome:
        found = _search(lambda rate: replace(outer, rate=rate), trial, known, rates, n_more)
        at_strength[outer] = found
        return known[found[0]]

    if len(strengths) == 1:
        return _search(lambda rate: Recipe(rate, strengths[0]), trial, known, rates, n_more)[0], False
    outer, settled = _search(lambda strength: Recipe(rates[0], strength), best_rate, {}, strengths, n_more)
    chosen, also = at_strength[outer]
    return chosen, settled and also


def _search(
    recipe_of: Callable[[float], Recipe], trial: Trial, known: dict[Recipe, Outcome], grid: list[float], n_more: int
) -> tuple[Recipe, bool]:
    """The best value of a grid that goes on while its best lies at an end; and whether others lie on both sides."""
    grid = list(grid)
    for more in range(n_more + 1):
        for value in grid:
            recipe = recipe_of(value)
            if recipe not in known:
                known[recipe] = trial(recipe)
        finite = {value: known[recipe_of(value)][0] for value in grid if known[recipe_of(value)][0] < float("inf")}
        best = min(finite, key=lambda value: (finite[value], value), default=grid[0])
        if grid[0] < best < grid[-1]:
            return recipe_of(best), len(grid) >= LEAST
        if more < n_more:
            grid = [grid[0] ** 2 / grid[1], *grid] if best == grid[0] else [*grid, grid[-1] ** 2 / grid[-2]]
    return recipe_of(best), False


def chosen_recipes(table: pd.DataFrame) -> dict[Way, Recipe]:
    """Way and sparsity → how it is trained, of one model.

    >>> chosen_recipes(tried)
    {('wanda → lora', 0.7): Recipe(rate=0.003, strength=0.0)}
    """
    best = table[table["chosen"]]
    return {(row.way, row.sparsity): Recipe(row.rate, row.strength) for row in best.itertuples()}


def if_settled(interval: Interval, tried: pd.DataFrame, arms: Sequence[str], sparsities: Sequence[float]) -> Interval:
    """The interval, if every way that it compares was trained at a rate found between others; else an undefined one.

    >>> if_settled(interval, tried, ["wanda → lora", "wanda → all"], [0.7])

    An effect of ways to train is one of rates where a rate was not tried or lies at an end of what was tried.

    Args:
        tried: of `try_rates`, of all models.
        arms: those compared; the ones that train nothing need no rate.

    Raises:
        LookupError: an arm that trains was not tried.
    """
    ways = {way_of(arm) for arm in arms if any(stage.trains for stage in parse_arm(arm))}
    if untried := ways - set(tried["way"]):
        raise LookupError(f"no rate was tried for {', '.join(sorted(untried))}; give these arms to try_rates.")
    own = tried[tried["chosen"] & tried["way"].isin(ways) & tried["sparsity"].isin([0.0, *sparsities])]
    loose = own[~own["settled"]]
    if loose.empty:
        return interval
    names = "; ".join(f"{row.way} at {row.sparsity:g} on {row.model}" for row in loose.itertuples())
    return Interval.undefined(f"the best rate or strength that was tried is not known to be the best: {names}")
