"""Conductance by captum, as a reference: evenly spaced points and the rectangles between them, without refinement."""

import pandas as pd
from captum.attr import LayerConductance
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.attribution.integration import frozen_weights, log_likelihood, path_batches, probed_module
from labutils.attribution.neurons import find_mlp_layers
from labutils.attribution.passages import Passage

AT_ONCE = 64  # points of the path


def captum_conductance(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    passage: Passage,
    *,
    block: int,
    n_steps: int = 200,
    memory: int | None = None,
) -> pd.DataFrame:
    """The conductance of a block's neurons for one passage as captum's `LayerConductance` finds it.

        captum_conductance(model, tokenizer, passage, block=0)

    The path and what is attributed are those of `neuron_conductance`; the rule along the path is captum's, whose error
    falls with the first power of the step alone (Kokhlikyan et al. 2020, arXiv 2009.07896).

    Args:
        n_steps: evenly spaced points of the path.
        memory: as for `neuron_conductance`.

    Returns:
        ``block, neuron, score``, summed over the passage's tokens, in nats.
    """
    layers = find_mlp_layers(model)
    if not 0 <= block < len(layers):
        raise LookupError(f"there is no block {block}: the model has the blocks 0 to {len(layers) - 1}")
    score = log_likelihood(model)
    with frozen_weights(model):
        (batch,) = path_batches(model, tokenizer, [passage], memory, "conductance by captum")
        with probed_module(layers[block].down, "input", batch.ids.shape[1]) as probe:
            found = LayerConductance(score, probe).attribute(
                batch.embeddings, batch.baseline, additional_forward_args=batch.fixed(), n_steps=n_steps,
                method="riemann_trapezoid", internal_batch_size=AT_ONCE,
            )  # fmt: skip
    scores = found[0].sum(0).detach().double().cpu().numpy()
    return pd.DataFrame({"block": block, "neuron": range(len(scores)), "score": scores})
