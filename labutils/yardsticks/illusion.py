"""Recognised but no longer said: answers that a model still chooses when shown, and does not give when asked."""

from collections.abc import Sequence

import pandas as pd

from labutils.stats.bootstrap import holm
from labutils.stats.paired_outcomes import mcnemar
from labutils.yardsticks.damage import DENSE

NEAR = 5  # ranks: an answer among the five likeliest first tokens is demoted, not gone


def recognition_table(rows: pd.DataFrame, arms: Sequence[str], *, draw: int = 0) -> pd.DataFrame:
    """Of the questions that the dense model gets right both ways, how each arm gets them, in one calibration draw.

    >>> recognition_table(frames["questions"], ["wanda@0.5"])[["arm", "chosen only", "said only", "p"]]

    Source of the question: 'benchmark illusion' (2606.17609). A guess among k choices is right once in k, one in free
    text hardly ever, so that some questions are chosen only by luck: ``luck`` is the number to expect if all that is no
    longer said were guessed. `p` is McNemar's, of "chosen only" against "said only"; several draws answer the same
    questions and are not pooled.

    Returns:
        per model and arm: ``questions, both, chosen only, said only, neither, luck, p, p_holm``; ``near`` is the share
        of the no longer said whose right first token is still among the five likeliest, ``rank`` its median rank.
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
            more = {"luck": float(lost["chance"].sum()), "p": mcnemar(counts["chosen only"], counts["said only"]).exact}
            gone = {"near": float((lost["rank"] <= NEAR).mean()), "rank": float(lost["rank"].median())}
            found.append({"model": model, "arm": arm, **counts, **more, **gone})
    table = pd.DataFrame(found)
    return table.assign(p_holm=holm(table["p"])) if len(table) else table
