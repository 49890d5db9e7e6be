"""Recognised but no longer said: answers that a model still chooses when shown, and does not give when asked."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from labutils.stats.bootstrap import holm
from labutils.yardsticks.damage import DENSE

NEAR = 5  # ranks: an answer among the five likeliest first tokens is demoted, not gone


def recognition_table(rows: pd.DataFrame, arms: Sequence[str], *, draw: int = 0) -> pd.DataFrame:
    """Of the questions that the dense model gets right both ways, how each arm gets them, in one calibration draw.

    >>> recognition_table(frames["questions"], ["wanda@0.5"])[["arm", "chosen only", "luck", "p"]]

    Source of the question: 'benchmark illusion' (2606.17609). A guess among k choices is right once in k, one in free
    text hardly ever, so that of all that is no longer said some is chosen by luck. `luck` is their expected number, and
    `p` the exact chance that luck alone chooses at least so many (binomial; Poisson binomial where the numbers of
    choices differ). A test of "chosen only" against "said only" would find an illusion in a model that knows nothing.
    Several draws answer the same questions and are not pooled.

    Returns:
        per model and arm: ``questions, both, chosen only, said only, neither, luck, p, p_holm``; ``recognised`` is the
        share of the no longer said that is chosen beyond luck, (chosen − luck) / (all − luck); ``near`` is the share of
        them whose right first token is still among the five likeliest, ``rank`` its median rank. NaN where all is said.
    """
    found = []
    for model, part in rows.groupby("model", sort=False):
        dense = part[part["arm"] == DENSE]
        known = dense.loc[(dense["choice"] == 1) & (dense["answer"] == 1), "item"]
        wanted = part[(part["draw"] == draw) & part["item"].isin(known) & part["arm"].isin(list(arms))]
        for arm, own in wanted.groupby("arm", sort=False):
            chosen, said = own["choice"] == 1, own["answer"] == 1
            counts = {
                "questions": len(own), "both": int((chosen & said).sum()), "chosen only": int((chosen & ~said).sum()),
                "said only": int((~chosen & said).sum()), "neither": int((~chosen & ~said).sum()),
            }  # fmt: skip
            lost = own[~said]
            luck = float(lost["chance"].sum())
            beyond = (counts["chosen only"] - luck) / (len(lost) - luck) if len(lost) > luck else float("nan")
            p = chance_of_guessing(counts["chosen only"], lost["chance"].to_numpy(dtype=float))
            gone = {"near": float((lost["rank"] <= NEAR).mean()), "rank": float(lost["rank"].median())}
            found.append({"model": model, "arm": arm, **counts, "luck": luck, "p": p, "recognised": beyond, **gone})
    table = pd.DataFrame(found)
    return table.assign(p_holm=holm(table["p"])) if len(table) else table


def chance_of_guessing(right: int, chances: Float[np.ndarray, " questions"]) -> float:
    """The probability that guesses, each right with its own chance, are right at least so often.

    >>> chance_of_guessing(2, np.array([0.25, 0.25]))
    0.0625

    Exact: the Poisson binomial distribution, convolved question by question.
    """
    counts = np.ones(1)  # probability of 0, 1, 2, … right guesses
    for chance in chances:
        counts = np.convolve(counts, (1 - chance, chance))
    return float(min(1.0, counts[right:].sum()))
