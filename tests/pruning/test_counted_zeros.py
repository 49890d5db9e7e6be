"""A report counts the zeros that are in the model, whatever the pruning meant to leave there."""

import pytest
import torch
from torch import Tensor, nn

import labutils as lab
from labutils.models.structure import find_blocks, prunable_layers, weight_matrix
from labutils.pruning.matrices import MatrixMethod
from labutils.pruning.methods import Method
from labutils.pruning.requests import temporary_registrations

IDS = torch.randint(3, 64, (4, 8), generator=torch.Generator().manual_seed(1))


class Vanishing(MatrixMethod):
    """Puts out float64; what it keeps in the first row is too small for the model's dtype."""

    name, reads_inputs = "vanishing", False

    def scores(self, weight: Tensor, statistics: object, factor: object) -> Tensor:
        return weight.abs()

    def prune(self, weight: Tensor, statistics: object, **given: object) -> tuple[Tensor, Tensor]:
        pruned = weight.double()
        pruned[0] = 1e-60
        pruned[1] = 0
        return pruned, pruned != 0


def counted(model: nn.Module) -> float:
    weights = [weight_matrix(layer) for block in find_blocks(model)[1] for layer in prunable_layers(block).values()]
    return sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)


def test_zeros_that_the_models_dtype_makes(tiny_llama: nn.Module) -> None:
    with temporary_registrations():

        @lab.register_method("vanishing")
        class _(Method):
            def matrix_method(self, sparsity: float) -> MatrixMethod:
                return Vanishing()

        report = lab.prune(tiny_llama, IDS, method="vanishing", sparsity=0.1)
    assert report.sparsity == pytest.approx(counted(tiny_llama), abs=1e-12)
    assert report.layers["sparsity"].tolist() == pytest.approx((2 / report.layers["rows"]).tolist())


@pytest.mark.parametrize("method", ["wanda", "sparsegpt", "optiprune-auto"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_zeros_that_were_there_before_are_zeros(tiny_llama: nn.Module, method: str, dtype: torch.dtype) -> None:
    tiny_llama.to(dtype)
    with torch.no_grad():
        tiny_llama.model.layers[1].mlp.up_proj.weight[:20] = 0
    report = lab.prune(tiny_llama, IDS, method=method, sparsity=0.2)
    assert report.sparsity == pytest.approx(counted(tiny_llama), abs=1e-12) and report.sparsity >= 0.2 - 1e-3
