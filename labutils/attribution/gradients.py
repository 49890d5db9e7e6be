"""Gradient-based attribution: integrated gradients of tokens, conductance of neurons and of whole blocks.

- Integrated gradients (Sundararajan, Taly & Yan 2017): a token's share; shares add up to F(text) − F(baseline).
- Conductance (Dhamdhere, Sundararajan & Yan 2018): the part of that difference that flows through a neuron. It adds up
  over the output of a block, which everything flows through, but not over an MLP, which the residual stream passes by.

F is log p of a passage's target tokens; `labutils.attribution.integration` has the path, and
`labutils.attribution.refinement` takes as many points on it as adding up asks for, in chunks that fit the memory.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.attribution.integration import Batch, frozen_weights, log_likelihood, path_batches
from labutils.attribution.neurons import find_mlp_layers
from labutils.attribution.passages import Passage
from labutils.attribution.refinement import FIRST_POINTS, PathSum, refined_conductance
from labutils.models.structure import find_blocks

STEPS = 2049  # points of a path at the very most; a lab model takes some twenty, one with attention sinks hundreds
TOLERANCE = 0.02  # of F(text) − F(baseline)


def attribute_tokens(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    passages: Sequence[Passage],
    *,
    n_steps: int = STEPS,
    memory: int | None = None,
    tolerance: float = TOLERANCE,
    strict: bool = True,
) -> pd.DataFrame:
    """Integrated gradients of every token of every passage, in nats.

        attribute_tokens(model, tokenizer, task_passages(model, tokenizer, task))

    Args:
        n_steps: the most points along the path of a passage; as many are taken as the tolerance asks for.
        memory: bytes that points of paths may take, beside the weights; None takes 1 GiB, or what the longest passage
            needs where that is more and is free.
        tolerance: largest error of the sum, as a share of F(text) − F(baseline).
        strict: refuse sums that miss the tolerance when the points are spent; else they are given, and `attrs` tells.

    Returns:
        ``passage, position, token`` (id) and ``attribution``, without the first token, special ones and padding.
        ``attrs["completeness"]`` is the largest error of a sum, as a share of what it should be (or of 0.1 nats, where
        that is more), and ``attrs["points"]`` the points that each passage took.

    Raises:
        ValueError: an encoder, sums that miss the tolerance with `n_steps` points, or a memory that is too small.
    """
    frames, quality = [], {}
    for batch, sums in _paths(model, tokenizer, passages, [], [], n_steps, memory, tolerance, strict):
        quality.update(zip(batch.passages, sums, strict=True))
        frames += _token_frames(batch, sums)
    frame = pd.concat(frames, ignore_index=True).sort_values(["passage", "position"], ignore_index=True)
    return _with_quality(frame, quality)


def neuron_conductance(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    passages: Sequence[Passage],
    *,
    n_steps: int = STEPS,
    memory: int | None = None,
    tolerance: float = TOLERANCE,
    strict: bool = True,
) -> pd.DataFrame:
    """Conductance of every MLP neuron, summed over a passage's tokens and averaged over the passages, in nats.

        neuron_conductance(model, tokenizer, passages)

    Positive: the neuron makes the targets likelier. One path per passage serves all blocks. It is refined until the
    outputs of all blocks add up, as in `block_conductance`; what they miss is in `attrs`.

    Returns:
        one row per neuron: ``block, neuron, score``.
    """
    wanted = [(layer.down, "input") for layer in find_mlp_layers(model)]
    paths = _paths(model, tokenizer, passages, wanted, _outputs(model), n_steps, memory, tolerance, strict)
    return _mean_scores(paths, len(wanted), len(passages), "neuron")


def block_conductance(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    passages: Sequence[Passage],
    *,
    n_steps: int = STEPS,
    memory: int | None = None,
    tolerance: float = TOLERANCE,
    strict: bool = True,
) -> pd.DataFrame:
    """Conductance of the output of every block, by hidden unit, whether the block returns a tensor or a tuple.

        block_conductance(model, tokenizer, passages)

    Returns:
        ``block, unit, score`` (averaged over the passages); ``attrs`` as in `attribute_tokens`, whose errors it shares.
    """
    wanted = _outputs(model)
    paths = _paths(model, tokenizer, passages, wanted, [], n_steps, memory, tolerance, strict)
    return _mean_scores(paths, len(wanted), len(passages), "unit")


def _outputs(model: PreTrainedModel) -> list[tuple[nn.Module, str]]:
    return [(block, "output") for block in find_blocks(model)[1]]


def _mean_scores(
    paths: Iterator[tuple[Batch, list[PathSum]]], n_modules: int, n_passages: int, name: str
) -> pd.DataFrame:
    """One row per module and unit of the first `n_modules`, averaged over the passages."""
    totals: list[Tensor | int] = [0] * n_modules
    quality = {}
    for batch, sums in paths:
        quality.update(zip(batch.passages, sums, strict=True))
        for path in sums:
            totals = [total + own for total, own in zip(totals, path.totals[:n_modules], strict=True)]
            path.totals.clear()
    frames = [
        pd.DataFrame({"block": block, name: range(len(total)), "score": total.numpy() / n_passages})
        for block, total in enumerate(totals)
    ]
    return _with_quality(pd.concat(frames, ignore_index=True), quality)


def _paths(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, passages: Sequence[Passage],
    wanted: list[tuple[nn.Module, str]], checks: list[tuple[nn.Module, str]],
    n_steps: int, memory: int | None, tolerance: float, strict: bool,
) -> Iterator[tuple[Batch, list[PathSum]]]:  # fmt: skip
    """The sums of every passage: of units for `wanted` modules, of tokens where none are; if strict, all exact."""
    if n_steps < FIRST_POINTS:
        raise ValueError(f"n_steps={n_steps} is less than the {FIRST_POINTS} points that every path begins with")
    if not tolerance > 0:
        raise ValueError(f"tolerance={tolerance} must be more than 0, such as the default of {TOLERANCE}")
    score = log_likelihood(model)
    modules = wanted + checks
    checked = range(len(wanted) if checks else 0, max(1, len(modules)))
    with frozen_weights(model):
        for batch in path_batches(model, tokenizer, passages, memory, "gradients along paths"):
            sums = refined_conductance(
                score, batch, modules, checked=checked, tolerance=tolerance, n_points=n_steps, over=0 if wanted else 1
            )
            for index, path in zip(batch.passages, sums, strict=True):
                if strict and path.error > path.allowed:
                    raise ValueError(
                        f"the attributions of passage {index} miss their sum of {path.change:.3g} nats by up to "
                        f"{path.error:.2g} after {path.points} points: raise n_steps={n_steps}, allow more with "
                        f"tolerance={tolerance}, or take them as they are with strict=False"
                    )
            yield batch, sums


def _with_quality(frame: pd.DataFrame, sums: dict[int, PathSum]) -> pd.DataFrame:
    frame.attrs["completeness"] = max(path.completeness for path in sums.values())
    frame.attrs["points"] = [sums[index].points for index in sorted(sums)]
    return frame


def _token_frames(batch: Batch, sums: list[PathSum]) -> list[pd.DataFrame]:
    content = batch.content.cpu().numpy()
    frames = []
    for row, (passage, path) in enumerate(zip(batch.passages, sums, strict=True)):
        positions = np.flatnonzero(content[row])
        frames.append(
            pd.DataFrame(
                {
                    "passage": passage,
                    "position": positions,
                    "token": batch.ids[row].cpu().numpy()[positions],
                    "attribution": path.totals[0].numpy()[positions],
                }
            )
        )
    return frames
