"""Choices of blocks and sublayers against literal loops and exhaustive search; what the search spares; collapsing."""

import itertools
import math

import pytest
import torch
from architectures import ARCHITECTURES, SIZES, Architecture
from torch import Tensor
from transformers import PreTrainedModel

import labutils as lab
from labutils.models.structure import find_blocks
from labutils.pruning.calibration import BlockWalk
from labutils.structured import Removal, angular_distances, collapse_blocks, drop_sublayers, masked, read_profile
from labutils.structured.anatomy import read_anatomies
from labutils.structured.collapse import MERGES
from labutils.structured.depth import DEPTH, Choice
from labutils.structured.paths import Paths
from labutils.structured.search import greedy_search

N = 4


def build(name: str = "llama", n_blocks: int = N) -> PreTrainedModel:
    base = ARCHITECTURES[name]
    return Architecture(base.model, base.config, {**base.options, "num_hidden_layers": n_blocks}).build()


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(3, 60, (6, 10), generator=torch.Generator().manual_seed(1))


def states(model: PreTrainedModel, row: Tensor) -> list[Tensor]:
    """What enters every block and what leaves the last, of one sequence, by hooks on the blocks."""
    found: list[Tensor] = []
    blocks = find_blocks(model)[1]
    hooks = [block.register_forward_pre_hook(lambda _, args: found.append(args[0][0])) for block in blocks]
    hooks.append(blocks[-1].register_forward_hook(lambda _, args, out: found.append(out[0])))
    with torch.no_grad():
        model(input_ids=row[None])
    for hook in hooks:
        hook.remove()
    return found


def cosine(a: Tensor, b: Tensor) -> float:
    return sum(x * y for x, y in zip(a.tolist(), b.tolist(), strict=True)) / (
        math.sqrt(sum(x * x for x in a.tolist())) * math.sqrt(sum(y * y for y in b.tolist()))
    )


def test_angles_and_influence_against_literal_loops(tokens) -> None:
    model = build()
    profile = read_profile(BlockWalk(model, tokens, batch_size=4))
    rows = [states(model, row) for row in tokens]
    for n in (1, 2, 3):
        literal = [
            sum(math.acos(cosine(own[first][-1], own[first + n][-1])) / math.pi for own in rows) / len(rows)
            for first in range(N - n + 1)
        ]
        assert angular_distances(profile.last, n).tolist() == pytest.approx(literal, abs=1e-5)
    for block in range(N):
        each = [cosine(own[block][t], own[block + 1][t]) for own in rows for t in range(10)]
        assert profile.influence[block].item() == pytest.approx(1 - sum(each) / len(each), abs=1e-5)


def test_padding_is_left_out_and_the_last_token_is_a_token(tokens) -> None:
    model = build()
    mask = torch.ones_like(tokens)
    mask[0, 7:] = 0
    padded = read_profile(BlockWalk(model, {"input_ids": tokens, "attention_mask": mask}, batch_size=3))
    assert padded.cosines.shape == (N, 57)
    alone = states(model, tokens[0, :7])
    torch.testing.assert_close(padded.last[:, 0], torch.stack([own[-1] for own in alone]), atol=1e-5, rtol=1e-5)


def test_names_choose_what_their_tables_say(tokens) -> None:
    model = build(n_blocks=5)
    report = lab.drop_blocks(model, tokens, n_blocks=2, method="angular").report
    first = int(report.table["angular distance"].argmin())
    assert report.removal.blocks == (first, first + 1)
    report = lab.drop_blocks(model, tokens, n_blocks=2, method="influence").report
    assert set(report.removal.blocks) == set(report.table["influence"].nsmallest(2).index)
    assert lab.drop_blocks(model, n_blocks=2, method="deepest").report.removal.blocks == (2, 3)  # without any text
    assert lab.drop_blocks(model, n_blocks=2, method="shallowest").report.removal.blocks == (0, 1)
    smaller, report = lab.drop_blocks(model, blocks=[3, 1])
    assert report.removal.blocks == (1, 3) and smaller.config.num_hidden_layers == 3
    block = 4 * 16 * 16 + 3 * 16 * 24 + 32
    assert report.parameters_before - report.parameters_after == 2 * block
    assert report.saved_share == report.removed_share == pytest.approx(2 / 5)


def mean_loss(model: PreTrainedModel, tokens: Tensor, removal: Removal) -> float:
    with masked(model, removal):
        return lab.sequence_losses(model, tokens).double().mean().item()


@pytest.mark.parametrize("spare_ends", [True, False])
def test_the_greedy_choice_is_that_of_exhaustive_search(tokens, spare_ends) -> None:
    model = build()
    report = lab.drop_blocks(model, tokens, n_blocks=2, method="greedy", spare_ends=spare_ends).report
    gone: tuple[int, ...] = ()
    for step in range(2):
        alive = [block for block in range(N) if block not in gone]
        tried = {block: mean_loss(model, tokens, Removal(blocks=(*gone, block))) for block in alive}
        candidates = alive[1:-1] if spare_ends else alive
        own = report.table[report.table["step"] == step].set_index("block")["loss"]
        assert own.to_dict() == pytest.approx({block: tried[block] for block in candidates}, abs=1e-5)
        gone = (*gone, min(candidates, key=tried.__getitem__))
    assert report.removal.blocks == tuple(sorted(gone))
    if not spare_ends:
        pairs = {pair: mean_loss(model, tokens, Removal(blocks=pair)) for pair in itertools.combinations(range(N), 2)}
        first = report.table[report.table["removed"]]["block"].iloc[0]
        assert report.removal.blocks == min((pair for pair in pairs if first in pair), key=pairs.__getitem__)


def test_sublayers_go_one_by_one_as_long_as_they_fit(tokens) -> None:
    model = build()
    silenced, report = drop_sublayers(model, tokens, share=0.3, race=0.0)
    gone: list[tuple[int, str]] = []
    attention, mlp = 4 * 16 * 16, 3 * 16 * 24
    sizes = {(b, part): size for b in range(N) for part, size in (("attention", attention), ("mlp", mlp))}
    while left := [
        unit
        for unit in sizes
        if unit not in gone and sum(sizes[one] for one in [*gone, unit]) <= 0.3 * N * (attention + mlp + 32)
    ]:
        gone.append(min(left, key=lambda unit: mean_loss(model, tokens, Removal(sublayers=(*gone, unit)))))
    assert report.removal.sublayers == tuple(sorted(gone))
    with masked(model, report.removal):
        expected = lab.sequence_losses(model, tokens)
    torch.testing.assert_close(lab.sequence_losses(silenced, tokens), expected)
    assert (
        0.2 < report.removed_share <= 0.3
        and report.saved_share == 0 == report.parameters_before - report.parameters_after
    )


def test_the_search_runs_only_what_it_must_and_racing_chooses_the_same() -> None:
    model = build(n_blocks=6)
    first = torch.randint(3, 60, (64, 1), generator=torch.Generator().manual_seed(2))
    tokens = model.generate(first, max_new_tokens=8, do_sample=False, pad_token_id=0)  # which the dense model expects
    tokens = torch.cat([tokens, tokens.new_zeros(64, 9 - tokens.shape[1])], dim=1)
    paths = Paths(BlockWalk(model, tokens, batch_size=8), read_anatomies(model))
    units = [(block, "block") for block in range(6)]
    whole = greedy_search(paths, units, lambda removed, unit: len(removed) < 2, race=0.0)
    # candidate j of 6 runs the 5 − j blocks behind it; the prefix goes on over 5 blocks
    assert whole.block_runs == (15 + 5) + (10 + 4) and whole.naive_block_runs == 6 * 5 + 5 * 4
    assert whole.head_runs == whole.naive_head_runs == 11
    raced = greedy_search(paths, units, lambda removed, unit: len(removed) < 2, race=5.0)
    assert raced.removed == whole.removed and raced.block_runs < whole.block_runs
    assert raced.history["sequences"].min() == 16 and raced.history["sequences"].max() == 64


def test_a_broken_candidate_is_the_worst_and_ties_go_to_the_lower_number(tokens) -> None:
    model = build()
    blocks = find_blocks(model)[1]
    with torch.no_grad():
        for block in (blocks[1], blocks[2]):  # both do nothing at all
            block.self_attn.o_proj.weight.zero_()
            block.mlp.down_proj.weight.zero_()
    report = lab.drop_blocks(model, tokens, n_blocks=1, method="greedy").report
    assert report.removal.blocks == (1,)
    paths = Paths(BlockWalk(model, tokens), read_anatomies(model))
    own = paths.losses
    paths.losses = lambda start, *rest: own(start, *rest) * (float("nan") if start == 0 else 1)
    search = greedy_search(paths, [(0, "block"), (3, "block")], lambda removed, unit: len(removed) < 1)
    assert search.removed == ((3, "block"),) and search.history["loss"].iloc[0] == float("inf")


def test_a_step_without_a_finite_candidate_is_refused_and_rows_without_a_target_are_left_out(tokens) -> None:
    model = build()
    mask = torch.ones_like(tokens)
    mask[0, 1:] = 0  # one token: nothing is predicted
    padded = {"input_ids": tokens, "attention_mask": mask}
    report = lab.drop_blocks(model, padded, n_blocks=2, method="greedy").report
    without = lab.drop_blocks(model, tokens[1:], n_blocks=2, method="greedy").report
    assert report.removal == without.removal and report.search.history["sequences"].eq(5).all()
    assert report.table["loss"].tolist() == pytest.approx(without.table["loss"].tolist(), abs=1e-5)
    with pytest.raises(ValueError, match="no sequence of the calibration has a token to predict"):
        lab.drop_blocks(model, {"input_ids": tokens[:1], "attention_mask": mask[:1]}, n_blocks=1, method="greedy")
    paths = Paths(BlockWalk(model, tokens), read_anatomies(model))
    paths.losses = lambda start, batch, *rest: torch.full((6,), float("inf"), dtype=torch.float64)
    with pytest.raises(ValueError, match="no candidate has a finite loss"):
        greedy_search(paths, [(1, "block"), (2, "block")], lambda removed, unit: len(removed) < 1)


def test_collapse_puts_the_run_into_its_first_block() -> None:
    model = build()
    dense = find_blocks(model)[1]
    for how in MERGES:
        smaller = collapse_blocks(model, [1, 2, 3], how=how)
        target = find_blocks(smaller)[1]
        assert len(target) == 2
        q = [block.self_attn.q_proj.weight for block in dense]
        expected = {"laco_paper": q[2] + q[3] - q[1], "laco_code": q[3], "mean": (q[1] + q[2] + q[3]) / 3}[how]
        torch.testing.assert_close(target[1].self_attn.q_proj.weight, expected, atol=1e-5, rtol=1e-5)
        assert target[1].input_layernorm.weight.equal(dense[1].input_layernorm.weight)
        assert target[0].mlp.up_proj.weight.equal(dense[0].mlp.up_proj.weight)
    for run, message in (([0, 2], "follow each other"), ([-1, 0, 1], "no block -1"), ([3, 4], "no block 4")):
        with pytest.raises(ValueError, match=message):
            collapse_blocks(model, run)
    with pytest.raises(LookupError, match="laco_paper"):
        collapse_blocks(model, [0, 1], how="laco")


def test_a_registered_way_of_choosing_is_taken(tokens) -> None:
    with DEPTH.restored():
        lab.structured.register_depth("second")(lambda walk, n, options: Choice((1,)))
        assert lab.drop_blocks(build(), tokens, n_blocks=1, method="second").report.removal.blocks == (1,)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "either n_blocks"),
        ({"n_blocks": 4}, ValueError, "from 1 to 3"),
        ({"n_blocks": 1, "method": "angle"}, LookupError, "Did you mean|angular"),
        ({"n_blocks": 1, "spare": True}, ValueError, "spare_ends, race"),
        ({"n_blocks": 1, "method": "greedy", "race": "no"}, ValueError, "must be a number"),
        ({"n_blocks": 1, "method": "greedy", "race": -3}, ValueError, "0 .read every candidate"),
        ({"n_blocks": 1, "race": 3.0}, ValueError, "does not heed race; it has no options"),
        ({"n_blocks": 1, "calibration": None}, ValueError, "give a calibration"),
        ({"n_blocks": 3, "method": "greedy"}, ValueError, "none is left"),
        ({"blocks": [7], "calibration": None}, ValueError, "no block 7"),
        ({"blocks": [1]}, ValueError, "leave out the calibration"),
        ({"blocks": [1], "calibration": None, "method": "greedy"}, ValueError, "leave out"),
    ],
    ids=str,
)
def test_what_cannot_be_asked_for_is_refused(tokens, arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        lab.drop_blocks(build(), **{"calibration": tokens, **arguments})


def test_an_encoder_loses_blocks_by_angle_but_not_by_loss(tokens) -> None:
    model = Architecture("BertModel", "BertConfig", {**SIZES, "num_hidden_layers": N}).build()
    assert lab.drop_blocks(model, tokens, n_blocks=1).model.config.num_hidden_layers == N - 1
    with pytest.raises(ValueError, match="causal"):
        lab.drop_blocks(model, tokens, n_blocks=1, method="greedy")
