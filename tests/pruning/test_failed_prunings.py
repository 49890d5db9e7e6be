"""Prunings that fail say what is wrong and change nothing, or without a copy leave what was pruned by then."""

import copy

import pytest
import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from whole_models import METHODS, assert_unchanged, weights_of

from labutils.pruning import prune, prune_grid


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"sparsity": 1.0}, ValueError, r"\[0, 1\)"),
        ({"sparsity": -0.1}, ValueError, r"\[0, 1\)"),
        ({"sparsity": float("nan")}, ValueError, r"\[0, 1\)"),
        ({"sparsity": 0.5, "method": "wandaa"}, LookupError, "wanda"),
        ({"sparsity": 0.5, "allocation": "owll"}, LookupError, "owl"),
        ({"sparsity": 0.5, "allocation": [0.5, 0.5]}, ValueError, "3 numbers"),
        ({"sparsity": 0.5, "allocation": [0.5, 0.5, 0.6]}, ValueError, "mean"),
        ({"sparsity": 0.995, "allocation": "owl"}, ValueError, "0.99"),
        ({"sparsity": 0.5, "pattern": "4:2"}, ValueError, "N:M"),
        ({"sparsity": 0.6, "pattern": "2:4"}, ValueError, "0.5"),
        ({"sparsity": 0.4, "pattern": "3:5"}, ValueError, "does not divide"),
        ({"sparsity": 0.5, "pattern": "2:4", "allocation": "owl"}, ValueError, "allocation"),
        ({"sparsity": 0.5, "permute": True}, ValueError, "N:M"),
        ({"sparsity": 0.5, "dampin": 0.1}, ValueError, "damping"),
        ({"sparsity": 0.5, "batch_size": 0}, ValueError, "batch_size"),
        ({"sparsity": 0.5, "epsilon": 0.5}, ValueError, "epsilon is an option of allocation 'alpha'"),
        ({"sparsity": 0.5, "allocation": "dlp", "owl_lambda": 0.1}, ValueError, "allocation 'owl'"),
        ({"sparsity": 0.5, "allocation": "owl", "owl_lamda": 0.1}, ValueError, "of allocation 'owl': owl_lambda"),
        ({"sparsity": 0.5, "allocation": "owl", "owl_lambda": "0.1"}, ValueError, "owl_lambda='0.1' must be a number"),
        ({"sparsity": 0.5, "allocation": "global", "standardise": "no"}, ValueError, "must be True or False"),
        ({"sparsity": 0.5, "method": "optiprune", "below": 3}, ValueError, "below=3 must be a string"),
        ({"sparsity": 0.5, "batch_size": 2.5}, ValueError, "batch_size=2.5 must be a whole number"),
        ({"sparsity": 0.5, "sequential": 1}, ValueError, "sequential=1 must be True or False"),
        ({"sparsity": 0.5, "threshold": 0.3}, ValueError, "method 'optiprune'"),
        ({"sparsity": 0.5, "method": "optiprune", "below": "optiprune"}, ValueError, "no single way"),
        ({"sparsity": 0.5, "method": "optiprune", "above": "wandaa"}, LookupError, "'wanda'"),
    ],
)
def test_bad_requests_change_nothing(
    tiny_llama: nn.Module, tokens: torch.Tensor, arguments: dict, error: type, says: str
) -> None:
    before = weights_of(tiny_llama)
    with pytest.raises(error, match=says):
        prune(tiny_llama, tokens, **{"method": "wanda", **arguments})
    assert_unchanged(tiny_llama, before)


@pytest.mark.parametrize("method", METHODS)
def test_weights_that_are_not_finite_are_named(tiny_llama: nn.Module, tokens: torch.Tensor, method: str) -> None:
    with torch.no_grad():
        tiny_llama.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    before = weights_of(tiny_llama)
    with pytest.raises(ValueError, match=r"layers\.1\.mlp\.up_proj"):
        prune(tiny_llama, tokens, method=method, sparsity=0.5)
    assert_unchanged(tiny_llama, before)


@pytest.mark.parametrize("method", METHODS)
def test_a_failure_half_way_restores_the_model(tiny_llama: nn.Module, tokens: torch.Tensor, method: str) -> None:
    """Finite weights whose activations overflow in the last block: blocks before it are pruned by then."""
    with torch.no_grad():
        tiny_llama.model.layers[2].mlp.up_proj.weight.mul_(1e38)
    before = weights_of(tiny_llama)
    with pytest.raises(ValueError, match=r"layers\.2\.mlp\.down_proj"):
        prune(tiny_llama, tokens, method=method, sparsity=0.5)
    assert_unchanged(tiny_llama, before)


def test_without_a_copy_a_failure_half_way_leaves_what_was_pruned(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    twin, before = copy.deepcopy(tiny_llama), weights_of(tiny_llama)
    prune(twin, tokens, method="wanda", sparsity=0.5)
    with torch.no_grad():
        tiny_llama.model.layers[1].input_layernorm.weight.fill_(1e30)
    with pytest.raises(ValueError, match="NaN or infinite"):
        prune(tiny_llama, tokens, method="wanda", sparsity=0.5, restorable=False)
    first, last = "model.layers.0.mlp.up_proj.weight", "model.layers.2.mlp.up_proj.weight"
    assert torch.equal(tiny_llama.state_dict()[first], twin.state_dict()[first])
    assert torch.equal(tiny_llama.state_dict()[last], before[last])


def test_a_model_without_blocks_is_refused(tokens: torch.Tensor) -> None:
    class Flat(PreTrainedModel):
        def __init__(self):
            super().__init__(PretrainedConfig())
            self.embed_tokens, self.only = nn.Embedding(64, 4), nn.Linear(4, 4)

    with pytest.raises(LookupError, match="blocks cannot be found"):
        prune(Flat(), tokens, method="magnitude", sparsity=0.5)


def test_an_abandoned_grid_leaves_the_model_dense(tiny_llama: nn.Module, tokens: torch.Tensor) -> None:
    before = weights_of(tiny_llama)

    def fail(model: nn.Module) -> dict:
        raise RuntimeError("measurement broke")

    with pytest.raises(RuntimeError, match="measurement broke"):
        list(prune_grid(tiny_llama, tokens, methods=["wanda"], sparsities=[0.5], evaluate=fail))
    assert_unchanged(tiny_llama, before)
    rows = prune_grid(tiny_llama, tokens, methods=["wanda"], sparsities=[0.5, 0.6], evaluate=lambda m: {"one": 1})
    next(rows)
    rows.close()
    assert_unchanged(tiny_llama, before)
