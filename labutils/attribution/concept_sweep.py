"""What pruning does to the neurons of each concept: calibration draws × methods × sparsities, as tidy rows."""

from collections.abc import Mapping, Sequence

import pandas as pd
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.attribution.activations import measure_words
from labutils.attribution.comparison import compare_activations, concept_drops
from labutils.attribution.matching import concept_neurons
from labutils.core.progress import progress
from labutils.pruning.grid import prune_grid


def concept_sweep(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    concepts: Mapping[str, Sequence[str]],
    *,
    draws: Sequence[Tensor],
    methods: Sequence[str],
    sparsities: Sequence[float],
    top_k: int = 10,
    **options: object,
) -> pd.DataFrame:
    """What pruning does to the neurons of each concept; the model comes back dense.

        concept_sweep(model, tokenizer, texts, concepts, draws=[tokens], methods=["wanda"], sparsities=[0.5])

    The neurons of a concept are the `top_k` with the largest mean z over its words in the dense model, where z compares
    the words of all concepts with one another.

    Args:
        texts: hold the concepts' words; those that do not occur are left out.
        concepts: concept → its words; a task's influential words make it a concept too.
        draws: calibration tokens of each draw.
        **options: passed on to `prune`.

    Returns:
        one row per draw, method, sparsity and concept: ``draw, method, sparsity`` and the columns of `concept_drops`.
    """
    words = list(dict.fromkeys(word for listed in concepts.values() for word in listed))
    dense = measure_words(model, tokenizer, texts, words)
    pairs = {}
    for concept, listed in concepts.items():
        if measured := [dense.words[place] for place in dense.select(listed)]:
            neurons = concept_neurons(dense, measured, top_k)[["block", "neuron"]]
            pairs[concept] = neurons.merge(pd.DataFrame({"word": measured}), how="cross")

    def evaluate(pruned: PreTrainedModel) -> pd.DataFrame:
        after = measure_words(pruned, tokenizer, texts, words)
        parts = [
            concept_drops(compare_activations(dense, after, chosen), {concept: concepts[concept]})
            for concept, chosen in pairs.items()
        ]
        return pd.concat(parts, ignore_index=True)

    frames = [
        pd.DataFrame(
            prune_grid(model, tokens, methods=methods, sparsities=sparsities, evaluate=evaluate, **options)
        ).assign(draw=draw)
        for draw, tokens in enumerate(progress(draws, description="concept sweep", unit="draw"))
    ]
    frame = pd.concat(frames, ignore_index=True)
    return frame[
        ["draw", "method", "sparsity", "concept", "dense", "drop", "relative_drop", "change", "words", "pairs"]
    ]
