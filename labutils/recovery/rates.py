"""A learning rate for every way to train, chosen on text that no verdict is read on."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.data.corpora import load_tokens
from labutils.evaluation.losses import TEXT_UNIT
from labutils.models.loading import model_name
from labutils.recovery.readings import Reading
from labutils.recovery.stages import parse_arm
from labutils.recovery.study import RecoverySizes, recovery_sweep

TUNING_DRAW = 10_000  # no arm that is judged sees its sequences
HELD_OUT_SEED = 20_000_000


def try_rates(
    source: str,
    *,
    arms: Sequence[str],
    sparsity: float,
    text: str,
    rates: Sequence[float],
    n_items: int,
    sizes: RecoverySizes = RecoverySizes(),  # noqa: B008 (frozen)
    loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase],
    folder: Path | None = None,
) -> pd.DataFrame:
    """The held-out loss of every training stage at every rate: ``model, stage, rate, loss, chosen``.

    >>> tried = try_rates("lab-llama", arms=["wanda → lora"], sparsity=0.7, text="lab:review", rates=[1e-3, 3e-3],
    ...     n_items=32, loaded=(model, tokenizer))

    A rate that makes the loss diverge has none. The lowest loss is chosen, the lower rate among equals; the sequences
    are those of the train split, of a draw of their own. A single rate is taken untried.

    Args:
        arms: of each kind of training the first arm stands for all; data named by "@" are left out.

    Raises:
        ValueError: all rates of a stage diverge.
    """
    first: dict[str, str] = {}
    for arm in arms:
        for stage in parse_arm(arm):
            if stage.rated:
                first.setdefault(stage.rated, arm.replace(f"@{stage.data}", ""))
    if len(rates) == 1:
        alone = [
            {"model": model_name(source), "stage": stage, "rate": rates[0], "loss": float("nan")} for stage in first
        ]
        return pd.DataFrame(alone).assign(chosen=True)
    tokens = load_tokens(text, loaded[1], n_sequences=n_items, seq_len=sizes.seq_len, seed=HELD_OUT_SEED)
    about = {"readings": [Reading("held out", TEXT_UNIT, tokens)], "sizes": sizes, "loaded": loaded, "folder": folder}
    rows = []
    for stage, arm in first.items():
        others = dict.fromkeys(first, min(rates))
        for rate in rates:
            try:
                found = recovery_sweep(
                    source, arms=[arm], sparsities=[sparsity], draws=[TUNING_DRAW], text=text,
                    rates={**others, stage: rate}, **about,
                )  # fmt: skip
                loss = found.loc[found["method"] != "dense", "loss"].mean()
            except ValueError as diverged:
                if "lower the learning rate" not in str(diverged):
                    raise
                loss = float("nan")
            rows.append({"model": model_name(source), "stage": stage, "rate": rate, "loss": loss})
    table = pd.DataFrame(rows)
    if (lost := table.groupby("stage")["loss"].count() == 0).any():
        raise ValueError(
            f"{', '.join(lost[lost].index)}: the loss diverges at every rate of {list(rates)}; give lower ones."
        )
    best = table.sort_values(["loss", "rate"]).drop_duplicates("stage")
    return table.assign(chosen=table.index.isin(best.index))


def chosen_rates(table: pd.DataFrame) -> dict[str, float]:
    """Stage → its chosen rate, of one model.

    >>> chosen_rates(tried)
    {'lora': 0.001}
    """
    best = table[table["chosen"]]
    return dict(zip(best["stage"], best["rate"], strict=True))
