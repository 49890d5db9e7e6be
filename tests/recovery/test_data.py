"""What a model writes itself, and which sequences a score chooses."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from labutils.evaluation import sequence_losses
from labutils.pruning import prune
from labutils.recovery import (
    choose_share,
    continuation_losses,
    divergences,
    join_prompts,
    own_continuations,
    score_data,
    select_pools,
    target_clusters,
)
from labutils.recovery.data_scores import js_divergence

TOKENS = torch.randint(3, 64, (6, 16), generator=torch.Generator().manual_seed(1))


def test_greedy_continuations_are_the_likeliest_tokens(tiny_llama: nn.Module) -> None:
    found = own_continuations(tiny_llama, TOKENS[:, :4], seq_len=10, sampled=False)
    expected = TOKENS[:, :4]
    with torch.no_grad():
        for _ in range(6):
            expected = torch.cat([expected, tiny_llama(expected).logits[:, -1:].argmax(-1)], 1)
    assert torch.equal(found, expected)
    sampled = [own_continuations(tiny_llama, TOKENS[:, :4], seq_len=10, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(sampled[0], sampled[1]) and not torch.equal(sampled[0], sampled[2])
    assert torch.equal(sampled[0][:, :4], TOKENS[:, :4])
    with pytest.raises(ValueError, match="leave nothing to write"):
        own_continuations(tiny_llama, TOKENS[:, :10], seq_len=10)


def test_samples_follow_the_models_distribution(tiny_llama: nn.Module) -> None:
    prompts = TOKENS[:1, :4].repeat(3000, 1)
    drawn = own_continuations(tiny_llama, prompts, seq_len=5, batch_size=3000)[:, 4]
    with torch.no_grad():
        wanted = tiny_llama(TOKENS[:1, :4]).logits[0, -1].softmax(-1).numpy()
    found = np.bincount(drawn.numpy(), minlength=64) / 3000
    assert np.abs(found - wanted).sum() / 2 < 0.08


def test_the_loss_of_a_continuation_leaves_the_prompt_out(tiny_gpt2: nn.Module) -> None:
    assert torch.allclose(continuation_losses(tiny_gpt2, TOKENS, 1), sequence_losses(tiny_gpt2, TOKENS), atol=1e-6)
    found = continuation_losses(tiny_gpt2, TOKENS, 12)
    with torch.no_grad():
        logs = tiny_gpt2(TOKENS).logits.log_softmax(-1)
    expected = [-np.mean([logs[i, t - 1, TOKENS[i, t]].item() for t in range(12, 16)]) for i in range(6)]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)
    with pytest.raises(ValueError, match="from 1 to 15"):
        continuation_losses(tiny_gpt2, TOKENS, 16)


def test_scores_of_data_are_those_of_a_slow_loop(tiny_llama: nn.Module) -> None:
    found = score_data(tiny_llama, TOKENS, batch_size=4)
    with torch.no_grad():
        probabilities = tiny_llama(TOKENS).logits.double().softmax(-1)
    for i in range(6):
        errors, losses = [], []
        for t in range(15):
            p = probabilities[i, t].clone()
            losses.append(-math.log(p[TOKENS[i, t + 1]]))
            p[TOKENS[i, t + 1]] -= 1
            errors.append(p.norm().item())
        assert found["el2n"][i] == pytest.approx(np.mean(errors), rel=1e-4)
        assert found["perplexity"][i] == pytest.approx(math.exp(np.mean(losses)), rel=1e-4)


def test_bands_of_a_score() -> None:
    scores = [float(n) for n in (9, 0, 8, 1, 7, 2, 6, 3, 5, 4)]
    chosen = {band: sorted(scores[i] for i in choose_share(scores, 0.4, band)) for band in ("low", "middle", "high")}
    assert chosen == {"low": [0, 1, 2, 3], "middle": [3, 4, 5, 6], "high": [6, 7, 8, 9]}
    assert choose_share(scores, 1.0) == list(range(10))
    for bad in [{"share": 0.0}, {"share": 0.5, "band": "mid"}]:
        with pytest.raises(ValueError, match="share="):
            choose_share(scores, **bad)
    with pytest.raises(ValueError, match="finite"):
        choose_share([1.0, math.nan], 0.5)


def test_divergences_are_those_of_the_definition(tiny_llama: nn.Module) -> None:
    other = copy.deepcopy(tiny_llama)
    with torch.no_grad():
        other.model.layers[0].mlp.down_proj.weight.zero_()
    found = divergences(tiny_llama, other, TOKENS, batch_size=4)
    with torch.no_grad():
        p, q = (model(TOKENS).logits.double().softmax(-1) for model in (tiny_llama, other))
    m = (p + q) / 2
    expected = ((p * (p / m).log()).sum(-1) + (q * (q / m).log()).sum(-1)).mean(1) / 2
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4)
    assert divergences(tiny_llama, tiny_llama, TOKENS).max() < 1e-6
    apart = torch.tensor([[0.0, -math.inf], [-math.inf, 0.0]])
    assert js_divergence(apart[0], apart[1]).item() == pytest.approx(math.log(2))


def test_targets_follow_what_was_lost() -> None:
    lost, names = [0.6, 0.5, 0.4, 0.1, 0.1, 0.1, 0.1], ["a"] * 3 + ["b"] * 4
    chosen = target_clusters(lost, names, 4)
    assert [names[i] for i in chosen].count("a") == 3 and chosen[:3] == [0, 1, 2]  # all that cluster a has
    assert target_clusters(lost, names, 1) == [0] and target_clusters(lost, names, 7) == list(range(7))
    assert target_clusters([0.2, 0.2, 0.1, 0.1], ["a", "a", "b", "b"], 3) == [0, 1, 2]
    for bad in [(lost, names, 8), (lost, names[:3], 2), ([-0.1], ["a"], 1)]:
        with pytest.raises(ValueError, match="cannot be chosen"):
            target_clusters(*bad)


def test_prompts_fill_windows() -> None:
    joined = join_prompts(torch.arange(32).reshape(4, 8), 4)
    assert joined.tolist() == [[0, 1, 2, 3, 8, 9, 10, 11], [16, 17, 18, 19, 24, 25, 26, 27]]
    for rows, prompt in [(3, 4), (4, 3), (4, 0)]:
        with pytest.raises(ValueError, match="do not fill"):
            join_prompts(torch.arange(8 * rows).reshape(rows, 8), prompt)


def test_pools_hold_what_the_scores_choose(tiny_llama: nn.Module, tiny_gpt2: nn.Module, tiny_opt: nn.Module) -> None:
    pool = {
        source: [torch.randint(3, 64, (10, 16), generator=torch.Generator().manual_seed(10 + n + d)) for d in (0, 1)]
        for n, source in enumerate(["lab:one", "lab:two"])
    }
    hurt = copy.deepcopy(tiny_llama)
    prune(hurt, TOKENS, method="wanda", sparsity=0.5)
    given = {"dense": tiny_llama, "calibrations": [TOKENS, TOKENS], "method": "wanda", "sparsity": 0.5}
    given |= {"reference": tiny_gpt2, "small": tiny_opt}
    pools, table = select_pools(pool, **given)
    sizes = {name: {len(each) for each in own} for name, own in pools.items()}
    assert sizes == {
        "all": {20}, "perplexity": {6}, "el2n": {6}, "small": {10}, "targeted": {4},
        "random-20": {4}, "random-30": {6}, "random-50": {10},
    }  # fmt: skip
    whole = torch.cat([pool["lab:one"][1], pool["lab:two"][1]])
    assert torch.equal(pools["small"][1], whole[choose_share(score_data(tiny_opt, whole)["perplexity"], 0.5)])
    names = ["lab:one"] * 10 + ["lab:two"] * 10
    assert torch.equal(pools["targeted"][1], whole[target_clusters(divergences(tiny_llama, hurt, whole), names, 4)])
    read = table.groupby("selection")["read"].unique().map(lambda each: each.item()).to_dict()
    once = whole.numel()
    assert read == {"all": 0, "perplexity": once, "el2n": once, "small": once, "targeted": 2 * once, **dict.fromkeys(
        ("random-20", "random-30", "random-50"), 0)}  # fmt: skip
    inside = {**given, "calibrations": [TOKENS, pool["lab:two"][1][3:5]]}
    with pytest.raises(ValueError, match="lab:two: the pool holds sequences that pruning is calibrated on"):
        select_pools(pool, **inside)
    assert table.groupby(["draw", "selection"])["share"].sum().tolist() == pytest.approx([1.0] * 16)
