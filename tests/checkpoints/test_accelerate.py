"""Models that `accelerate` has placed: the same result where every weight is on a device, a clear word where not."""

import copy

import pytest
from checkpoint_models import TOKENS, assert_same_report, assert_same_state, untied_llama

from labutils.pruning import prune

accelerate = pytest.importorskip("accelerate")


@pytest.mark.parametrize("method", ["wanda", "sparsegpt"])
def test_a_dispatched_model(method: str) -> None:
    plain = untied_llama()
    placed = accelerate.dispatch_model(copy.deepcopy(plain), {"": "cpu"}, main_device="cpu", force_hooks=True)
    assert hasattr(placed.model.layers[0].mlp.up_proj, "_hf_hook") or hasattr(placed, "_hf_hook")
    reports = [prune(model, TOKENS, method=method, sparsity=0.5, allocation="owl") for model in (plain, placed)]
    assert_same_report(*reports)
    assert_same_state(placed, plain)


def test_an_offloaded_model_is_sent_to_the_disk_way() -> None:
    model = accelerate.cpu_offload(untied_llama(), "cpu")
    assert model.model.layers[0].mlp.up_proj.weight.is_meta
    with pytest.raises(ValueError, match="prune_checkpoint"):
        prune(model, TOKENS, method="wanda", sparsity=0.5)
