"""Bits of arms, arms of equal bits, and the table of orders."""

import numpy as np
import pandas as pd
import pytest
from made_rows import alternating, question_rows

from labutils.yardsticks.sizes import arm_bits, arm_way, bits_table, equal_bits_arm, order_table


def test_bits_are_those_of_survivors_and_of_where_they_stand() -> None:
    assert arm_bits("dense") == 16 and arm_bits("wanda@0.5") == 9
    assert arm_bits("Q4_0") == 4.5 and arm_bits("rtn4") == 4.625
    assert arm_bits("wanda@0.5+Q4_0") == arm_bits("Q4_0+wanda@0.5") == 0.5 * 4.5 + 1
    with pytest.raises(ValueError, match="no number of bits"):
        arm_bits("blocks@1")


@pytest.mark.parametrize("kind", ["rtn8", "rtn4", "rtn3", "rtn2", "Q8_0", "Q4_0"])
def test_the_arm_of_equal_bits_has_them(kind: str) -> None:
    assert arm_bits(equal_bits_arm(kind, "sparsegpt")) == pytest.approx(arm_bits(kind), abs=1e-3)


def test_ways_are_named_in_their_order() -> None:
    ways = {"dense": "dense", "rtn4": "rounded by groups", "Q4_0": "rounded by GGUF", "wanda/2:4": "pruned by wanda"}
    ways["wanda@0.5+rtn4"] = "pruned, then rounded"
    assert {arm: arm_way(arm) for arm in ways} == ways
    assert arm_way("Q4_0+wanda@0.5") == "rounded, then pruned"


def test_what_is_left_stands_beside_the_bits() -> None:
    rows = question_rows({"dense": {"answer": [1.0] * 40}, "rtn4": {"answer": alternating(40, 4)}})
    table = bits_table(rows, ["rtn4"], ["answer"])
    assert table["estimate"].tolist() == [75.0] and table["bits"].tolist() == [4.625]
    assert (table["low"] < 75).all() and (table["high"] > 75).all()


def test_orders_are_paired_and_the_weaker_step_is_named() -> None:
    base = np.linspace(1, 2, 12)
    added = {
        "dense": 0.0, "wanda@0.3": 0.1, "wanda@0.7": 2.0, "rtn4": 0.5,
        "wanda@0.3+rtn4": 0.6, "rtn4+wanda@0.3": 0.7, "wanda@0.7+rtn4": 2.6, "rtn4+wanda@0.7": 2.4,
    }  # fmt: skip
    noise = np.random.default_rng(0).normal(scale=0.01, size=12)
    parts = [
        pd.DataFrame({"item": range(12), "loss": base + value + (noise if "+" in arm else 0)}).assign(
            arm=arm, draw=draw
        )
        for arm, value in added.items()
        for draw in ([-1] if arm == "dense" else [0, 1])
    ]
    for part in parts:  # the noise of the two orders must not cancel
        part["loss"] += 0.01 * np.sin(part.index * (1 + len(part["arm"].iloc[0])))
    table = order_table(pd.concat(parts).assign(model="m"), "wanda", [0.3, 0.7], ["rtn4"]).set_index("sparsity")
    assert table["method"].tolist() == ["wanda", "wanda"]
    assert table["weaker"].tolist() == ["pruning", "rounding"]
    assert table.loc[0.3, "estimate"] == pytest.approx(0.1, abs=0.02) and table.loc[0.3, "better"] == "pruning first"
    assert table.loc[0.7, "estimate"] == pytest.approx(-0.2, abs=0.02) and table.loc[0.7, "better"] == "rounding first"
