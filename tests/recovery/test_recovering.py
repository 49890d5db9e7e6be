"""Every way to recover keeps every zero and trains what it says; bad input leaves the model as it was."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import MixtralConfig, MixtralForCausalLM

from labutils.pruning import prune
from labutils.recovery import Diverged, kept_places, parameters_of, recover, reestimate
from labutils.recovery.places import count_zeros
from labutils.recovery.recovering import GOALS, changed_parameters, draw_batches, logit_divergence
from labutils.recovery.removal import silence_neurons
from labutils.structured import silence_blocks

pytest.importorskip("peft")
TOKENS = torch.randint(3, 64, (12, 16), generator=torch.Generator().manual_seed(1))
NAMES = ["tiny_llama", "tiny_gpt2", "tiny_opt"]
WAYS = ["lora", "norms", "biases+norms", "biases+norms+lora", "head", "all"]
SHORT = {"steps": 4, "learning_rate": 0.02, "batch_size": 4, "rank": 2}


def pruned(model: nn.Module, kind: str) -> nn.Module:
    model = copy.deepcopy(model)
    if kind == "wanda":
        prune(model, TOKENS, method="wanda", sparsity=0.6)
    elif kind == "neurons":
        silence_neurons(model, {0: [1, 2, 5], 2: [0]})
    else:
        silence_blocks(model, [1])
    return model


@pytest.mark.parametrize("kind", ["wanda", "neurons", "blocks"])
@pytest.mark.parametrize("name", NAMES)
def test_every_way_keeps_every_zero(name: str, kind: str, request: pytest.FixtureRequest) -> None:
    dense = request.getfixturevalue(name)
    damaged = pruned(dense, kind)
    kept = kept_places(damaged, dense)
    places = sum(int((~mask).sum()) for mask in kept.values())
    assert places == sum(
        int(((one == 0) & (before != 0)).sum())
        for one, before in zip(damaged.parameters(), dense.parameters(), strict=True)
    )
    for trained in WAYS:
        for goal in GOALS:
            healed = copy.deepcopy(damaged)
            done = recover(healed, TOKENS, trained=trained, goal=goal, dense=dense, **SHORT)
            assert count_zeros(healed, kept) == places, (trained, goal)
            assert healed.state_dict().keys() == damaged.state_dict().keys()
            assert len(done.losses) == 4 and done.tokens == 4 * 4 * 16 and done.seconds > 0
            assert any(not torch.equal(a, b) for a, b in zip(healed.parameters(), damaged.parameters(), strict=True)), (
                trained
            )
    healed = copy.deepcopy(damaged)
    reestimate(healed, dense, TOKENS)
    assert count_zeros(healed, kept) == places


@pytest.mark.parametrize("name", NAMES)
def test_only_what_is_named_changes(name: str, request: pytest.FixtureRequest) -> None:
    damaged = pruned(request.getfixturevalue(name), "wanda")
    for trained in ("norms", "biases+norms", "head"):
        healed = copy.deepcopy(damaged)
        done = recover(healed, TOKENS, trained=trained, **SHORT)
        wanted = parameters_of(healed, trained.split("+"))
        assert done.trained_parameters == sum(p.numel() for p in wanted)
        own = {id(one) for one in wanted}
        for (label, one), before in zip(healed.named_parameters(), damaged.parameters(), strict=True):
            assert (id(one) in own) or torch.equal(one, before), label
            assert one.requires_grad and one.grad is None
        assert not healed.training


def test_training_everything_is_a_plain_loop_with_masked_gradients(tiny_llama: nn.Module) -> None:
    damaged = pruned(tiny_llama, "wanda")
    healed, plain = copy.deepcopy(damaged), copy.deepcopy(damaged)
    recover(healed, TOKENS, trained="all", steps=5, learning_rate=0.01, batch_size=4, seed=3)
    masks = [(p, p.detach() != 0) for p in plain.model.layers.parameters() if p.ndim == 2]
    optimizer = torch.optim.AdamW(plain.parameters(), lr=0.01, weight_decay=0.0)
    shares = [1.0, 5 / 5 * 0.8, 0.6, 0.4, 0.2]
    for share, batch in zip(shares, draw_batches(TOKENS, 5, 4, 3), strict=True):
        optimizer.param_groups[0]["lr"] = 0.01 * share
        logits = plain(batch).logits[:, :-1]
        loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        for parameter, mask in masks:
            parameter.grad[~mask] = 0.0
        nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.step()
    for one, other in zip(healed.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_batches_pass_over_all_sequences_before_any_comes_again() -> None:
    batches = torch.cat(list(draw_batches(torch.arange(10)[:, None], 5, 4, seed=0)))[:, 0]
    assert sorted(batches[:10].tolist()) == sorted(batches[10:].tolist()) == list(range(10))
    assert batches[:10].tolist() != batches[10:].tolist()


def test_the_divergence_is_that_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(2, 3, 7, generator=generator) for _ in range(2))
    expected = F.kl_div(
        other.log_softmax(-1).flatten(0, 1), one.log_softmax(-1).flatten(0, 1), log_target=True, reduction="batchmean"
    )
    torch.testing.assert_close(logit_divergence(one, other), expected)
    assert logit_divergence(one, one) == 0


def test_logits_bring_a_model_nearer_to_the_dense_one_than_it_was(tiny_llama: nn.Module) -> None:
    healed = pruned(tiny_llama, "wanda")
    done = recover(healed, TOKENS, trained="all", goal="logits", dense=tiny_llama, steps=30, learning_rate=0.01)
    assert done.losses[-1] < 0.5 * done.losses[0]


def test_weights_of_sixteen_bits_move_by_steps_that_they_could_not_hold(tiny_llama: nn.Module) -> None:
    """bfloat16 near 1 has steps of 1/128: forty updates of 1e-3 would all be rounded away."""
    model = tiny_llama.to(torch.bfloat16)
    recover(model, TOKENS, trained="norms", steps=40, learning_rate=1e-3)
    norm = model.model.norm.weight
    assert norm.dtype == torch.bfloat16 and (norm != 1).any()


BAD = [
    ({"steps": 0}, ValueError, "must be at least 1"),
    ({"learning_rate": 0.0}, ValueError, "above 0"),
    ({"trained": "bias"}, LookupError, "biases"),
    ({"trained": "all+norms"}, LookupError, "stands alone"),
    ({"trained": "biases"}, LookupError, "has no biases"),
    ({"goal": "logit"}, ValueError, "must be one of"),
    ({"goal": "logits"}, ValueError, "needs dense"),
    ({"learning_rate": 1e30, "trained": "all"}, ValueError, "lower the learning rate"),
    ({"learning_rate": 1e30, "trained": "norms+lora"}, ValueError, "lower the learning rate"),
    ({"learning_rate": 1e15, "trained": "all", "steps": 1}, Diverged, "behind the last step"),
    ({"learning_rate": 1e15, "trained": "biases+norms+lora", "steps": 1}, Diverged, "behind the last step"),
]


@pytest.mark.parametrize(("options", "error", "message"), BAD)
def test_bad_input_leaves_the_model_as_it_was(options, error, message: str, tiny_llama: nn.Module) -> None:
    model = pruned(tiny_llama, "wanda")
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(error, match=message):
        recover(model, TOKENS, **{"steps": 8, **options})
    after = model.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)
    assert all(p.requires_grad for p in model.parameters()) and not model.training


def tiny_mixtral() -> MixtralForCausalLM:
    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2,
    )  # fmt: skip
    return MixtralForCausalLM(config).eval()


@pytest.mark.parametrize("trained", [*WAYS, "experts"])
def test_an_error_behind_the_training_undoes_it(trained: str, tiny_gpt2: nn.Module, monkeypatch) -> None:
    """Also of adapters, merged by then; what no step changes is not copied to be put back."""
    model = pruned(tiny_mixtral() if trained == "experts" else tiny_gpt2, "wanda")
    trained = "lora" if trained == "experts" else trained
    before = copy.deepcopy(model.state_dict())
    moved = copy.deepcopy(model)
    recover(moved, TOKENS, trained=trained, **SHORT)
    assert any(not torch.equal(value, before[name]) for name, value in moved.state_dict().items())

    def broken(*_: object) -> None:
        raise RuntimeError("a pruned place is no longer zero")

    monkeypatch.setattr("labutils.recovery.recovering.assert_kept", broken)
    with pytest.raises(RuntimeError, match="no longer zero"):
        recover(model, TOKENS, trained=trained, **SHORT)
    after = model.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)
    parts = [part for part in trained.split("+") if part != "lora"]
    copied = sum(one.numel() for one in changed_parameters(model, parts, with_lora="lora" in trained))
    assert copied < 0.95 * model.num_parameters() or trained == "all"


def test_what_cannot_move_is_not_counted(tiny_llama: nn.Module) -> None:
    silent = pruned(tiny_llama, "blocks")
    done = recover(silent, TOKENS, dense=tiny_llama, **SHORT)
    per_block = 2 * (4 * (16 + 16) + 3 * (16 + 24))  # rank × (inputs + outputs) of seven matrices
    assert done.trained_parameters == 2 * per_block  # of three blocks one is silent
    everything = recover(pruned(tiny_llama, "wanda"), TOKENS, trained="all", **{**SHORT, "learning_rate": 1e-4})
    zeros = sum(int((~mask).sum()) for mask in kept_places(pruned(tiny_llama, "wanda")).values())
    assert everything.trained_parameters == tiny_llama.num_parameters() - zeros > 0
    assert done.spent.wall_seconds > 0 and done.seconds == done.spent.seconds > 0


def test_a_dense_zero_is_not_pruned(tiny_llama: nn.Module, tiny_gpt2: nn.Module) -> None:
    with torch.no_grad():
        tiny_llama.model.layers[0].mlp.up_proj.weight[0, 0] = 0.0
    damaged = pruned(tiny_llama, "wanda")
    assert kept_places(damaged, tiny_llama)["model.layers.0.mlp.up_proj.weight"][0, 0]
    assert not kept_places(damaged)["model.layers.0.mlp.up_proj.weight"][0, 0]
    with pytest.raises(ValueError, match="before its pruning"):
        kept_places(damaged, tiny_gpt2)
