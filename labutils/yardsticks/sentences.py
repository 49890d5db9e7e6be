"""What the tables of notebook 09 show, in one sentence each, computed from their rows."""

import math
from collections.abc import Sequence

import pandas as pd

from labutils.yardsticks.damage import DENSE
from labutils.yardsticks.predictors import PREDICTORS, predictor_gains


def tell_rise(texts: pd.DataFrame, arms: Sequence[str]) -> str:
    """By how much the loss and the perplexity of texts rise, as means over arms: a clause.

    >>> tell_rise(frames["texts"], ["wanda@0.5"])
    'the loss of texts rises by 3% (perplexity by 8%)'
    """
    losses = texts.groupby("arm")["loss"].mean()
    added = losses[list(arms)].mean() - losses[DENSE]
    return f"the loss of texts rises by {added / losses[DENSE]:.0%} (perplexity by {math.expm1(added):.0%})"


def tell_kept(shares: pd.DataFrame, arms: Sequence[str]) -> str:
    """What is lost by each yardstick, as means over arms: a list.

    >>> tell_kept(kept_shares(rows, {"wanda": ["wanda@0.5"]}, ["choice", "answer"]), ["wanda@0.5"])
    'choice 20%; answer 34%'
    """
    lost = shares[shares["contrast"].isin(list(arms))].groupby("yardstick", sort=False)["value"].mean()
    return "; ".join(f"{label} {share:.0%}" for label, share in lost.items()) or "nothing can be judged"


def tell_recognition(table: pd.DataFrame) -> str:
    """Of `recognition_table`: where more is chosen than luck would, and how near the lost answers are.

    >>> tell_recognition(recognition_table(rows, ["wanda@0.5"]))
    """
    if table.empty:
        return "No question is known both ways."
    unsaid = table["questions"] - table["both"] - table["said only"]
    near = (table["near"] * unsaid).sum() / max(unsaid.sum(), 1)
    clear = int((table["p_holm"] < 0.05).sum())
    chosen, luck = int(table["chosen only"].sum()), float(table["luck"].sum())
    beyond = f", or {(chosen - luck) / (unsaid.sum() - luck):.0%} beyond luck" if unsaid.sum() > luck else ""
    return (
        f"Of {int(unsaid.sum())} answers no longer said, {chosen} are still chosen, where guessing would choose "
        f"{luck:.0f}{beyond}; in {clear} of {len(table)} rows that is more than luck (exact, after Holm). Of the "
        f"answers no longer said, {near:.0%} still have their first token among the five likeliest."
    )


def tell_orders(table: pd.DataFrame) -> str:
    """Of `order_table`: which order is better, and whether 'the weaker first' foretells it.

    >>> tell_orders(order_table(texts, "wanda", [0.3], ["rtn4"]))
    """
    if table.empty:
        return "No orders were compared."
    counts = {name: int((table["better"] == name).sum()) for name in ("pruning first", "rounding first")}
    clear = table[table["better"] != "no difference"]
    right = int((clear["weaker"] + " first" == clear["better"]).sum())
    return (
        f"Pruning first is better in {counts['pruning first']} of {len(table)} cases and rounding first in "
        f"{counts['rounding first']}; 'the weaker first' is right in {right} of {len(clear)} clear cases."
    )


def tell_blocks(table: pd.DataFrame, n_blocks: int) -> str:
    """Of `block_table`: how many blocks may go, one after another, without a loss of more than one point.

    >>> tell_blocks(block_table(rows, texts, {1: "blocks@1"}, ["choice"]), 6)
    """
    chosen = table[table["yardstick"] == "choice"].sort_values("blocks left out")
    if chosen.empty:
        return "Choices cannot be judged here."
    within = chosen.loc[(chosen["low"] >= -0.01).cummin(), "blocks left out"]  # up to the first that costs more
    first = chosen.iloc[0]
    loss = f"; without {first['blocks left out']} the loss rises by {first['rise of the loss']:.0%}"
    return f"Blocks that may surely go within a point of accuracy: {max(within, default=0)} of {n_blocks}{loss}."


def tell_words(table: pd.DataFrame) -> str:
    """Of `word_losses`: what the rarest and the most frequent tokens lose, as means over arms and models.

    >>> tell_words(word_losses(words, ["wanda@0.5"]))
    """
    means = table.groupby("bin")[["estimate", "relative"]].mean()
    rare, common = means.iloc[0], means.iloc[-1]
    return (
        f"the rarest part loses {rare['estimate']:.2f} nats per token ({rare['relative']:.0%} of its dense loss), the "
        f"most frequent {common['estimate']:.2f} ({common['relative']:.0%})."
    )


def tell_lengths(table: pd.DataFrame) -> str:
    """Of `length_changes`: the arms that clearly say more, or repeat themselves more.

    >>> tell_lengths(length_changes(openings, ["wanda@0.5"]))
    """
    said = []
    for measure, part in table.groupby("measure", sort=False):
        more, less = int((part["low"] > 0).sum()), int((part["high"] < 0).sum())
        said.append(f"{measure}: clearly more in {more}, clearly fewer in {less} of {len(part)} arms")
    by_chance = 0.025 * table.groupby("measure").size().max()
    return f"Continuations of openings, {'; '.join(said)}; by chance {by_chance:.1f} of each are expected."


def tell_predictors(errors: pd.DataFrame) -> str:
    """Of `predictor_errors`: each predictor's mean error, and the best one's gain over the loss, its choice paid for.

    >>> tell_predictors(predictor_errors(table))
    """
    mean = errors.groupby("predictor")["error"].mean().sort_values()
    listed = "; ".join(f"{name} {value:.2f}" for name, value in mean.items())
    best = mean.index[0]
    if best == "added loss":
        return f"Mean error in shares of what was known: {listed}. The added loss is the best."
    if best not in PREDICTORS:
        return f"Mean error in shares of what was known: {listed}. None is better than to say the mean of the others."
    gain = predictor_gains(errors, "added loss")[best]
    clear = "" if gain.low > 0 else ", which may be nothing"
    return (
        f"Mean error in shares of what was known: {listed}. Best is {best}, by {gain:+.3f} over the added loss{clear}."
    )
