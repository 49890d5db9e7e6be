"""Units chosen by forward passes alone: masks, the regression, losses of masks, and planted units without use."""

import itertools

import numpy as np
import pytest
import torch
from architectures import ARCHITECTURES, Architecture
from torch import Tensor
from transformers import PreTrainedModel

import labutils as lab
from labutils.models.structure import find_blocks
from labutils.pruning.calibration import BlockWalk
from labutils.structured import masked, shrink_by_losses
from labutils.structured.anatomy import read_anatomies
from labutils.structured.mask_regression import _ridge, draw_pairs, fit_importance
from labutils.structured.perturbation import mask_losses, worst_for_broken

NEURONS = 24


def build(name: str = "llama", **options: object) -> PreTrainedModel:
    base = ARCHITECTURES[name]
    return Architecture(base.model, base.config, {**base.options, "num_hidden_layers": 3, **options}).build()


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def tokens() -> Tensor:
    return torch.randint(3, 60, (5, 9), generator=seeded(3))


def test_masks_come_in_pairs_and_units_of_low_prior_are_off_more_often_in_the_first() -> None:
    prior = torch.tensor([0.0, 1.0, 2.0, 4.0])
    found = draw_pairs(prior, 1, 4000, seeded(0))
    first, second = found[::2], found[1::2]
    assert (first == ~second).all() and (first.sum(dim=1) == 3).all()
    expected = np.array([4.0, 3.0, 2.0, 0.0]) / 9  # one unit, with a chance in proportion to max(prior) − prior
    assert (~first).double().mean(dim=0).numpy() == pytest.approx(expected, abs=0.03)
    two = (~draw_pairs(prior, 2, 4000, seeded(1))[::2]).double().mean(dim=0).tolist()
    chance = {unit: 0.0 for unit in range(3)}  # by hand: the first of two, then the second among those left
    for one, other in itertools.permutations(range(3), 2):
        own = expected[one] * expected[other] / (1 - expected[one])
        chance[one], chance[other] = chance[one] + own, chance[other] + own
    assert two == pytest.approx([*chance.values(), 0.0], abs=0.03)
    assert draw_pairs(torch.ones(6), 3, 5, seeded(0))[::2].sum(dim=1).tolist() == [3] * 5


@pytest.mark.parametrize("strength", [100.0, 0.01])
def test_the_ridge_around_the_prior_is_the_dense_solution(strength) -> None:
    on = draw_pairs(torch.rand(9, generator=seeded(1)), 4, 5, seeded(2)).double()
    y, prior = (
        torch.randn(10, generator=seeded(3)).double() - on.sum(dim=1),
        torch.rand(9, generator=seeded(4)).double(),
    )
    varied = (on - on.mean(0)).square().sum(dim=1).mean()
    # unknowns: the constant, b and δ; only δ is held small
    design = torch.cat([torch.ones(10, 1), (on @ prior)[:, None], on], dim=1).double()
    held = strength * varied * torch.diag(torch.tensor([0.0, 0.0] + [1.0] * 9, dtype=torch.float64))
    solved = torch.linalg.solve(design.T @ design + held, design.T @ y)
    assert solved[1] < 0  # the prior speaks for units that lower the loss
    torch.testing.assert_close(_ridge(y, on, prior, strength), solved[1] * prior + solved[2:], rtol=1e-8, atol=1e-10)


def test_a_prior_that_the_losses_contradict_is_not_turned_around() -> None:
    on = draw_pairs(torch.ones(6), 3, 30, seeded(0))
    prior = torch.tensor([6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
    losses = (on.double() * prior).sum(dim=1)  # a unit of high prior raises the loss
    found = _ridge(losses, on.double(), prior.double(), 1e6)
    assert found.abs().max() < 1e-4


def test_planted_effects_are_found_whatever_the_prior_says() -> None:
    truth = torch.rand(12, generator=seeded(5)).double()
    prior = torch.rand(12, generator=seeded(6))
    on = draw_pairs(prior, 6, 40, seeded(7))
    fit = fit_importance(3 - on.double() @ truth, on, prior)
    assert fit.strength <= 0.01 and torch.argsort(fit.importance).equal(torch.argsort(truth))
    noise = fit_importance(torch.randn(80, generator=seeded(8)), on, prior)
    assert noise.strength == 100.0  # left-out pairs are not foretold
    with pytest.raises(ValueError, match="3 losses must be those of two or more pairs"):
        fit_importance(torch.ones(3), on[:3], prior)


def test_losses_of_masks_are_those_of_the_model_with_zeroed_columns(tokens) -> None:
    model = build()
    masks = {
        (0, "neurons"): torch.rand(3, NEURONS, generator=seeded(1)) > 0.5,
        (2, "groups"): torch.tensor([[True, False], [False, True], [True, True]]),
    }
    walk, anatomies = BlockWalk(model, tokens, batch_size=2), read_anatomies(model)
    found, width = mask_losses(walk, anatomies, masks), anatomies[2].attention.width
    for number in range(3):
        own, blocks = build(), None
        own.load_state_dict(model.state_dict())
        blocks = find_blocks(own)[1]
        with torch.no_grad():
            blocks[0].mlp.down_proj.weight[:, ~masks[0, "neurons"][number]] = 0
            for group in range(2):
                if not masks[2, "groups"][number, group]:
                    blocks[2].self_attn.o_proj.weight[:, group * width : (group + 1) * width] = 0
        assert found[number].item() == pytest.approx(lab.sequence_losses(own, tokens).mean().item(), abs=1e-5)


def useless(block: int) -> list[int]:
    return sorted(torch.randperm(NEURONS, generator=seeded(block))[: NEURONS // 2].tolist())


def planted(tokens: Tensor) -> PreTrainedModel:
    """A model that has learnt a few sequences with half of its neurons; the others make nothing into large columns."""
    model = build(num_hidden_layers=2).requires_grad_(False)
    blocks = find_blocks(model)[1]
    weights = [layer.weight for block in blocks for layer in (block.mlp.up_proj, block.mlp.down_proj)]
    adam = torch.optim.Adam([weight.requires_grad_(True) for weight in weights], lr=0.05)
    for _ in range(60):
        with torch.no_grad():
            for number, block in enumerate(blocks):
                block.mlp.up_proj.weight[useless(number)] = 0
        adam.zero_grad()
        model(input_ids=tokens, labels=tokens).loss.backward()
        adam.step()
    with torch.no_grad():
        for number, block in enumerate(blocks):
            block.mlp.up_proj.weight[useless(number)] = 0
            block.mlp.down_proj.weight[:, useless(number)] = 2 * block.mlp.down_proj.weight.abs().max()
    return model.requires_grad_(True)


def test_units_without_use_are_found_against_the_prior(tokens) -> None:
    model = planted(tokens)
    share = 2 * (NEURONS // 2) * 3 * 16 / sum(p.numel() for p in find_blocks(model)[1].parameters())
    asked = {"share": share, "rounds": 1, "masks": 120, "prior": "magnitude"}
    smaller, report = shrink_by_losses(model, tokens, **asked)
    assert report.removal.neurons == {block: tuple(useless(block)) for block in range(2)}
    by_prior = lab.shrink(model, tokens, share=share, method="magnitude").report.removal.neurons
    assert all(not set(by_prior[block]) & set(useless(block)) for block in range(2))
    torch.testing.assert_close(lab.sequence_losses(smaller, tokens), lab.sequence_losses(model, tokens))
    assert shrink_by_losses(model, tokens, **asked).report.table.equals(report.table)


def test_rounds_remove_as_much_as_was_asked_and_what_stays_computes_the_same(tokens) -> None:
    model = build()
    smaller, report = shrink_by_losses(model, tokens, share=0.3, units=["neurons", "groups"], rounds=3, masks=4)
    assert report.removed_share == pytest.approx(0.3, abs=0.02) and report.widths["groups"] == 1
    with masked(model, report.removal):
        torch.testing.assert_close(lab.sequence_losses(smaller, tokens), lab.sequence_losses(model, tokens))
    gone = report.table[report.table["removed"]]
    assert np.isfinite(gone["score"]).all()
    counts = gone.groupby(["kind", "block"]).size().groupby("kind").nunique()
    assert counts.eq(1).all()  # every block loses equally many


def test_broken_masks_count_as_the_worst_and_no_finite_loss_is_refused() -> None:
    nan, inf = float("nan"), float("inf")
    assert worst_for_broken(torch.tensor([1.0, nan, 3.0, inf])).tolist() == [1.0, 3.0, 3.0, 3.0]
    with pytest.raises(ValueError, match="no mask has a finite loss"):
        worst_for_broken(torch.tensor([nan, inf]))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"rounds": 0}, ValueError, "rounds=0 must be a whole number of at least 1"),
        ({"masks": 5}, ValueError, "masks=5 must be an even number of at least 4"),
        ({"masks": True}, ValueError, "masks=True"),
        ({"prior": "taylor"}, LookupError, "read no gradients"),
        ({"prior": "2ssp", "units": ["groups"]}, LookupError, "must score groups"),
        ({"share": 0.95}, ValueError, "more than these units have"),
        ({"share": 1e-6}, ValueError, "too little for any of the neurons"),
    ],
    ids=str,
)
def test_what_cannot_be_asked_for_is_refused(tokens, arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        shrink_by_losses(build(), tokens, **{"share": 0.2, "masks": 4, **arguments})
