"""Sequences for a study of recoveries: other calibrations than the text, and a pool of data to choose from."""

from collections.abc import Sequence

from jaxtyping import Int64
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from labutils.recovery.own_text import join_prompts
from labutils.sweeps.calibration_sets import load_calibration


def load_recovery_sets(
    text: str,
    other: str,
    tokenizer: PreTrainedTokenizerBase,
    *,
    n_draws: int,
    n_sequences: int,
    seq_len: int,
    prompt_len: int,
) -> dict[str, list[Int64[Tensor, "n seq_len"]]]:
    """Calibration sequences at equal tokens: "prompts" of the text alone, the "other" text, and "random" tokens.

    >>> sizes = {"n_draws": 2, "n_sequences": 24, "seq_len": 128, "prompt_len": 32}
    >>> load_recovery_sets("lab:review", "lab:biomedical", tokenizer, **sizes)

    Raises:
        ValueError: prompts that do not fill whole windows, and as the loaders.
    """
    draws = range(n_draws)
    few = {"n_sequences": n_sequences, "seq_len": seq_len}
    many = {"n_sequences": n_sequences * max(1, seq_len // prompt_len), "seq_len": seq_len}
    windows = [load_calibration(text, tokenizer, **many, seed=draw) for draw in draws]
    return {
        "prompts": [join_prompts(each, prompt_len) for each in windows],
        "other": [load_calibration(other, tokenizer, **few, seed=draw) for draw in draws],
        "random": [load_calibration("random", tokenizer, **few, seed=draw) for draw in draws],
    }


def load_pool(
    sources: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    n_draws: int,
    n_sequences: int,
    seq_len: int,
    behind: int = 0,
) -> dict[str, list[Int64[Tensor, "n seq_len"]]]:
    """A pool in equal parts: source → its sequences in every draw; sources as for `load_calibration`.

    >>> load_pool(["lab:review", "random"], tokenizer, n_draws=2, n_sequences=256, seq_len=128, behind=24)

    Args:
        behind: so many sequences of every source are passed over in each draw. Those are what the same draw of a sweep
            calibrates on, which the pool then does not hold, also of a text that is finite.
    """
    count = max(1, n_sequences // max(1, len(sources)))
    size = {"n_sequences": behind + count, "seq_len": seq_len}
    return {
        name: [load_calibration(name, tokenizer, **size, seed=draw)[behind:] for draw in range(n_draws)]
        for name in sources
    }
