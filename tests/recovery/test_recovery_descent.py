"""A training whose batches go through the model in parts comes to the weights of whole batches, and keeps less."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from labutils.recovery import choose_neurons, prune_while_tuning, recover, tune_with_penalty
from labutils.recovery.descent import BatchLoss, wide_copy
from labutils.recovery.recovering import choose_loss
from labutils.training import parts_of_batches

pytest.importorskip("peft")
TOKENS = torch.randint(3, 64, (12, 16), generator=torch.Generator().manual_seed(1))
SHORT = {"steps": 2, "learning_rate": 0.01, "batch_size": 5}


def penalise(model: nn.Module) -> object:
    return tune_with_penalty(model, TOKENS, choose_neurons(model, TOKENS, 0.5), strength=0.1, **SHORT)


def heal(trained: str, goal: str) -> Callable[[nn.Module], object]:
    def run(model: nn.Module) -> object:
        dense = copy.deepcopy(model)
        with torch.no_grad():
            model.model.layers[1].mlp.up_proj.weight[::2] = 0.0
        return recover(model, TOKENS, trained=trained, goal=goal, dense=dense, rank=2, **SHORT)

    return run


# transformers reads the loss of text in 32 bits whatever the model has, so that its rounding stays
WAYS = {
    "logits, all": (heal("all", "logits"), 1e-11),
    "logits, adapters and norms": (heal("norms+lora", "logits"), 1e-11),
    "text, all": (heal("all", "text"), 1e-5),
    "text, adapters": (heal("lora", "text"), 1e-5),
    "penalty": (penalise, 1e-5),
    "movement": (lambda model: prune_while_tuning(model, TOKENS, sparsity=0.5, **SHORT), 1e-5),
}


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch, tiny_llama: nn.Module) -> list[int]:
    """How many rows each pass through a model had."""
    seen, plain = [], type(tiny_llama).forward

    def forward(self, **given):
        seen.append(len(given["input_ids"]))
        return plain(self, **given)

    monkeypatch.setattr(type(tiny_llama), "forward", forward)
    return seen


@pytest.mark.parametrize("way", WAYS)
def test_parts_come_to_the_weights_of_whole_batches(way: str, tiny_llama, read, monkeypatch) -> None:
    """Two steps of a model of 64 bits, five rows at once, and in parts of two, two and one."""
    run, tolerance = WAYS[way]
    found = []
    for rows in (5, 2):
        # what a row keeps differs by way; here only how many fit
        monkeypatch.setattr(
            "labutils.recovery.descent.rows_that_fit", lambda model, loss_of, batch, rows=rows: min(rows, len(batch))
        )
        read.clear()
        model = copy.deepcopy(tiny_llama).double()
        done = run(model)
        found.append((model.state_dict(), torch.tensor(done.losses, dtype=torch.float64), list(read)))
    (whole, losses, at_once), (parts, by_parts, in_parts) = found
    assert 5 in at_once and 5 not in in_parts and in_parts.count(1) >= 3  # two steps, and what stands behind them
    torch.testing.assert_close(by_parts, losses, rtol=tolerance, atol=0)
    start, moved = tiny_llama.double().state_dict(), 0.0
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=0, atol=tolerance)
        moved = max(moved, (value - start[name]).abs().max().item())
    assert moved > 5e-3


@pytest.mark.parametrize("way", ["logits, all", "penalty", "movement"])
def test_a_batch_that_keeps_too_much_is_cut_by_itself(way: str, tiny_llama, read, monkeypatch) -> None:
    monkeypatch.setattr(parts_of_batches, "KEPT_AT_ONCE", 1)
    WAYS[way][0](copy.deepcopy(tiny_llama))
    per_batch = 2 if way.startswith("logits") else 1  # the dense model reads it too
    n_read = per_batch * 3 * 5  # two steps, and behind them
    assert read[-n_read:] == [1] * n_read
    assert read[-n_read - 2 * per_batch : -n_read] == [1] * per_batch + [2] * per_batch  # what rows keep


def test_parts_of_sixteen_bits_are_added_up_in_thirty_two(tiny_llama, monkeypatch) -> None:
    monkeypatch.setattr(parts_of_batches, "KEPT_AT_ONCE", 1)
    model, loss_of = tiny_llama.bfloat16(), choose_loss("text", None)
    expected = {name: torch.zeros_like(one, dtype=torch.float32) for name, one in model.named_parameters()}
    rounded = {name: torch.zeros_like(one) for name, one in model.named_parameters()}
    for row in TOKENS:
        gradients = torch.autograd.grad(loss_of(model, row[None]) / len(TOKENS), list(model.parameters()))
        for name, gradient in zip(expected, gradients, strict=True):
            expected[name] += gradient.float()
            rounded[name] += gradient
    copied = [(one, wide_copy(one)) for one in model.parameters()]
    BatchLoss(model, loss_of, copied).add_gradients(TOKENS)
    for (name, sum_of_parts), (parameter, own) in zip(expected.items(), copied, strict=True):
        assert parameter.grad is None and own.grad.dtype == torch.float32
        torch.testing.assert_close(own.grad, sum_of_parts, rtol=2e-2, atol=1e-5, msg=name)
    errors = [
        sum((grads[name].float() - total).abs().sum().item() for name, total in expected.items())
        for grads in ({name: own.grad for name, (_, own) in zip(expected, copied, strict=True)}, rounded)
    ]
    assert errors[0] < 0.3 * errors[1]
