"""What pruning did to a model's output: the measures by which `optiprune-auto` compares candidates."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from labutils.models import is_causal

Inputs = Mapping[str, Tensor]


def read_output(model: PreTrainedModel, output: ModelOutput, batch: Inputs) -> Float[Tensor, "n ..."]:
    """Next-token log-probabilities [n, length, vocabulary], or an encoder's mean-pooled unit vectors [n, width]."""
    if is_causal(model):
        return output.logits.float().log_softmax(dim=-1)
    states = output.last_hidden_state.float()
    return F.normalize((states * _mask(batch, states).unsqueeze(-1)).sum(dim=1), dim=-1)


def divergence(dense: Float[Tensor, "n ..."], pruned: Float[Tensor, "n ..."], inputs: Inputs) -> float:
    """Mean Kullback–Leibler divergence per token (nats), or mean 1 − cosine per sequence for an encoder's vectors."""
    if dense.dim() == 2:
        return 1 - (dense * pruned).sum(dim=-1).double().mean().item()
    mask = _mask(inputs, dense)
    return (((dense.exp() * (dense - pruned)).sum(dim=-1) * mask).sum() / mask.sum()).item()


def _mask(inputs: Inputs, like: Tensor) -> Float[Tensor, "n length"]:
    """1 for a token, 0 for padding."""
    return inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])).to(like)
