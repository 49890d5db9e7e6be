"""How much calibration text a comparison of two arms hangs on, in tokens per input of the widest layer.

A Hessian of d inputs is a mean over tokens; below about as many tokens as inputs it is singular, and with few tokens
per input a repair that follows it repairs the sample. Score-based methods need d norms from the same tokens, which are
known well from far fewer.
"""

import dataclasses
from collections.abc import Sequence

import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.models.structure import find_blocks, prunable_layers, weight_matrix
from labutils.stats.tables import interval_table
from labutils.sweeps.contrasts import contrast
from labutils.sweeps.losses import SweepSizes, sweep


def widest_input(model: PreTrainedModel) -> int:
    """The largest number of inputs that a pruned matrix of the model has.

    >>> widest_input(lab.load_model("lab-llama")[0])
    256
    """
    _, blocks = find_blocks(model)
    return max(weight_matrix(layer).shape[1] for block in blocks for layer in prunable_layers(block).values())


def calibration_size_sweep(
    source: str,
    texts: Sequence[str],
    *,
    arms: Sequence[str],
    sparsity: float,
    n_sequences: Sequence[int],
    sizes: SweepSizes,
    loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase],
    **options: object,
) -> pd.DataFrame:
    """A `sweep` at one sparsity for each number of calibration sequences.

    >>> calibration_size_sweep("lab-llama", ["lab:review"], arms=["ria/uniform", "sparsegpt/uniform"], sparsity=0.5,
    ...     n_sequences=[4, 96], sizes=SweepSizes(), loaded=lab.load_model("lab-llama"), n_draws=3)

    Returns:
        the rows of `sweep`, with `n_calibration` and `tokens_per_input`.
    """
    width = widest_input(loaded[0])
    asked = {"arms": arms, "sparsities": [sparsity], "loaded": loaded, **options}
    frames = [
        sweep(source, texts, sizes=dataclasses.replace(sizes, n_calibration=count), **asked).assign(
            n_calibration=count, tokens_per_input=count * sizes.seq_len / width
        )
        for count in n_sequences
    ]
    return pd.concat(frames, ignore_index=True)


def gain_by_calibration_size(rows: pd.DataFrame, reference: str, candidate: str) -> pd.DataFrame:
    """What the candidate arm gains over the reference, for each number of calibration sequences.

    >>> gain_by_calibration_size(rows, "ria/uniform", "sparsegpt/uniform")

    Returns:
        ``n_calibration, tokens_per_input, estimate, low, high, error``, fewest tokens first; positive favours the
        candidate.
    """
    frames = [
        interval_table(contrast(part, {"gain": (reference, candidate)}), ["contrast"]).assign(
            n_calibration=count, tokens_per_input=part["tokens_per_input"].iloc[0]
        )
        for count, part in rows.groupby("n_calibration")
    ]
    columns = ["n_calibration", "tokens_per_input", "estimate", "low", "high", "error"]
    return pd.concat(frames, ignore_index=True)[columns]
