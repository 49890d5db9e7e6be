"""Training a batch in parts comes to the same step as the whole batch, and keeps no more than a part."""

import copy
import gc

import pytest
import torch

from labutils.training import parts_of_batches
from labutils.training.masked_lora import add_lora, tune_lora
from labutils.training.parts_of_batches import kept_by_rows, kept_bytes, rows_that_fit, step_in_parts

TOKENS = torch.randint(64, (6, 16), generator=torch.Generator().manual_seed(0))


def loss_of(model):
    return lambda rows: model(input_ids=rows, labels=rows).loss


def test_parts_come_to_the_step_of_the_whole_batch(tiny_llama):
    found = []
    for rows in (6, 4, 1):
        model = copy.deepcopy(tiny_llama)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        loss = step_in_parts(optimizer, loss_of(model), TOKENS, rows=rows, step=0)
        found.append((loss, torch.cat([one.detach().flatten() for one in model.parameters()])))
    before = torch.cat([one.detach().flatten() for one in tiny_llama.parameters()])
    assert (found[0][1] - before).abs().max() > 1e-3
    for loss, weights in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-5)
        torch.testing.assert_close(weights, found[0][1], rtol=1e-4, atol=1e-5)


def test_a_step_that_would_spoil_the_weights_is_not_taken(tiny_llama):
    before = {name: each.clone() for name, each in tiny_llama.state_dict().items()}
    optimizer = torch.optim.SGD(tiny_llama.parameters(), lr=0.5)

    def spoilt(rows):
        return loss_of(tiny_llama)(rows) * (float("inf") if rows.equal(TOKENS[3:]) else 1.0)

    with pytest.raises(ValueError, match="the loss at step 7 is inf; lower the learning rate"):
        step_in_parts(optimizer, spoilt, TOKENS, rows=3, step=7)
    assert all(each.equal(before[name]) for name, each in tiny_llama.state_dict().items())


def test_what_is_kept_grows_with_the_rows_and_holds_no_weights(tiny_llama, monkeypatch):
    fixed, of_row = kept_by_rows(tiny_llama, loss_of(tiny_llama), TOKENS[:1])
    one, three = (kept_bytes(tiny_llama, loss_of(tiny_llama), TOKENS[:n]) for n in (1, 3))
    logits = TOKENS[:1].numel() * 64 * 4
    assert one > logits and three == pytest.approx(3 * one, rel=0.1)
    assert 0 <= fixed < 0.1 * one and fixed + 3 * of_row == pytest.approx(three, rel=0.01)
    wide = copy.deepcopy(tiny_llama)
    wide.register_buffer("unused", torch.zeros(10**6))
    assert kept_bytes(wide, loss_of(wide), TOKENS[:1]) == one
    for limit, rows in ((10 * one, 6), (int(2.5 * one), 2), (1, 1)):
        monkeypatch.setattr(parts_of_batches, "KEPT_AT_ONCE", limit)
        assert rows_that_fit(tiny_llama, loss_of(tiny_llama), TOKENS) == rows


def test_what_adapters_keep_of_whole_matrices_is_the_same_for_any_rows(tiny_llama):
    """The update that falls on pruned weights is a matrix as large as the layer's own, however few rows there are."""
    size = 4 * sum(one.numel() for name, one in tiny_llama.model.layers.named_parameters() if one.ndim == 2)
    plain = kept_by_rows(tiny_llama, loss_of(tiny_llama), TOKENS[:1])[0]
    adapted = add_lora(tiny_llama, rank=2)
    fixed, of_row = kept_by_rows(adapted, loss_of(adapted), TOKENS[:1])
    assert 0.7 * size < fixed - plain < 1.3 * size  # of the first block fewer, whose inputs need no gradient
    assert fixed + 4 * of_row == pytest.approx(kept_bytes(adapted, loss_of(adapted), TOKENS[:4]), rel=0.01)


def test_nothing_stays_of_what_was_measured(tiny_llama) -> None:
    def held() -> int:
        gc.collect()
        return sum(isinstance(each, torch.Tensor) and each.grad_fn is not None for each in gc.get_objects())

    before = held()
    kept_bytes(tiny_llama, loss_of(tiny_llama), TOKENS)
    assert held() == before


def test_adapters_are_tuned_alike_whatever_fits(tiny_llama, monkeypatch):
    whole, losses = tune_lora(copy.deepcopy(tiny_llama), TOKENS, rank=2, steps=3, batch_size=4)
    seen, plain = [], type(tiny_llama).forward
    monkeypatch.setattr(parts_of_batches, "KEPT_AT_ONCE", 1)
    monkeypatch.setattr(
        type(tiny_llama), "forward", lambda self, **given: seen.append(len(given["input_ids"])) or plain(self, **given)
    )
    parts, by_rows = tune_lora(copy.deepcopy(tiny_llama), TOKENS, rank=2, steps=3, batch_size=4)
    assert seen == [1, 2] + [1] * 3 * 4  # measured first
    assert by_rows == pytest.approx(losses, rel=1e-4)
    for name, each in parts.state_dict().items():
        torch.testing.assert_close(each, whole.state_dict()[name], rtol=1e-3, atol=1e-4)
