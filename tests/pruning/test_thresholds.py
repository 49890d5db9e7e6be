"""One threshold over many matrices is the one of their values joined, and needs no joining."""

import weakref
from collections.abc import Iterator

import pytest
import torch
from torch import nn

import labutils as lab
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.dense_statistics import DenseStatistics
from labutils.pruning.matrices import ScoreMethod
from labutils.pruning.thresholds import kth_lowest_of_parts
from labutils.sweeps import losses


def draw(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randn(rows, 17, generator=generator) for rows in (1, 5, 40)]
    parts[1] = parts[1].round(decimals=1)  # ties
    parts[2][0] = torch.tensor([0.0, -0.0] * 8 + [torch.inf])
    parts[2][1] *= 1e-42  # subnormal
    parts[2][2] = -torch.inf
    return parts


@pytest.mark.parametrize("seed", range(4))
def test_each_rank_among_all_values_is_found(seed: int) -> None:
    parts = draw(seed)
    ordered = torch.cat([part.reshape(-1) for part in parts]).sort().values
    found = kth_lowest_of_parts(lambda: iter(parts), range(1, len(ordered) + 1))
    assert [found[count] for count in range(1, len(ordered) + 1)] == ordered.tolist()


def test_no_rank_reads_nothing() -> None:
    assert kth_lowest_of_parts(lambda: pytest.fail("read"), []) == {}


@pytest.mark.parametrize("score", ["magnitude", "ri"])
def test_a_global_threshold_on_weights_alone_runs_no_tokens(
    tiny_llama: nn.Module, score: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = torch.randint(0, 64, (4, 12), generator=torch.Generator().manual_seed(0))
    walk = BlockWalk(tiny_llama, tokens)
    statistics = DenseStatistics(walk)
    method, options = ScoreMethod(score), {"standardise": True, "damping": 0.01}
    read = list(statistics._scores_of_inputs(method, True, 0.01))
    by_pass = statistics._cut_globally(lambda: read, {0.5})[0.5]
    monkeypatch.setattr(BlockWalk, "collect_and_advance", lambda *args, **kwargs: pytest.fail("tokens were run"))
    assert statistics.global_sparsities(method, 0.5, **options) == by_pass


def test_another_draw_does_not_repeat_a_global_pruning_of_weights_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No calibration changes magnitude under one threshold: the second draw finds the rows of the first."""
    evaluated = []
    own = losses.item_losses
    monkeypatch.setattr(losses, "item_losses", lambda *args: evaluated.append(1) or own(*args))
    sizes = lab.sweeps.SweepSizes(n_calibration=2, n_items=2, seq_len=32)
    arms = ["magnitude/global", "wanda/global"]
    rows = lab.sweep("lab-llama", ["lab:review"], arms=arms, sparsities=[0.5], n_draws=2, sizes=sizes)
    assert len(evaluated) == 1 + 1 + 2  # dense, magnitude once, Wanda in each draw
    by_draw = rows.pivot_table(index="item", columns=["arm", "draw"], values="loss")
    assert (by_draw["magnitude/global", 0] == by_draw["magnitude/global", 1]).all()
    assert (by_draw["wanda/global", 0] != by_draw["wanda/global", 1]).all()


def test_a_global_threshold_on_weights_holds_the_scores_of_a_matrix_at_a_time() -> None:
    weights = torch.randn(16, 64, 64, generator=torch.Generator().manual_seed(0))
    seen, alive = [], []

    def scores() -> Iterator[torch.Tensor]:
        for weight in weights:
            alive.append(sum(reference() is not None for reference in seen))
            score = weight.abs()
            seen.append(weakref.ref(score))
            yield score
            del score

    found = kth_lowest_of_parts(scores, {1000})
    assert found[1000] == weights.abs().flatten().kthvalue(1000).values
    assert len(seen) > len(weights) and max(alive) <= 1  # the caller's name for the last one
