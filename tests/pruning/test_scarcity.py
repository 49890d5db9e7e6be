"""Whether there are enough calibration tokens for a Hessian."""

import logging

import pytest
import torch
from transformers import PreTrainedModel

from labutils.pruning import prune
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.scarcity import needed_damping, tell_once, tokens_per_input


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    tell_once.cache_clear()
    caplog.set_level(logging.WARNING, logger="labutils")
    return caplog


def ids(rows: int, length: int) -> torch.Tensor:
    return torch.randint(3, 64, (rows, length), generator=torch.Generator().manual_seed(0))


def test_padding_is_no_token(tiny_llama: PreTrainedModel) -> None:
    width = tiny_llama.config.intermediate_size
    mask = torch.ones(4, 16, dtype=torch.int64)
    mask[:, 8:] = 0
    walk = BlockWalk(tiny_llama, {"input_ids": ids(4, 16), "attention_mask": mask})
    assert tokens_per_input(walk) == 32 / width
    assert needed_damping(walk) == pytest.approx(0.1 * width / 32)


@pytest.mark.parametrize("method", ["sparsegpt", "ria+obs", "optiprune", "wanda+swaps"])
def test_scarce_tokens_are_told_once_and_not_for_ever(
    tiny_llama: PreTrainedModel, told: pytest.LogCaptureFixture, method: str
) -> None:
    for _ in range(2):
        prune(tiny_llama, ids(2, 16), method=method, sparsity=0.6)
    assert len(told.messages) == 1
    assert f"{method}: {32 / tiny_llama.config.intermediate_size:.2g} calibration tokens per input" in told.messages[0]
    assert "Take more sequences, or damping=" in told.messages[0]


def test_nothing_is_told_where_tokens_or_damping_suffice(
    tiny_llama: PreTrainedModel, told: pytest.LogCaptureFixture
) -> None:
    width = tiny_llama.config.intermediate_size
    prune(tiny_llama, ids(10, width), method="sparsegpt", sparsity=0.5)
    prune(tiny_llama, ids(2, 16), method="sparsegpt", sparsity=0.5, damping=0.1 * width / 32)
    prune(tiny_llama, ids(2, 16), method="wanda", sparsity=0.5)  # norms are known from far fewer
    prune(tiny_llama, ids(2, 16), method="optiprune", sparsity=0.3)  # relative importance below its threshold
    prune(tiny_llama, ids(2, 16), method="optiprune-auto", sparsity=0.5)  # raises its damping itself
    prune(tiny_llama, ids(2, 16), method="sparsegpt", sparsity=0.0)  # of nothing there is no repair
    assert told.messages == []


@pytest.mark.parametrize("damping", [0.0, -1.0, float("nan"), float("inf")])
def test_a_damping_that_is_none_is_refused(tiny_llama: PreTrainedModel, damping: float) -> None:
    with pytest.raises(ValueError, match="damping .* must be above 0"):
        prune(tiny_llama, ids(2, 16), method="sparsegpt", sparsity=0.5, damping=damping)
