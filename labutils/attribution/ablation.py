"""The causal check: neurons held at their mean, or at zero, while the model runs."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from labutils.attribution.neurons import MlpLayer, Neurons, check_neurons, find_mlp_layers, hooked_neurons
from labutils.core.options import suggest

VALUES = ("mean", "zero")


@contextmanager
def ablate_neurons(model: PreTrainedModel, neurons: Neurons, *, to: str = "mean") -> Iterator[None]:
    """Within the context the neurons no longer tell one token from another; afterwards the model is as it was.

        with lab.ablate_neurons(model, [(0, 17), (3, 5)]):
            lab.perplexity(model, tokens)

    Args:
        neurons: pairs (block, neuron), or a frame with these columns, as that of `neuron_words`.
        to: "zero", or "mean": the value in the frame's column `mean`, where it has one (`concept_neurons` gives the
            mean over the texts that were read), else the mean over the tokens of each sequence, padding left out.

    Raises:
        ValueError: no neurons, another value of `to`; in a forward pass, "mean" without a column `mean` for sequences
            of one token (as in step-by-step generation), whose mean would be the activation itself.
        LookupError: a neuron that the model does not have, or MLPs that cannot be found.
    """
    if to not in VALUES:
        raise ValueError(f"to={to!r} is not one of {', '.join(VALUES)}.{suggest(to, VALUES)}")
    layers = find_mlp_layers(model)
    frame = check_neurons(neurons, layers)
    if to == "mean" and "mean" not in frame:
        with _held_at_sequence_means(model, layers, frame):
            yield
    else:
        values = frame["mean"] if to == "mean" else pd.Series(0.0, index=frame.index)
        constants = {
            block: (_indices(part), torch.tensor(values[part.index].to_numpy(dtype=float)))
            for block, part in frame.groupby("block")
        }

        def replace(block: int, inner: Float[Tensor, "tokens width"]) -> Float[Tensor, "tokens width"] | None:
            if block not in constants:
                return None
            columns, held = (tensor.to(inner.device) for tensor in constants[block])
            return inner.index_copy(1, columns, held.to(inner.dtype).expand(len(inner), -1))

        with hooked_neurons(layers, replace):
            yield


def _indices(part: pd.DataFrame) -> Tensor:
    return torch.tensor(part["neuron"].to_numpy(dtype=int))


@contextmanager
def _held_at_sequence_means(model: PreTrainedModel, layers: Sequence[MlpLayer], frame: pd.DataFrame) -> Iterator[None]:
    """Every neuron at its mean over the tokens of its sequence; the model's own mask tells padding from tokens."""
    columns = {block: _indices(part) for block, part in frame.groupby("block")}
    weights: list[Tensor] = []

    def note_mask(module: PreTrainedModel, args: tuple, kwargs: dict) -> None:
        ids = kwargs.get("input_ids", args[0] if args else kwargs.get("inputs_embeds"))
        mask = kwargs.get("attention_mask")
        weights[:] = [torch.ones(ids.shape[:2], device=ids.device) if mask is None else mask.float()]
        if weights[0].shape[1] != ids.shape[1] or ids.shape[1] == 1:
            raise ValueError(
                "the mean of a single token is its own activation: give neurons with a column `mean`, or to='zero'"
            )

    def replace(block: int, inner: Float[Tensor, "tokens width"]) -> Float[Tensor, "tokens width"] | None:
        if block not in columns:
            return None
        index = columns[block].to(inner.device)
        share = (weights[0] / weights[0].sum(1, keepdim=True)).to(inner.device)
        values = inner[:, index].float().reshape(*share.shape, -1)
        means = torch.einsum("bt,btn->bn", share, values)
        held = means.unsqueeze(1).expand_as(values).reshape(len(inner), -1)
        return inner.index_copy(1, index, held.to(inner.dtype))

    # Callers may run the model without its head, and OPT's head runs its decoder without the model around it.
    with ExitStack() as hooks, hooked_neurons(layers, replace):
        for part in {model, model.base_model}:
            hooks.enter_context(part.register_forward_pre_hook(note_mask, with_kwargs=True))
        yield
