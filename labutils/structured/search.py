"""Take units out one by one, each time the one whose loss hurts least: SLEB over blocks, BlockPruner over sublayers.

SLEB (Song et al., ICML 2024) tries every block that is left, removes the one without which the loss is lowest, and
tries again on what remains; BlockPruner (Zhong et al., Findings of ACL 2025) does so over attention and feed-forward
sublayers. A naive search runs the whole model for every candidate. Here the states in front of a candidate are those of
the model so far, computed once for all, so that a candidate costs only the blocks behind it; and a candidate that
clearly trails is not read on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from labutils.core.progress import progress
from labutils.structured.paths import Paths, Unit

BEFORE_RACING = 16  # sequences that every candidate is read on: a standard error of fewer is too often too small


@dataclass(frozen=True)
class Search:
    """What a search found.

    Attributes:
        removed: in the order in which they went.
        history: one row per candidate and step: step, block, part, loss (mean over the sequences it was read on;
            infinite where it is not finite), sequences, removed.
        block_runs, head_runs: of this search, in runs on the whole calibration.
        naive_block_runs, naive_head_runs: of one that runs the whole model for every candidate.
    """

    removed: tuple[Unit, ...]
    history: pd.DataFrame
    block_runs: float
    head_runs: float
    naive_block_runs: float
    naive_head_runs: float


def greedy_search(
    paths: Paths,
    units: Sequence[Unit],
    may_go: Callable[[tuple[Unit, ...], Unit], bool],
    *,
    spare_ends: bool = False,
    race: float | int = 5.0,
    steps: int | None = None,
) -> Search:
    """Remove units as long as one may go, each time the one whose absence gives the lowest loss.

    >>> greedy_search(paths, [(block, "block") for block in range(12)], lambda removed, unit: len(removed) < 3).removed

    Args:
        units: candidates; of equal losses the one that comes first goes.
        may_go: whether a unit may follow those that are gone; the search ends when none may.
        spare_ends: the first and the last unit that are left are no candidates (SLEB's barriers).
        race: a candidate is not read on when, after at least 16 sequences, its loss exceeds the leader's by more than
            so many standard errors of their paired difference, and the last one that is left is not either; 0 reads
            every candidate on every sequence.
        steps: how many units will go, where that is known: progress then tells the time left.

    Raises:
        ValueError: units may go, and all that are left are spared; a race below zero; a calibration without a token to
            predict; or no candidate whose loss is finite.
    """
    check_race(race)
    removed: tuple[Unit, ...] = ()
    rows, naive_blocks, naive_heads, n_blocks = [], 0, 0, len(paths.walk.blocks)
    before = paths.block_runs, paths.head_runs
    for step in progress(iter(range(len(units))), total=steps, description="search", unit="unit"):
        alive = [unit for unit in units if unit not in removed]
        wanted = [unit for unit in alive if may_go(removed, unit)]
        if not wanted:
            break
        candidates = [unit for unit in wanted if not spare_ends or unit in alive[1:-1]]
        if not candidates or len(alive) == 1:
            raise ValueError(f"after {step} of {len(units)} units none is left that may go; ask for fewer.")
        losses, racing = _read(paths, candidates, removed, race)
        means = {unit: _mean(values) for unit, values in losses.items()}
        best = min(racing, key=means.__getitem__)  # of equal ones the first
        if means[best] == float("inf"):
            raise ValueError(
                f"step {step + 1}: no candidate has a finite loss on the calibration, so none can be chosen. Load the "
                "model in float32, or give another calibration."
            )
        for unit in candidates:
            rows.append((step, *unit, means[unit], len(losses[unit]), unit == best))
            gone = {block for block, part in (*removed, unit) if part == "block"}
            naive_blocks += n_blocks - len(gone)
        naive_heads += len(candidates)
        removed = (*removed, best)
    history = pd.DataFrame(rows, columns=["step", "block", "part", "loss", "sequences", "removed"])
    n = paths.n_batches
    blocks, heads = paths.block_runs - before[0], paths.head_runs - before[1]
    return Search(removed, history, blocks / n, heads / n, float(naive_blocks), float(naive_heads))


def check_race(race: float | int) -> None:
    """ValueError unless it is a number of standard errors, 0 or more."""
    if isinstance(race, bool) or not isinstance(race, int | float) or not 0 <= race < float("inf"):
        raise ValueError(f"race={race!r} must be 0 (read every candidate on every sequence) or a number above it.")


def _read(
    paths: Paths, candidates: Sequence[Unit], removed: tuple[Unit, ...], race: float
) -> tuple[dict[Unit, Tensor], list[Unit]]:
    """The losses of each candidate by sequence, until it was given up; and those that were not."""
    losses = {unit: torch.empty(0, dtype=torch.float64) for unit in candidates}
    racing = list(candidates)
    for batch in range(paths.n_batches):
        for unit, values in _read_batch(paths, batch, racing, removed).items():
            losses[unit] = torch.cat([losses[unit], values])
        if race and batch + 1 < paths.n_batches:
            racing = _still_racing(losses, racing, race)
            if len(racing) == 1 and len(candidates) > 1:
                break
    if not any(map(len, losses.values())):
        raise ValueError("no sequence of the calibration has a token to predict: each has one token, or padding only.")
    return losses, racing


def _read_batch(paths: Paths, batch: int, candidates: Sequence[Unit], removed: tuple[Unit, ...]) -> dict[Unit, Tensor]:
    """One batch: the states in front of each candidate are handed on from one to the next."""
    off = {unit: (batch, frozenset((*removed, unit))) for unit in candidates}
    unread, hidden = [unit for unit in candidates if off[unit] not in paths.known], paths.walk.hidden[batch]
    last = max((block for block, _ in unread), default=-1)
    for index in progress(range(last + 1), description="candidates", unit="block"):
        for unit in [unit for unit in unread if unit[0] == index]:
            paths.known[off[unit]] = paths.losses(index, batch, hidden, (*removed, unit))
        if index < last:
            hidden = paths.step(index, batch, hidden, removed)
    return {unit: paths.known[off[unit]] for unit in candidates}


def _still_racing(losses: dict[Unit, Tensor], racing: list[Unit], race: float) -> list[Unit]:
    leader = min(racing, key=lambda unit: _mean(losses[unit]))
    return [unit for unit in racing if unit == leader or not _trails(losses[unit], losses[leader], race)]


def _trails(values: Tensor, leading: Tensor, race: float) -> bool:
    """Whether a mean lies above another by more than `race` standard errors of the paired difference."""
    if len(values) < BEFORE_RACING:
        return False
    if not values.isfinite().all():
        return bool(leading.isfinite().all())
    difference = values - leading
    return bool(difference.mean() > race * difference.std() / len(difference) ** 0.5)


def _mean(values: Tensor) -> float:
    """Infinite where a loss is not finite: a broken candidate is the worst one, and none is passed over."""
    return values.mean().item() if values.isfinite().all() else float("inf")
