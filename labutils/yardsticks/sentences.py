"""What the tables of notebook 09 show, in one sentence each, computed from their rows."""

import math
from collections.abc import Sequence

import pandas as pd

from labutils.yardsticks.damage import DENSE
from labutils.yardsticks.predictors import predictor_gain


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
    """Of `recognition_table`: where McNemar tells choosing from saying, and how near the lost answers are.

    >>> tell_recognition(recognition_table(rows, ["wanda@0.5"]))
    """
    if table.empty:
        return "No question is known both ways."
    unsaid = table["questions"] - table["both"] - table["said only"]
    near = (table["near"] * unsaid).sum() / max(unsaid.sum(), 1)
    clear = table[(table["p_holm"] < 0.05) & (table["chosen only"] > table["said only"])]
    beyond = int(table["chosen only"].sum()), float(table["luck"].sum())
    return (
        f"Chosen but not said are {beyond[0]} of {int(table['questions'].sum())} readings, where luck alone would "
        f"leave {beyond[1]:.0f}; McNemar, after Holm, finds more of them than of the reverse in {len(clear)} of "
        f"{len(table)} rows. Of the answers no longer said, {near:.0%} still have their first token among the five "
        "likeliest."
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
    """Of `block_table`: how many blocks may go without a loss of more than one point.

    >>> tell_blocks(block_table(rows, texts, {1: "blocks@1"}, ["choice"]), 6)
    """
    chosen = table[table["yardstick"] == "choice"]
    within = [n for n, low in zip(chosen["blocks left out"], chosen["low"], strict=True) if low >= -0.01]
    first = table.iloc[0] if len(table) else None
    loss = (
        ""
        if first is None
        else f"; without {first['blocks left out']} the loss rises by {first['rise of the loss']:.0%}"
    )
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
    return f"Continuations of openings, {'; '.join(said)}."


def tell_predictors(errors: pd.DataFrame) -> str:
    """Of `predictor_errors`: each predictor's mean error, and the best one's gain over the loss.

    >>> tell_predictors(predictor_errors(table))
    """
    mean = errors.groupby("predictor")["error"].mean().sort_values()
    listed = "; ".join(f"{name} {value:.2f}" for name, value in mean.items())
    best = mean.index[0]
    if best == "added loss":
        return f"Mean error in shares of what was known: {listed}. The added loss is the best."
    gain = predictor_gain(errors, "added loss", best)
    clear = "" if gain.low > 0 else ", which may be nothing"
    return (
        f"Mean error in shares of what was known: {listed}. Best is {best}, by {gain:+.3f} over the added loss{clear}."
    )
