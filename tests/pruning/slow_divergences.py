"""The divergence of two models' outputs, by loops over tokens and words in float64."""

import copy

import torch
from torch import nn

from labutils.models.structure import is_causal


def slow_outputs(model: nn.Module, inputs: dict) -> list[torch.Tensor]:
    """Per sequence in float64, without its padding: log-probabilities per position, or the mean state's direction."""
    found = []
    for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True):
        with torch.no_grad():
            output = copy.deepcopy(model).double()(ids[mask.bool()].unsqueeze(0))
        if is_causal(model):
            found.append(torch.log(torch.softmax(output.logits[0], dim=-1)))
        else:
            mean = output.last_hidden_state[0].mean(dim=0)
            found.append(mean / mean.norm())
    return found


def slow_divergence(dense: list[torch.Tensor], pruned: list[torch.Tensor]) -> float:
    if dense[0].dim() == 1:
        return sum(1 - float(a @ b) for a, b in zip(dense, pruned, strict=True)) / len(dense)
    total, count = 0.0, 0
    for first, second in zip(dense, pruned, strict=True):
        for p, q in zip(first, second, strict=True):
            total += sum(float(a.exp() * (a - b)) for a, b in zip(p, q, strict=True))
            count += 1
    return total / count
