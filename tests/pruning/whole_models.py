"""What tests of whole prunings share: the methods, and the weights of a model before and after."""

import torch
from torch import nn

METHODS = ["magnitude", "wanda", "ri", "ria", "sparsegpt", "ria+obs", "optiprune", "optiprune-auto"]


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_unchanged(model: nn.Module, before: dict[str, torch.Tensor]) -> None:
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) or torch.isnan(before[name]).any(), name
