"""What pruning did to a model's output: the measure by which `optiprune-auto` compares its candidates."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from labutils.models.structure import is_causal

Inputs = Mapping[str, Tensor]


def read_output(model: PreTrainedModel, output: ModelOutput, batch: Inputs) -> Float[Tensor, "n ..."]:
    """Next-token log-probabilities [n, length, vocabulary], or an encoder's mean-pooled unit vectors [n, width]."""
    if is_causal(model):
        return output.logits.float().log_softmax(dim=-1)
    states = output.last_hidden_state.float()
    return F.normalize((states * _mask(batch, states).unsqueeze(-1)).sum(dim=1), dim=-1)


class DenseOutput:
    """What the dense model puts out for some inputs, kept to tell how far a pruned model's output is from it."""

    def __init__(self, output: Float[Tensor, "n ..."], inputs: Inputs):
        """`output` as `read_output` gives it."""
        per_token = output.dim() == 3
        self.weights = _mask(inputs, output) if per_token else output.new_ones(len(output))
        self.target = output.exp() if per_token else output
        self.own = torch.linalg.vecdot(self.target, output)

    def divergence(self, output: Float[Tensor, "n ..."]) -> float:
        """Mean Kullback–Leibler divergence per token (nats), or mean 1 − cosine per sequence for an encoder's vectors.

        Both are ⟨target, dense⟩ − ⟨target, pruned⟩, over log-probabilities or over unit vectors.
        """
        moved = self.own - torch.linalg.vecdot(self.target, output)
        return ((moved * self.weights).sum() / self.weights.sum()).item()


def _mask(inputs: Inputs, like: Tensor) -> Float[Tensor, "n length"]:
    """1 for a token, 0 for padding."""
    return inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])).to(like)
