"""Truth for a trained model: neurons written by hand so that they fire on chosen words.

A planted neuron reads, from whatever enters its MLP, whether the present token belongs to one of its words: its
incoming weights are the ridge regression of that indicator on the MLP's inputs. It keeps its outgoing weights.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from operator import itemgetter

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.attribution.neurons import MlpLayer, find_mlp_layers
from labutils.attribution.words import read_rows
from labutils.core.progress import progress
from labutils.data.words import Terms, term_key
from labutils.evaluation.batching import context_length
from labutils.models.modes import device_of, eval_mode
from labutils.models.structure import weight_matrix
from labutils.pruning.statistics import StopForward

RIDGE = 1e-2  # of the mean diagonal of XᵀX


def plant_neurons(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    plan: Mapping[tuple[int, int], Sequence[str]],
    *,
    gain: float = 10.0,
) -> pd.DataFrame:
    """Write neurons that fire on given words into a model, in place.

        plant_neurons(model, tokenizer, texts, {(0, 3): ["fever"]})

    Args:
        texts: where the words occur, and other words too; the regression is fitted on their tokens.
        plan: (block, neuron) → its words.
        gain: what enters the activation function where the regression says 1.

    Returns:
        ``block, neuron, word``, one row per planted word that occurs in the texts; ``attrs["fit"]`` holds, per planted
        neuron in the order of the plan, the share of the indicator's variance that its inputs explain.

    Raises:
        ValueError: a neuron without a word that occurs; gate and up fused into one layer.
        LookupError: a neuron that the model does not have, or MLPs that cannot be found.
    """
    layers = find_mlp_layers(model)
    for block, neuron in plan:
        if not (0 <= block < len(layers) and 0 <= neuron < layers[block].width):
            raise LookupError(f"the model has no neuron {neuron} in a block {block}")
        if any(len(weight_matrix(up)) != layers[block].width for up in layers[block].ups):
            raise ValueError(
                f"{layers[block].name}: gate and up are one layer here; neurons can be planted in separate ones"
            )
    rows, fits = [], []
    by_block = [(block, list(group)) for block, group in groupby(sorted(plan), key=itemgetter(0))]
    # In the order of the blocks: later inputs depend on earlier neurons.
    for block, group in progress(by_block, description="plant neurons", unit="block"):
        neurons = [neuron for _, neuron in group]
        lists = [Terms(plan[block, neuron]) for neuron in neurons]
        inputs, indicators, present = _inputs_and_indicators(model, tokenizer, texts, layers[block], lists)
        for neuron, terms, wanted, here in zip(neurons, lists, indicators, present, strict=True):
            if not here:
                raise ValueError(f"none of the words {', '.join(terms.names)} occurs in the texts")
            weights, fit = indicator_regression(inputs, wanted)
            _write(layers[block], neuron, gain * weights)
            rows += [{"block": block, "neuron": neuron, "word": name} for name in terms.names if name in here]
            fits.append(fit)
    frame = pd.DataFrame(rows)
    frame.attrs["fit"] = fits
    return frame


def draw_plan(
    model: PreTrainedModel, concepts: Mapping[str, Sequence[str]], *, per_concept: int = 2, seed: int = 0
) -> tuple[dict[tuple[int, int], Sequence[str]], pd.DataFrame]:
    """A plan for `plant_neurons`: `per_concept` random neurons, of any block, for each concept.

        plan, planted = draw_plan(model, {"symptom": ["fever", "cough"]})

    Returns:
        the plan, and ``block, neuron, concept``.

    Raises:
        ValueError: more neurons than the model has.
    """
    places = [(block, neuron) for block, layer in enumerate(find_mlp_layers(model)) for neuron in range(layer.width)]
    if per_concept * len(concepts) > len(places):
        raise ValueError(f"{per_concept} neurons for each of {len(concepts)} concepts: the model has {len(places)}")
    drawn = np.random.default_rng(seed).permutation(len(places))[: per_concept * len(concepts)]
    names = [concept for concept in concepts for _ in range(per_concept)]
    rows = [(*places[place], name) for place, name in zip(drawn, names, strict=True)]
    plan = {(block, neuron): concepts[name] for block, neuron, name in rows}
    return plan, pd.DataFrame(rows, columns=["block", "neuron", "concept"])


def indicator_regression(
    inputs: Float[Tensor, "tokens width"], wanted: Bool[Tensor, " tokens"]
) -> tuple[Float[Tensor, " width"], float]:
    """Ridge regression, without intercept, of an indicator on inputs; and the share of its square that it explains."""
    target = wanted.to(inputs.dtype)
    gram = inputs.T @ inputs
    damped = gram + RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    weights = torch.linalg.solve(damped, inputs.T @ target)
    error = (target - inputs @ weights).square().sum() / target.square().sum()
    return weights, float(1 - error)


def _inputs_and_indicators(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], layer: MlpLayer,
    lists: Sequence[Terms],
) -> tuple[Float[Tensor, "tokens width"], list[Bool[Tensor, " tokens"]], list[set[str]]]:  # fmt: skip
    """What enters the MLP on every token of the texts; per list of terms which tokens are theirs, and which occur."""
    everything = Terms(name for terms in lists for name in terms.names)
    inputs, spans, n_tokens, seen = [], [], 0, []

    def record(module: torch.nn.Module, args: tuple[Tensor, ...]) -> None:
        seen.append(args[0])
        raise StopForward  # what comes after this MLP is not asked for

    with layer.ups[0].register_forward_pre_hook(record), eval_mode(model):
        for row in read_rows(tokenizer, texts, everything, limit=context_length(model, tokenizer)):
            seen.clear()
            with suppress(StopForward):
                model.base_model(input_ids=torch.tensor([row.ids], device=device_of(model)))
            inputs.append(seen[0].reshape(len(row.ids), -1)[list(row.content)].double())
            shift = n_tokens - row.content.start
            found = row.occurrences
            spans += [(everything.names[term], first + shift, last + shift) for term, first, last in found]
            n_tokens += len(row.content)
    indicators, present = [], []
    for terms in lists:
        own = {term_key(name): name for name in terms.names}
        mine = [(own[term_key(name)], first, last) for name, first, last in spans if term_key(name) in own]
        wanted = torch.zeros(n_tokens, dtype=torch.bool, device=device_of(model))
        for _, first, last in mine:
            wanted[first:last] = True
        indicators.append(wanted)
        present.append({name for name, _, _ in mine})
    return torch.cat(inputs), indicators, present


def _write(layer: MlpLayer, neuron: int, weights: Float[Tensor, " width"]) -> None:
    with torch.no_grad():
        for up in layer.ups:
            weight_matrix(up)[neuron] = weights.to(up.weight.dtype)
            if up.bias is not None:
                up.bias[neuron] = 0
