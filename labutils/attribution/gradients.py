"""Gradient-based attribution: integrated gradients of tokens (captum), conductance of neurons and of whole blocks.

- Integrated gradients (Sundararajan, Taly & Yan 2017): a token's share; shares add up to F(text) − F(baseline).
- Conductance (Dhamdhere, Sundararajan & Yan 2018): the part of that difference that flows through a neuron. It adds up
  over the output of a block, which everything flows through, but not over an MLP, which the residual stream passes by.

F is log p of a passage's target tokens; `labutils.attribution.integration` has the path. Adding up is checked, and a
path of too few steps refused. The steps run in chunks that fit a budget of memory.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.attribution.integration import (
    TOLERANCE,
    Batch,
    check_sums,
    frozen_weights,
    layer_conductance,
    log_likelihood,
    path_batches,
)
from labutils.attribution.neurons import find_mlp_layers
from labutils.attribution.passages import Passage
from labutils.models.structure import find_blocks

STEPS = 64  # the sums are then off by less than a thousandth for tokens, a tenth for conductance, on the lab models
MEMORY = 2**30  # bytes


def attribute_tokens(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    passages: Sequence[Passage],
    *,
    n_steps: int = STEPS,
    memory: int = MEMORY,
    tolerance: float = TOLERANCE,
) -> pd.DataFrame:
    """Integrated gradients of every token of every passage, in nats.

        attribute_tokens(model, tokenizer, task_passages(model, tokenizer, task))

    Args:
        n_steps: points of the Gauss–Legendre rule along the path.
        memory: bytes that the activations of one chunk of steps may take.
        tolerance: largest error of the sum, as a share of F(text) − F(baseline).

    Returns:
        ``passage, position, token`` (id) and ``attribution``, without special tokens and padding.
        ``attrs["completeness"]`` is the largest error of a sum, as a share of what it should be.

    Raises:
        ValueError: an encoder, sums that miss the tolerance, or a memory that does not hold two rows.
    """
    from captum.attr import IntegratedGradients  # heavy, and needed here only

    score = log_likelihood(model)
    frames, errors = [], [0.0]
    with frozen_weights(model):
        for batch in path_batches(model, tokenizer, passages, n_steps, memory, "integrated gradients"):
            found = IntegratedGradients(score).attribute(
                batch.embeddings, batch.baseline, additional_forward_args=batch.fixed, n_steps=n_steps,
                internal_batch_size=batch.rows_at_once,
            )  # fmt: skip
            shares = found.double().sum(-1)
            errors.append(check_sums(shares.sum(1), score, batch, tolerance, "tokens"))
            frames += _token_frames(batch, shares)
    frame = pd.concat(frames, ignore_index=True).sort_values(["passage", "position"], ignore_index=True)
    frame.attrs["completeness"] = max(errors)
    return frame


def neuron_conductance(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    passages: Sequence[Passage],
    *,
    n_steps: int = STEPS,
    memory: int = MEMORY,
) -> pd.DataFrame:
    """Conductance of every MLP neuron, summed over a passage's tokens and averaged over the passages, in nats.

        neuron_conductance(model, tokenizer, passages)

    Positive: the neuron makes the targets likelier. One path per passage serves all blocks. Whether it is fine enough
    for a model is what `block_conductance` checks.

    Returns:
        one row per neuron: ``block, neuron, score``.
    """
    layers = find_mlp_layers(model)
    modules = [(layer.down, "input") for layer in layers]
    totals = _conductance(model, tokenizer, passages, modules, n_steps, memory, None)
    return _mean_scores(totals, "neuron", len(passages))


def block_conductance(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    passages: Sequence[Passage],
    *,
    n_steps: int = STEPS,
    memory: int = MEMORY,
    tolerance: float = TOLERANCE,
) -> pd.DataFrame:
    """Conductance of the output of every block, by hidden unit, whether the block returns a tensor or a tuple.

        block_conductance(model, tokenizer, passages)

    Returns:
        ``block, unit, score`` (averaged over the passages); ``attrs["completeness"]`` as in `attribute_tokens`, whose
        errors it shares.
    """
    modules = [(block, "output") for block in find_blocks(model)[1]]
    totals = _conductance(model, tokenizer, passages, modules, n_steps, memory, tolerance)
    frame = _mean_scores(totals, "unit", len(passages))
    frame.attrs["completeness"] = max(error for _, error in totals)
    return frame


def _mean_scores(totals: list[tuple[Float[Tensor, " units"], float]], name: str, n_passages: int) -> pd.DataFrame:
    """What `_conductance` returns as one row per block and unit, averaged over the passages."""
    frames = [
        pd.DataFrame({"block": block, name: range(len(total)), "score": total.numpy() / n_passages})
        for block, (total, _) in enumerate(totals)
    ]
    return pd.concat(frames, ignore_index=True)


def _conductance(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, passages: Sequence[Passage],
    modules: Sequence[tuple[nn.Module, str]], n_steps: int, memory: int, tolerance: float | None,
) -> list[tuple[Float[Tensor, " units"], float]]:  # fmt: skip
    """Per module the conductance of its units, summed over tokens and passages, and the largest error of a sum."""
    score = log_likelihood(model)
    totals: list[Tensor | int] = [0] * len(modules)
    errors = [0.0] * len(modules)
    with frozen_weights(model):
        for batch in path_batches(model, tokenizer, passages, n_steps, memory, "conductance"):
            for index, found in enumerate(layer_conductance(score, batch, modules, n_steps)):
                totals[index] = totals[index] + found.sum(0).cpu()
                if tolerance is not None:
                    error = check_sums(found.sum(1), score, batch, tolerance, f"output of block {index}")
                    errors[index] = max(errors[index], error)
    return list(zip(totals, errors, strict=True))


def _token_frames(batch: Batch, shares: Float[Tensor, "rows length"]) -> list[pd.DataFrame]:
    content = batch.content.cpu().numpy()
    frames = []
    for row, passage in enumerate(batch.passages):
        positions = np.flatnonzero(content[row])
        frames.append(
            pd.DataFrame(
                {
                    "passage": passage,
                    "position": positions,
                    "token": batch.ids[row].cpu().numpy()[positions],
                    "attribution": shares[row].detach().cpu().numpy()[positions],
                }
            )
        )
    return frames
