"""FLAP's z-scores of channels, 2SSP's own score, what scores must be, and which weights belong to a unit."""

import math

import pytest
import torch
from architectures import ARCHITECTURES, Architecture
from torch import Tensor, nn
from transformers import PreTrainedModel

import labutils as lab
from labutils.models.structure import find_blocks
from labutils.pruning.calibration import BlockWalk
from labutils.structured.anatomy import read_anatomies
from labutils.structured.experts import EXPERT_SCORES
from labutils.structured.gradients import matrix_gradients
from labutils.structured.repair import least_squares
from labutils.structured.unit_scores import UNIT_SCORES
from labutils.structured.views import Activations, View, make_view, walk_activations

HIDDEN, NEURONS, HEAD, GROUPS, QUERIES = 16, 24, 4, 2, 2
WIDTH = QUERIES * HEAD


def build(name: str = "llama", **options: object) -> PreTrainedModel:
    base = ARCHITECTURES[name]
    own = {"num_attention_heads": GROUPS * QUERIES, "num_key_value_heads": GROUPS, "num_hidden_layers": 3}
    return Architecture(base.model, base.config, {**base.options, **own, **options}).build()


@pytest.fixture(scope="module")
def tokens() -> Tensor:
    return torch.randint(3, 60, (5, 9), generator=torch.Generator().manual_seed(3))


def read_by(model: PreTrainedModel, layer: nn.Module, tokens: Tensor) -> list[list[list[float]]]:
    """What a layer reads, by sequence, token and channel."""
    found: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, args: found.append(args[0][0].double()))
    with torch.no_grad():
        for row in tokens:
            model(input_ids=row[None])
    hook.remove()
    return [own.tolist() for own in found]


def channel_scores(model: PreTrainedModel, layer: nn.Module, tokens: Tensor) -> list[float]:
    """FLAP's variance times squared norm, channel by channel."""
    flat = [token for own in read_by(model, layer, tokens) for token in own]
    weight, found = layer.weight.double().tolist(), []
    for j in range(len(flat[0])):
        mean = sum(token[j] for token in flat) / len(flat)
        variance = sum((token[j] - mean) ** 2 for token in flat) / len(flat)
        found.append(variance * sum(row[j] ** 2 for row in weight))
    return found


def z_scores(values: list[float]) -> list[float]:
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
    return [(value - mean) / spread for value in values]


def test_flap_standardises_channels_of_a_layer_and_then_averages_over_a_group(tokens) -> None:
    model = build()
    report = lab.shrink(model, tokens, share=0.25, units=("neurons", "groups"), method="flap").report
    expected: dict[tuple[int, str, int], float] = {}
    for index, block in enumerate(find_blocks(model)[1]):
        neurons = z_scores(channel_scores(model, block.mlp.down_proj, tokens))
        heads = z_scores(channel_scores(model, block.self_attn.o_proj, tokens))
        expected |= {(index, "neurons", unit): value for unit, value in enumerate(neurons)}
        for group in range(GROUPS):
            own = heads[group * WIDTH : (group + 1) * WIDTH]
            expected[index, "groups", group] = sum(own) / WIDTH
    found = {(row.block, row.kind, row.unit): row.score for row in report.table.itertuples()}
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert all(abs(value) < 0.9 for (_, kind, _), value in found.items() if kind == "groups")  # not ±1 by their number
    # one ranking of all: the lowest go until what they cost is nearest to a quarter of the blocks' parameters
    cost = {"neurons": 3 * HIDDEN, "groups": 2 * WIDTH * HIDDEN + 2 * HEAD * HIDDEN}
    budget, spent, gone, left = 0.25 * 3 * (24 * 3 * HIDDEN + 2 * cost["groups"] + 2 * HIDDEN), 0, set(), {}
    for key in sorted(expected, key=expected.__getitem__):
        left.setdefault(key[:2], NEURONS if key[1] == "neurons" else GROUPS)
        if left[key[:2]] == 1:
            continue
        if abs(spent + cost[key[1]] - budget) > abs(spent - budget):
            break
        gone.add(key)
        spent, left[key[:2]] = spent + cost[key[1]], left[key[:2]] - 1
    assert {(row.block, row.kind, row.unit) for row in report.table.itertuples() if row.removed} == gone


def test_two_stages_average_the_norms_of_sequences(tokens) -> None:
    model = build()
    table = lab.shrink(model, tokens, share=0.1, method="2ssp").report.table
    reads = read_by(model, find_blocks(model)[1][1].mlp.down_proj, tokens)
    literal = [
        sum(math.sqrt(sum(token[n] ** 2 for token in own)) for own in reads) / len(reads) for n in range(NEURONS)
    ]
    assert table[table["block"] == 1]["score"].tolist() == pytest.approx(literal, rel=1e-4)
    with pytest.raises(LookupError, match="scores neurons, not groups"):
        lab.shrink(model, tokens, share=0.1, units=["groups"], method="2ssp")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.full((NEURONS,), float("nan")), "must be finite"),
        (torch.arange(3.0), r"shape \[3\]; there must be \[24\]"),
    ],
    ids=["nan", "three"],
)
def test_scores_that_cannot_be_ranked_are_refused(tokens, values, message) -> None:
    with UNIT_SCORES.restored():
        lab.structured.register_unit_score("odd")(lambda view: values)
        with pytest.raises(ValueError, match=message):
            lab.shrink(build(), tokens, share=0.2, method="odd")
    with EXPERT_SCORES.restored():
        lab.structured.register_expert_score("odd")(lambda use: values)
        with pytest.raises(ValueError, match="finite|there must be"):
            lab.drop_experts(ARCHITECTURES["mixtral"].build(), tokens, n_experts=1, method="odd")


def test_gradients_that_are_not_finite_are_refused(tokens) -> None:
    model = build()
    with torch.no_grad():
        model.lm_head.weight[7] = float("inf")
    with pytest.raises(ValueError, match="not finite"):
        matrix_gradients(model, tokens)


def test_a_part_that_puts_out_zeros_keeps_its_weights_under_least_squares(tokens) -> None:
    weight = torch.randn(3, 6, generator=torch.Generator().manual_seed(1))
    activations = Activations(pairs=6)
    activations.add(torch.zeros(10, 6))
    view = View(0, "neurons", 6, 1, 1, weight, torch.zeros(6, 1), activations)
    found = least_squares(view, [2])
    torch.testing.assert_close(found[:, [0, 1, 3, 4, 5]].float(), weight[:, [0, 1, 3, 4, 5]])
    model = build()
    with torch.no_grad():
        find_blocks(model)[1][1].mlp.up_proj.weight.zero_()
    assert lab.sequence_losses(lab.shrink(model, tokens, share=0.2).model, tokens).isfinite().all()


def literal_rows(block: nn.Module, name: str, unit: int) -> dict[str, Tensor]:
    """The weights that make and read a neuron, by the names of a model's own matrices."""
    if name == "phi3":
        fused = block.mlp.gate_up_proj.weight
        return {"makers": torch.stack([fused[unit], fused[NEURONS + unit]]), "out": block.mlp.down_proj.weight[:, unit]}
    if name == "gpt2":  # Conv1D stores (in × out)
        return {"makers": block.mlp.c_fc.weight[:, unit][None], "out": block.mlp.c_proj.weight[unit]}
    return {"makers": block.fc1.weight[unit][None], "out": block.fc2.weight[:, unit]}


@pytest.mark.parametrize("name", ["phi3", "gpt2", "opt"])
def test_a_view_gives_each_neuron_its_own_weights_and_gradients(tokens, name) -> None:
    model = ARCHITECTURES[name].build()
    model(input_ids=tokens, labels=tokens).loss.backward()
    anatomies, block = read_anatomies(model), find_blocks(model)[1][0]
    activations = dict(walk_activations(BlockWalk(model, tokens), anatomies, ("neurons",)))[0, "neurons"]
    gradients = matrix_gradients(model, tokens)
    view = make_view(block, 0, anatomies[0], "neurons", activations, gradients[0])
    taylor = UNIT_SCORES["taylor"].of_units(view)
    changes = {key: (p * p.grad).abs().detach() for key, p in block.named_parameters()}
    for unit in range(view.count):
        own = literal_rows(block, name, unit)
        assert view.makers[unit].equal(own["makers"].flatten().detach()) and view.out[:, unit].equal(
            own["out"].detach()
        )
        assert taylor[unit].item() == pytest.approx(change_of(changes, name, unit), rel=1e-4)


def change_of(changes: dict[str, Tensor], name: str, unit: int) -> float:
    if name == "phi3":
        fused = changes["mlp.gate_up_proj.weight"]
        return (fused[unit].sum() + fused[NEURONS + unit].sum() + changes["mlp.down_proj.weight"][:, unit].sum()).item()
    if name == "gpt2":
        return (changes["mlp.c_fc.weight"][:, unit].sum() + changes["mlp.c_proj.weight"][unit].sum()).item()
    return (changes["fc1.weight"][unit].sum() + changes["fc2.weight"][:, unit].sum()).item()
