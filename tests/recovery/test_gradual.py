"""Pruning while training: the schedule, the score of movement by hand, and penalties on what will go."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from labutils.recovery import Diverged, choose_neurons, prune_while_tuning, silence_neurons, tune_with_penalty
from labutils.recovery.gradual import _Run, growing_share, keep_largest
from labutils.recovery.penalised import group_norms
from labutils.recovery.removal import find_feed_forward, neuron_slices

TOKENS = torch.randint(3, 64, (12, 16), generator=torch.Generator().manual_seed(1))
NAMES = ["tiny_llama", "tiny_gpt2", "tiny_opt"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("score", ["movement", "magnitude"])
def test_every_matrix_ends_at_the_sparsity(name: str, score: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(name)
    done = prune_while_tuning(model, TOKENS, score=score, sparsity=0.5, steps=10, learning_rate=0.01, batch_size=4)
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and ("layers." in n or ".h." in n)]
    assert len(matrices) >= 12
    for matrix in matrices:
        assert (matrix == 0).sum() == round(0.5 * matrix.numel())
    assert len(done.losses) == 10 and not model.training


def test_the_sparsity_grows_from_nothing_to_the_target() -> None:
    shares = [growing_share(step, 100, 0.8) for step in range(1, 101)]
    assert shares[:10] == [0.0] * 10 and shares[-1] == shares[70] == 0.8
    assert shares == sorted(shares)
    assert growing_share(40, 100, 0.8) == pytest.approx(0.8 * (1 - 0.5**3))


def test_movement_is_the_sum_of_gradient_times_weight(tiny_llama: nn.Module) -> None:
    """Two steps by hand, from a masked pass whose gradient also reaches the pruned weights."""
    plain = copy.deepcopy(tiny_llama)
    layer = plain.model.layers[1].mlp.up_proj
    shown = [tiny_llama.model.layers[1].mlp.up_proj.weight]
    run = _Run(tiny_llama, shown, "movement")
    optimizer = torch.optim.SGD(run.trained(), lr=0.0)
    hidden, scores = layer.weight.detach().clone(), torch.zeros_like(layer.weight)
    for share in (0.0, 0.5):
        run.step(TOKENS[:4], optimizer, share, 0.0)
        with torch.no_grad():
            layer.weight.copy_(hidden * keep_largest(scores, share))
        logits = plain(TOKENS[:4]).logits[:, :-1]
        loss = F.cross_entropy(logits.flatten(0, 1), TOKENS[:4, 1:].flatten())
        (gradient,) = torch.autograd.grad(loss, layer.weight)
        scores = scores - gradient * hidden
    torch.testing.assert_close(run.scores[0], scores, rtol=1e-4, atol=1e-6)
    assert (shown[0] == 0).sum() == shown[0].numel() // 2


@pytest.mark.parametrize("score", ["movement", "magnitude"])
def test_movement_masks_nothing_before_it_has_a_score(score: str, tiny_llama: nn.Module) -> None:
    """Three steps begin with a sparsity above zero; ties of scores that are all zero would take whole rows."""
    assert growing_share(1, 3, 0.8) > 0.3
    with torch.no_grad():
        batch = TOKENS[torch.randperm(12, generator=torch.Generator().manual_seed(0))[:4]]
        dense = tiny_llama(batch, labels=batch).loss.item()
    done = prune_while_tuning(tiny_llama, TOKENS, score=score, sparsity=0.8, steps=3, learning_rate=1e-3, batch_size=4)
    assert (done.losses[0] == pytest.approx(dense, rel=1e-5)) == (score == "movement")
    assert (tiny_llama.model.layers[0].mlp.up_proj.weight == 0).float().mean() == pytest.approx(0.8, abs=0.01)


def test_sixteen_bits_learn_behind_copies_of_thirty_two(tiny_llama: nn.Module) -> None:
    model = tiny_llama.to(torch.bfloat16)
    prune_while_tuning(model, TOKENS, score="magnitude", sparsity=0.5, steps=40, learning_rate=1e-3, batch_size=4)
    norm = model.model.norm.weight
    assert norm.dtype == torch.bfloat16 and (norm != 1).any()


def test_what_is_largest_is_kept() -> None:
    scores = torch.tensor([[3.0, 1.0], [1.0, 2.0]])
    assert keep_largest(scores, 0.0).all() and keep_largest(scores, 0.25).tolist() == [[True, True], [False, True]]
    assert keep_largest(scores, 0.75).tolist() == [[True, False], [False, False]]


@pytest.mark.parametrize("name", NAMES)
def test_group_norms_are_those_of_the_neurons_weights(name: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(name)
    block = next(m for n, m in model.named_modules() if n.endswith(("layers.1", "h.1")))
    layers = find_feed_forward(block)
    found = group_norms(neuron_slices(layers, [4, 7]))
    silent = copy.deepcopy(model)
    for number, neuron in enumerate([4, 7]):
        before = {n: p.detach().clone() for n, p in silent.named_parameters()}
        silence_neurons(silent, {1: [neuron]})
        gone = sum((before[n] - p.detach()).square().sum() for n, p in silent.named_parameters())
        torch.testing.assert_close(found[number], gone.sqrt().reshape(()), rtol=1e-4, atol=1e-5)


def test_a_penalty_empties_what_will_be_removed(tiny_llama: nn.Module) -> None:
    neurons = choose_neurons(tiny_llama, TOKENS, 0.5)
    free, bound = copy.deepcopy(tiny_llama), copy.deepcopy(tiny_llama)
    options = {"steps": 20, "learning_rate": 0.02, "batch_size": 4}
    tune_with_penalty(free, TOKENS, neurons, strength=0.0, **options)
    tune_with_penalty(bound, TOKENS, neurons, strength=0.5, **options)

    def size(model: nn.Module) -> float:
        blocks = model.model.layers
        return sum(
            group_norms(neuron_slices(find_feed_forward(blocks[i]), own)).sum().item() for i, own in neurons.items()
        )

    assert size(bound) < 0.7 * size(free)


def test_bad_input_leaves_the_model_as_it_was(tiny_llama: nn.Module) -> None:
    before = copy.deepcopy(tiny_llama.state_dict())
    for options, message in [({"sparsity": 1.0}, "between 0 and 1"), ({"score": "taylor"}, "must be one of")]:
        with pytest.raises(ValueError, match=message):
            prune_while_tuning(tiny_llama, TOKENS, **{"sparsity": 0.5, **options})
    with pytest.raises(ValueError, match="lower the learning rate"):
        prune_while_tuning(tiny_llama, TOKENS, sparsity=0.5, learning_rate=1e30)
    with pytest.raises(Diverged, match="behind the last step"):
        prune_while_tuning(tiny_llama, TOKENS, sparsity=0.5, learning_rate=1e15, steps=1)
    with pytest.raises(ValueError, match="at least 0"):
        tune_with_penalty(tiny_llama, TOKENS, {0: [1]}, strength=-1.0)
    assert all(torch.equal(one, before[name]) for name, one in tiny_llama.state_dict().items())
