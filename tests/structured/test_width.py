"""Scores of units, allocations and repairs against literal loops; `shrink` against the masked dense model."""

import math

import pytest
import torch
from architectures import ARCHITECTURES, GROUPED, Architecture
from torch import Tensor, nn
from transformers import PreTrainedModel

import labutils as lab
from labutils.models.structure import find_blocks
from labutils.pruning.calibration import BlockWalk
from labutils.structured import Removal, masked
from labutils.structured.anatomy import read_anatomies
from labutils.structured.gradients import matrix_gradients
from labutils.structured.repair import least_squares, mean_of_removed
from labutils.structured.unit_allocation import overall, uniform
from labutils.structured.unit_scores import UNIT_SCORES, standardised
from labutils.structured.views import Activations, View, make_view, walk_activations

HIDDEN, NEURONS, HEAD, GROUPS, QUERIES = 16, 24, 4, 2, 2
KINDS = ("neurons", "groups")


def build(name: str = "llama", **options: object) -> PreTrainedModel:
    base = ARCHITECTURES[name]
    own = {"num_attention_heads": GROUPS * QUERIES, "num_key_value_heads": GROUPS, "num_hidden_layers": 3}
    return Architecture(base.model, base.config, {**base.options, **own, **options}).build()


@pytest.fixture(scope="module")
def tokens() -> Tensor:
    return torch.randint(3, 60, (5, 9), generator=torch.Generator().manual_seed(3))


def inputs_of(model: PreTrainedModel, layer: nn.Module, tokens: Tensor) -> list[Tensor]:
    """What a layer reads, one [length, width] a sequence."""
    found: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, args: found.append(args[0][0].double()))
    with torch.no_grad():
        for row in tokens:
            model(input_ids=row[None])
    hook.remove()
    return found


def views_of(model: PreTrainedModel, tokens: Tensor) -> dict[tuple[int, str], View]:
    anatomies, blocks = read_anatomies(model), find_blocks(model)[1]
    activations = dict(walk_activations(BlockWalk(model, tokens, batch_size=2), anatomies, KINDS, pairs="unit"))
    gradients = matrix_gradients(model, tokens, batch_size=2)
    return {
        key: make_view(blocks[key[0]], key[0], anatomies[key[0]], key[1], own, gradients[key[0]])
        for key, own in activations.items()
    }


def literal_scores(model: PreTrainedModel, tokens: Tensor, block: nn.Module, kind: str) -> dict[str, list[float]]:
    """Every score by loops over tokens, channels and weights."""
    out = block.mlp.down_proj if kind == "neurons" else block.self_attn.o_proj
    sequences = [own.tolist() for own in inputs_of(model, out, tokens)]
    flat = [token for own in sequences for token in own]
    weight = out.weight.double().tolist()
    width = 1 if kind == "neurons" else QUERIES * HEAD
    found: dict[str, list[float]] = {name: [] for name in ("magnitude", "minitron", "wanda-sp", "flap", "output")}
    for unit in range(len(flat[0]) // width):
        channels = range(unit * width, (unit + 1) * width)
        absolute = {j: sum(abs(row[j]) for row in weight) / HIDDEN for j in channels}
        norm = {j: math.sqrt(sum(token[j] ** 2 for token in flat)) for j in channels}
        mean = {j: sum(token[j] for token in flat) / len(flat) for j in channels}
        variance = {j: sum((token[j] - mean[j]) ** 2 for token in flat) / len(flat) for j in channels}
        means = [[sum(abs(token[j]) for token in own) / len(own) for j in channels] for own in sequences]
        found["magnitude"].append(sum(absolute.values()))
        found["wanda-sp"].append(sum(absolute[j] * norm[j] for j in channels))
        found["minitron"].append(math.sqrt(sum(value**2 for own in means for value in own)))
        found["flap"].append(sum(variance[j] * sum(row[j] ** 2 for row in weight) for j in channels) / width)
        added = [[sum(row[j] * token[j] for j in channels) for row in weight] for token in flat]
        found["output"].append(sum(value**2 for own in added for value in own) / len(flat))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_scores_against_literal_loops(tokens, kind) -> None:
    model = build()
    views = views_of(model, tokens)
    for index in (0, 2):
        for name, expected in literal_scores(model, tokens, find_blocks(model)[1][index], kind).items():
            found = UNIT_SCORES[name].of_units(views[index, kind])
            assert found.tolist() == pytest.approx(expected, rel=1e-4), name


def test_the_taylor_score_adds_up_all_weights_of_a_unit(tokens) -> None:
    model = build()
    views = views_of(model, tokens)
    loss = model(input_ids=tokens, labels=tokens).loss  # the mean over all predicted tokens
    loss.backward()
    block = find_blocks(model)[1][1]
    change = {name: (p * p.grad).abs().double() for name, p in block.named_parameters()}
    neurons = UNIT_SCORES["taylor"].of_units(views[1, "neurons"])
    for n in range(NEURONS):
        rows = change["mlp.gate_proj.weight"][n].sum() + change["mlp.up_proj.weight"][n].sum()
        assert neurons[n].item() == pytest.approx((rows + change["mlp.down_proj.weight"][:, n].sum()).item(), rel=1e-4)
    groups = UNIT_SCORES["taylor"].of_units(views[1, "groups"])
    wide = QUERIES * HEAD
    for g in range(GROUPS):
        queries, keys = slice(g * wide, (g + 1) * wide), slice(g * HEAD, (g + 1) * HEAD)
        expected = change["self_attn.q_proj.weight"][queries].sum()
        expected = expected + change["self_attn.o_proj.weight"][:, queries].sum()
        expected = expected + sum(change[f"self_attn.{name}_proj.weight"][keys].sum() for name in "kv")
        assert groups[g].item() == pytest.approx(expected.item(), rel=1e-4)
    assert all(p.requires_grad for p in model.parameters())


def test_padding_and_the_batch_size_change_no_statistic(tokens) -> None:
    model = build()
    anatomies = read_anatomies(model)
    mask = torch.ones_like(tokens)
    mask[1, 5:] = 0
    padded = {"input_ids": tokens, "attention_mask": mask}
    one, two = (
        dict(walk_activations(BlockWalk(model, padded, batch_size=size), anatomies, KINDS, pairs="all"))
        for size in (1, 5)
    )
    for key, own in one.items():
        assert own.count == two[key].count == 5 * 9 - 4
        torch.testing.assert_close(own.gram, two[key].gram, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(own.mean, two[key].mean, rtol=1e-4, atol=1e-5)


def test_the_bias_gives_back_the_mean_output(tokens) -> None:
    model = build()
    views = views_of(model, tokens)
    down = find_blocks(model)[1][1].mlp.down_proj
    reads = torch.cat(inputs_of(model, down, tokens))
    removed = [0, 7, 8]
    without = reads.clone()
    without[:, removed] = 0
    weight = down.weight.double()
    offset = mean_of_removed(views[1, "neurons"], removed)
    torch.testing.assert_close((without @ weight.T + offset).mean(0), (reads @ weight.T).mean(0), rtol=1e-5, atol=1e-6)


def test_least_squares_minimise_the_distance_to_the_dense_output() -> None:
    x = torch.randn(50, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x[:, 2] = x[:, 0] - 0.5 * x[:, 4]  # so that what goes can be told from what stays
    weight = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    activations = Activations(pairs=6)
    activations.add(x)
    view = View(0, "neurons", 6, 1, 1, weight.float(), torch.zeros(6, 1), activations)
    found = least_squares(view, [2], damping=1e-9)
    torch.testing.assert_close(x @ found.T, x @ weight.float().double().T, rtol=1e-5, atol=1e-5)
    assert (found[:, 2] == 0).all()
    kept = [0, 1, 3, 5]
    literal = torch.linalg.lstsq(x[:, kept], x @ weight.float().double().T).solution.T
    torch.testing.assert_close(least_squares(view, [2, 4], damping=1e-9)[:, kept], literal, rtol=1e-4, atol=1e-5)


def test_allocations_by_hand() -> None:
    scores = {
        (0, "neurons"): torch.tensor([1.0, 2.0, 3.0, 4.0]),
        (1, "neurons"): torch.tensor([10.0, 0.5, 10.0, 0.25]),
        (0, "groups"): torch.tensor([0.1, 9.0]),
        (1, "groups"): torch.tensor([8.0, 8.0]),
    }
    costs = {key: 1 if key[1] == "neurons" else 4 for key in scores}
    # 24 parameters in all; a third is 8: of the groups (16) 5.3, so one of each block (8): none is left for neurons
    found = uniform(scores, costs, 8.0)
    assert found == {(0, "groups"): [0], (1, "groups"): [0], (0, "neurons"): [], (1, "neurons"): []}
    # a budget of 6: groups want 4, half a group of each block, which rounds to none; three neurons of each block
    assert uniform(scores, costs, 6.0)[0, "neurons"] == [0, 1, 2] and not uniform(scores, costs, 6.0)[0, "groups"]
    found = overall(scores, costs, 7.0)  # by score: a group of block 0 (4), two neurons of block 1, one of block 0
    assert found == {(0, "groups"): [0], (1, "groups"): [], (0, "neurons"): [0], (1, "neurons"): [1, 3]}
    only = {(0, "groups"): torch.tensor([0.0, 0.1]), (1, "groups"): torch.tensor([5.0, 6.0])}
    # one stays everywhere
    assert overall(only, dict.fromkeys(only, 4), 8.0) == {(0, "groups"): [0], (1, "groups"): [0]}
    assert standardised(torch.tensor([1.0, 3.0])).tolist() == [-1, 1] and not standardised(torch.ones(3)).any()


@pytest.mark.parametrize("method", ["minitron", "wanda-sp", "taylor", "magnitude"])
def test_shrink_takes_the_lowest_units_and_computes_what_the_masked_model_does(tokens, method) -> None:
    model = build()
    smaller, report = lab.shrink(model, tokens, share=0.3, units=KINDS, method=method)
    for (_, kind), rows in report.table.groupby(["block", "kind"]):
        gone = rows[rows["removed"]]["score"]
        assert len(gone) and gone.max() <= rows[~rows["removed"]]["score"].min(), kind
    with masked(model, report.removal):
        torch.testing.assert_close(lab.sequence_losses(smaller, tokens), lab.sequence_losses(model, tokens))
    assert report.saved_share == pytest.approx(report.removed_share) == pytest.approx(0.3, abs=0.05)
    assert smaller.config.intermediate_size == report.widths["neurons"] and report.widths["groups"] == 1


def test_flap_adds_biases_where_a_configuration_has_them_and_pads_unequal_blocks(tokens, tmp_path) -> None:
    model = build()
    smaller, report = lab.shrink(model, tokens, share=0.25, units=KINDS, method="flap")
    assert smaller.config.mlp_bias and smaller.config.attention_bias
    assert report.removed_share == pytest.approx(0.25, abs=0.03) and report.saved_share < report.removed_share
    smaller.save_pretrained(tmp_path / "smaller")
    again = type(smaller).from_pretrained(tmp_path / "smaller").eval()
    torch.testing.assert_close(lab.sequence_losses(again, tokens), lab.sequence_losses(smaller, tokens))
    views, block = views_of(model, tokens), find_blocks(smaller)[1][0]
    gone = report.removal.neurons[0]
    offset = mean_of_removed(views[0, "neurons"], gone)
    torch.testing.assert_close(block.mlp.down_proj.bias.double(), offset, rtol=1e-4, atol=1e-5)
    assert not block.mlp.up_proj.bias.any() and not block.self_attn.q_proj.bias.any()
    plain = lab.shrink(model, tokens, share=0.25, units=KINDS, method="flap", repair="none")
    assert plain.report.removal == report.removal and not plain.model.config.mlp_bias


def test_a_bias_that_cannot_be_expressed_is_refused_before_anything_runs(tokens) -> None:
    for name in ("qwen2", "mistral", "gemma2"):
        model = build(name, **({"head_dim": HEAD} if name == "gemma2" else {}))
        with pytest.raises(LookupError, match="repair="):
            lab.shrink(model, tokens, share=0.2, method="flap")
    smaller, _ = lab.shrink(ARCHITECTURES["opt"].build(), tokens, share=0.2, method="flap", allocation="uniform")
    assert smaller.config.ffn_dim < 24


def test_least_squares_come_nearer_to_the_dense_model_than_nothing(tokens) -> None:
    model = build()
    text = model.generate(tokens[:, :2], max_new_tokens=10, do_sample=False, pad_token_id=0)
    losses = {
        repair: lab.sequence_losses(lab.shrink(model, text, share=0.2, repair=repair).model, text).mean().item()
        for repair in ("none", "least-squares")
    }
    assert losses["least-squares"] < losses["none"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"share": 1.2}, ValueError, "between 0 and 1"),
        ({"share": 0.9}, ValueError, "more than these units have: at most 0"),
        ({"share": 0.2, "units": "neurons"}, ValueError, "must be a list"),
        ({"share": 0.2, "units": ["heads"]}, ValueError, "neurons, groups"),
        ({"share": 0.2, "method": "wanda"}, LookupError, "wanda-sp"),
        ({"share": 0.2, "allocation": "owl"}, LookupError, "uniform, global"),
        ({"share": 0.2, "repair": "obs"}, ValueError, "least-squares"),
    ],
    ids=str,
)
def test_what_cannot_be_asked_for_is_refused(tokens, arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        lab.shrink(build(), tokens, **arguments)


def test_a_mixture_loses_groups_but_no_neurons(tokens) -> None:
    base = ARCHITECTURES["mixtral"]
    options = {**base.options, **GROUPED, "num_attention_heads": 4, "num_key_value_heads": 2}
    model = Architecture(base.model, base.config, options).build()
    with pytest.raises(LookupError, match="drop_experts"):
        lab.shrink(model, tokens, share=0.1)
    smaller, report = lab.shrink(model, tokens, share=0.05, units=["groups"], method="wanda-sp")
    assert smaller.config.num_key_value_heads == 1
    with masked(model, Removal(groups=report.removal.groups)):
        torch.testing.assert_close(lab.sequence_losses(smaller, tokens), lab.sequence_losses(model, tokens))
