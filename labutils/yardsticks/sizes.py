"""How many bits an arm takes, which arms take equally many, and what the order of pruning and rounding changes."""

from collections.abc import Sequence
from itertools import product

import pandas as pd

from labutils.quantisation.accounting import bits_per_weight, sparsity_at_bits
from labutils.quantisation.block_formats import FORMATS
from labutils.quantisation.quantise import bits_of
from labutils.stats.tables import interval_table
from labutils.yardsticks.damage import DENSE, parse_arm
from labutils.yardsticks.knowledge import interval_of_models
from labutils.yardsticks.shares import lost_shares

DENSE_BITS = 16
MASK = "entropy"  # what no code can undercut: the comparison favours pruning


def equal_bits_arm(kind: str, method: str) -> str:
    """The pruning of 16-bit weights that takes as many bits per original weight as a kind of quantisation.

    >>> equal_bits_arm("Q4_0", "wanda")
    'wanda@0.7676'
    """
    return f"{method}@{sparsity_at_bits(bits_of(kind), DENSE_BITS, mask=MASK):.4f}"


def arm_bits(arm: str) -> float:
    """Bits per original weight of an arm: the survivors', scales included, and where they stand.

    >>> arm_bits("wanda@0.5"), arm_bits("Q4_0"), arm_bits("wanda@0.5+Q4_0")
    (9.0, 4.5, 3.25)

    Raises:
        ValueError: an arm that leaves out blocks.
    """
    sparsity, bits = 0.0, float(DENSE_BITS)
    for step in parse_arm(arm):
        if step.name == "blocks":
            raise ValueError(f"arm {arm!r} leaves out blocks; its size is no number of bits per weight")
        if step.prunes:
            sparsity = step.amount
        else:
            bits = bits_of(step.name)
    return bits_per_weight(sparsity, bits, mask=MASK)


def arm_way(arm: str) -> str:
    """What an arm does, without the amounts.

    >>> arm_way("rtn4+wanda@0.5"), arm_way("wanda@0.5"), arm_way("Q4_0")
    ('rounded, then pruned', 'pruned by wanda', 'rounded by GGUF')
    """
    steps = parse_arm(arm)
    if len(steps) == 1:
        step = steps[0]
        return f"pruned by {step.name}" if step.prunes else f"rounded by {'GGUF' if step.name in FORMATS else 'groups'}"
    return ", then ".join("pruned" if step.prunes else "rounded" for step in steps) or DENSE


def bits_table(questions: pd.DataFrame, arms: Sequence[str], yardsticks: Sequence[str]) -> pd.DataFrame:
    """What is left of each yardstick, and the bits: ``yardstick, arm, way, bits, estimate, low, high`` (per cent).

    >>> bits_table(frames["questions"], ["rtn4", "wanda@0.5", "wanda@0.5+rtn4"], ["choice", "answer"])
    """
    parts = []
    for yardstick in yardsticks:
        lost = lost_shares(questions, arms, yardstick=yardstick)
        table = interval_table(lost.assign(value=100 * (1 - lost["value"])), ["contrast"])
        parts.append(table.rename(columns={"contrast": "arm"}).assign(yardstick=yardstick))
    found = pd.concat(parts, ignore_index=True)
    return found.assign(bits=found["arm"].map(arm_bits), way=found["arm"].map(arm_way)).drop(columns="error")


def order_table(
    texts: pd.DataFrame, methods: str | Sequence[str], sparsities: Sequence[float], kinds: Sequence[str]
) -> pd.DataFrame:
    """Pruning first or rounding first? Paired losses of both orders, window by window and draw by draw.

    >>> order_table(frames["texts"], ["magnitude", "wanda"], [0.3, 0.5], ["Q4_0", "rtn3"])

    Of several models the intervals are over models (`interval_of_models`).

    Args:
        texts: rows of readings with the arms "wanda@0.3+rtn4", "rtn4+wanda@0.3", "wanda@0.3" and "rtn4".

    Returns:
        per method, sparsity and kind: ``pruning, rounding`` (nats per token that each adds alone), ``weaker`` (which
        adds less), ``estimate, low, high``: loss of rounding first − loss of pruning first (nats per token; above zero
        pruning first is better), ``better`` ("no difference" where the interval holds zero).
    """
    dense = texts.loc[texts["arm"] == DENSE, "loss"].mean()
    mean = texts.groupby("arm")["loss"].mean() - dense
    found = []
    for method, sparsity, kind in product([methods] if isinstance(methods, str) else methods, sparsities, kinds):
        arms = [f"{method}@{sparsity}+{kind}", f"{kind}+{method}@{sparsity}"]
        first, second = (texts[texts["arm"] == arm].set_index(["model", "draw", "item"])["loss"] for arm in arms)
        gain = interval_of_models((second - first).rename("value").reset_index())
        alone = {"pruning": mean[f"{method}@{sparsity}"], "rounding": mean[kind]}
        better = "pruning first" if gain.low > 0 else "rounding first" if gain.high < 0 else "no difference"
        about = {"method": method, "sparsity": sparsity, "kind": kind, **alone, "weaker": min(alone, key=alone.get)}
        found.append(about | {"estimate": gain.estimate, "low": gain.low, "high": gain.high, "better": better})
    return pd.DataFrame(found)
