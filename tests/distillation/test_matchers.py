"""Matchers: literal loops over layers, tokens and rows, the mapping that is thrown away, and the registry."""

import math

import pytest
import torch
from torch import Tensor, nn

from labutils.distillation.layer_maps import map_layers
from labutils.distillation.matchers import METHODS, Sizes, find_method, mix_layers

SIZES = Sizes(teacher_blocks=4, teacher_width=5, student_blocks=2, student_width=3, rank=6)
MASK = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0]])


def states(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def matcher(name: str) -> nn.Module:
    torch.manual_seed(0)
    return METHODS[name].matcher(SIZES).double()


def layer_map(kind: str) -> Tensor:
    return map_layers(kind, 4, 2, __import__("numpy").random.default_rng(3)).double()


def linear(layer: nn.Linear, given: list[float]) -> list[float]:
    bias = [0.0] * layer.out_features if layer.bias is None else layer.bias.tolist()
    return [
        sum(w * x for w, x in zip(row, given, strict=True)) + b
        for row, b in zip(layer.weight.tolist(), bias, strict=True)
    ]


def target(table: Tensor, teacher: Tensor, pair: int) -> Tensor:
    """The target of a student layer: the mixture, layer by layer."""
    return sum(table[pair, layer].item() * teacher[layer] for layer in range(4))


def gap(first: list[float], second: list[float]) -> float:
    a, b = (math.sqrt(sum(x * x for x in v)) for v in (first, second))
    return sum((x / a - y / b) ** 2 for x, y in zip(first, second, strict=True))


def pooled(layer: Tensor, row: int) -> list[float]:
    kept = [layer[row, token] for token in range(3) if MASK[row, token]]
    return (sum(kept) / len(kept)).tolist()


@pytest.mark.parametrize("kind", ["fixed", "average", "random-epoch"])
def test_ild_equals_a_literal_loop(kind: str) -> None:
    found, table = matcher("ild"), layer_map(kind)
    teacher, student = states(4, 3, 3, 5, seed=1), states(2, 3, 3, 3, seed=2)
    gaps = [
        gap(
            target(table, teacher, pair)[row, token].tolist(),
            linear(found.projections[pair], student[pair, row, token].tolist()),
        )
        for pair in range(2)
        for row in range(3)
        for token in range(3)
        if MASK[row, token]
    ]
    assert found(teacher, student, MASK, table).item() == pytest.approx(sum(gaps) / len(gaps), rel=1e-10)


@pytest.mark.parametrize("kind", ["fixed", "average", "random-epoch"])
def test_rail_l_equals_a_literal_loop(kind: str) -> None:
    """Every teacher layer has a projection of its own; a layer map mixes what these put out."""
    found, table = matcher("rail-l"), layer_map(kind)
    teacher, student = states(4, 3, 3, 5, seed=3), states(2, 3, 3, 3, seed=4)
    gaps = []
    for pair in range(2):
        for row in range(3):
            projected = [linear(found.teacher[layer], pooled(teacher[layer], row)) for layer in range(4)]
            wanted = [sum(table[pair, k].item() * projected[k][n] for k in range(4)) for n in range(6)]
            gaps.append(math.sqrt(gap(wanted, linear(found.student[pair], pooled(student[pair], row)))))
    assert found(teacher, student, MASK, table).item() == pytest.approx(sum(gaps) / len(gaps), rel=1e-10)


@pytest.mark.parametrize("kind", ["fixed", "average", "random-epoch"])
def test_rail_c_equals_a_literal_loop(kind: str) -> None:
    found, table = matcher("rail-c"), layer_map(kind)
    teacher, student = states(4, 3, 3, 5, seed=5), states(2, 3, 3, 3, seed=6)
    gaps = []
    for row in range(3):
        wanted = [x for pair in range(2) for x in pooled(target(table, teacher, pair), row)]
        given = [x for pair in range(2) for x in pooled(student[pair], row)]
        gaps.append(math.sqrt(gap(linear(found.teacher, wanted), linear(found.student, given))))
    assert found(teacher, student, MASK, table).item() == pytest.approx(sum(gaps) / len(gaps), rel=1e-10)


def test_loraild_compares_the_mapped_layers() -> None:
    found, table = matcher("loraild"), layer_map("fixed")
    teacher, student = states(4, 3, 3, 6, seed=7), states(2, 3, 3, 6, seed=8)
    gaps = [
        gap(
            [*teacher[1, row, token].tolist(), *teacher[3, row, token].tolist()],
            [*student[0, row, token].tolist(), *student[1, row, token].tolist()],
        )
        for row in range(3)
        for token in range(3)
        if MASK[row, token]
    ]
    assert found(teacher, student, MASK, table).item() == pytest.approx(sum(gaps) / len(gaps), rel=1e-10)


def test_the_mapping_of_each_method_by_hand() -> None:
    counted = {
        name: sum(p.numel() for p in method.matcher(SIZES).parameters())
        for name, method in METHODS.items()
        if method.matcher
    }
    assert counted == {
        "ild": 2 * 3 * 5,  # per student layer, without a constant
        "rail-l": 4 * (5 + 1) * 6 + 2 * (3 + 1) * 6,  # per layer on both sides
        "rail-c": (2 * 5 + 1) * 6 + (2 * 3 + 1) * 6,  # the chosen layers side by side
        "loraild": 0,
    }


def test_mix_layers_selects_and_averages() -> None:
    layers = states(4, 2, 3, seed=9)
    assert torch.equal(mix_layers(layer_map("fixed"), layers), layers[[1, 3]])
    expected = torch.stack([(layers[0] + layers[1]) / 2, (layers[2] + layers[3]) / 2])
    assert torch.allclose(mix_layers(layer_map("average"), layers), expected)


def test_an_unknown_method_names_the_nearest() -> None:
    assert list(METHODS) == ["none", "kd", "ild", "rail-l", "rail-c", "loraild"]
    with pytest.raises(LookupError, match="Did you mean 'loraild'"):
        find_method("loraidl")
