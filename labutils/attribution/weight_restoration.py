"""What pruning killed and changed, and whether it comes back: dead neurons, lost predictions, the un-prune check.

A neuron has died when pruning left it less than a tenth of its variation. The un-prune check gives one neuron of a
pruned model its own weights of the dense model back, incoming and outgoing, and looks how far the predictions return.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.attribution.activations import WordActivations
from labutils.attribution.neurons import MlpLayer, Neurons, check_neurons, find_mlp_layers, neuron_weights
from labutils.attribution.passages import Passage, passage_losses, target_log_likelihoods
from labutils.core.progress import progress

DEAD_BELOW = 0.1  # of the dense deviation


def neuron_survival(
    dense: WordActivations, pruned: WordActivations, model: PreTrainedModel, *, dead_below: float = DEAD_BELOW
) -> pd.DataFrame:
    """How much of its variation every neuron keeps, and how many of its weights.

        neuron_survival(found_dense, found_pruned, pruned)

    Args:
        dense, pruned: activations measured on the same texts.
        model: the pruned model, whose weights are counted.
        dead_below: share of the dense deviation below which a neuron counts as dead.

    Returns:
        one row per neuron: ``block, neuron, dense, pruned`` (deviations), ``kept`` (their ratio; NaN for a neuron that
        never varied), ``weights`` (share of its incoming and outgoing weights that are not 0), ``dead``.
    """
    frames = []
    for block, layer in enumerate(find_mlp_layers(model)):
        before, after = (found.deviations[block].numpy() for found in (dense, pruned))
        left = [
            sum(int(view.count_nonzero()) for view in views) / sum(view.numel() for view in views)
            for views in (neuron_weights(layer, neuron) for neuron in range(layer.width))
        ]
        frames.append(
            pd.DataFrame(
                {"block": block, "neuron": range(layer.width), "dense": before, "pruned": after, "weights": left}
            )
        )
    frame = pd.concat(frames, ignore_index=True)
    kept = (frame["pruned"] / frame["dense"]).where(frame["dense"] > 0, np.nan)
    frame.insert(4, "kept", kept)
    return frame.assign(dead=(kept < dead_below) & (frame["dense"] > 0))


def changed_predictions(
    dense: PreTrainedModel,
    pruned: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    passages: Sequence[Passage],
    *,
    batch_size: int = 32,
) -> pd.DataFrame:
    """Every predicted token with its log-likelihood before and after pruning, the greatest loss first.

        changed_predictions(dense, pruned, tokenizer, passages).head()

    Returns:
        ``passage, position, token`` (as text), ``dense``, ``pruned`` (log p, nats), ``change`` (pruned − dense).
    """
    before, after = (
        target_log_likelihoods(model, tokenizer, passages, batch_size=batch_size) for model in (dense, pruned)
    )
    frames = []
    for index, passage in enumerate(passages):
        targets = passage.ids[passage.first_target :]
        frames.append(
            pd.DataFrame(
                {
                    "passage": index,
                    "position": range(passage.first_target, len(passage.ids)),
                    "token": [tokenizer.decode([token]) for token in targets],
                    "dense": before[index].double().numpy(),
                    "pruned": after[index].double().numpy(),
                }
            )
        )
    frame = pd.concat(frames, ignore_index=True)
    frame = frame.assign(change=frame["pruned"] - frame["dense"])
    return frame.sort_values("change", kind="stable", ignore_index=True)


def changed_passages(changes: pd.DataFrame) -> pd.DataFrame:
    """The passages of `changed_predictions`, those that lost most per token first.

        changed_passages(changed_predictions(dense, pruned, tokenizer, passages))

    Returns:
        ``passage, change`` (mean over its targets, nats per token), ``worst`` (the token that lost most) and
        ``worst_change``.
    """
    worst = changes.loc[changes.groupby("passage")["change"].idxmin()].set_index("passage")
    frame = changes.groupby("passage")["change"].mean().reset_index()
    frame = frame.assign(worst=frame["passage"].map(worst["token"]), worst_change=frame["passage"].map(worst["change"]))
    return frame.sort_values("change", kind="stable", ignore_index=True)


@contextmanager
def revived(dense: PreTrainedModel, pruned: PreTrainedModel, neurons: Neurons) -> Iterator[None]:
    """Within the context the neurons of `pruned` have their weights of `dense`; afterwards those they had.

        with revived(dense, pruned, [(0, 17)]):
            passage_losses(pruned, tokenizer, passages)

    Raises:
        ValueError: no neurons, or models of different shape.
        LookupError: a neuron that the models do not have.
    """
    layers, own = find_mlp_layers(dense), find_mlp_layers(pruned)
    if [layer.width for layer in layers] != [layer.width for layer in own]:
        raise ValueError("dense and pruned differ in their blocks or neurons: only copies of one model can be compared")
    chosen = check_neurons(neurons, own)
    pairs = list(zip(chosen["block"], chosen["neuron"], strict=True))
    sources = [view for block, neuron in pairs for view in neuron_weights(layers[block], neuron)]
    targets = [view for block, neuron in pairs for view in neuron_weights(own[block], neuron)]
    backup = [view.clone() for view in targets]
    try:
        with torch.no_grad():
            for target, source in zip(targets, sources, strict=True):
                target.copy_(source)
        yield
    finally:
        with torch.no_grad():
            for target, saved in zip(targets, backup, strict=True):
                target.copy_(saved)


def revival_check(
    dense: PreTrainedModel,
    pruned: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    passages: Sequence[Passage],
    neurons: Neurons,
    *,
    sizes: Sequence[int] = (1,),
    n_random: int = 10,
    seed: int = 0,
    batch_size: int = 32,
) -> pd.DataFrame:
    """Does the prediction return when neurons get their weights back? Against as many random neurons of those blocks.

        revival_check(dense, pruned, tokenizer, passages, weakest, sizes=[1, 10, 100])

    Args:
        neurons: those to revive, the most important first.
        sizes: how many of them are revived together, one number after the other.
        n_random: random sets of as many neurons, with as many of each block, to compare with each.

    Returns:
        one row per set of revived neurons: ``size, kind`` ("chosen" or "random"), ``dense, pruned, revived`` (mean loss
        per passage, nats per token), ``returned``: (pruned − revived) / (pruned − dense), 1 where the loss is back; NaN
        where pruning changed nothing.

    Raises:
        ValueError: a size below 1 or above the number of neurons.
    """
    layers = find_mlp_layers(pruned)
    chosen = check_neurons(neurons, layers)[["block", "neuron"]]
    if not sizes or min(sizes) < 1 or max(sizes) > len(chosen):
        raise ValueError(f"sizes={list(sizes)} must lie between 1 and the {len(chosen)} neurons given")
    generator, sets = np.random.default_rng(seed), []
    for size in sizes:
        counts = chosen["block"].head(size).value_counts(sort=False)
        sets.append((size, "chosen", [tuple(pair) for pair in chosen.head(size).itertuples(index=False)]))
        sets += [(size, "random", _random_set(counts, layers, generator)) for _ in range(n_random)]

    def mean_loss(model: PreTrainedModel) -> float:
        return float(passage_losses(model, tokenizer, passages, batch_size=batch_size).mean())

    before, after = mean_loss(dense), mean_loss(pruned)
    losses = []
    for _, _, pairs in progress(sets, description="revive neurons", unit="set"):
        with revived(dense, pruned, pairs):
            losses.append(mean_loss(pruned))
    frame = pd.DataFrame([each[:2] for each in sets], columns=["size", "kind"])
    frame = frame.assign(dense=before, pruned=after, revived=losses)
    gap = after - before
    return frame.assign(returned=(frame["pruned"] - frame["revived"]) / gap if gap else np.nan)


def _random_set(counts: pd.Series, layers: Sequence[MlpLayer], generator: np.random.Generator) -> list[tuple[int, int]]:
    """As many neurons of each block as `counts` says, whichever."""
    return [
        (int(block), int(neuron))
        for block, count in counts.items()
        for neuron in generator.choice(layers[block].width, size=count, replace=False)
    ]
