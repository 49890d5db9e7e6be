"""Layer maps: the published ones, any sizes, and refusals."""

import numpy as np
import pytest
import torch

from labutils.distillation.layer_maps import LAYER_MAPS, group_ends, map_layers


def draws(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_fixed_and_average_maps_of_24_onto_6_layers_are_the_papers() -> None:
    fixed = map_layers("fixed", 24, 6, draws())
    assert fixed.argmax(dim=1).tolist() == [3, 7, 11, 15, 19, 23] and fixed.sum() == 6
    average = map_layers("average", 24, 6, draws())
    for row in range(6):
        expected = torch.zeros(24)
        expected[4 * row : 4 * row + 4] = 0.25
        assert torch.equal(average[row], expected)


@pytest.mark.parametrize("kind", LAYER_MAPS)
@pytest.mark.parametrize(("teacher", "student"), [(6, 2), (7, 3), (5, 5), (1, 1), (12, 1)])
def test_rows_are_weights_in_rising_order(kind: str, teacher: int, student: int) -> None:
    table = map_layers(kind, teacher, student, draws())
    assert table.shape == (student, teacher)
    assert torch.allclose(table.sum(dim=1), torch.ones(student)) and (table >= 0).all()
    places = (table * torch.arange(teacher)).sum(dim=1)
    assert (places.diff() > 0).all()
    if kind == "average":
        assert (table.sum(dim=0) > 0).all()  # every teacher layer is used
    else:
        assert (table.max(dim=1).values == 1).all()


def test_groups_end_with_the_last_layer() -> None:
    assert group_ends(6, 2) == [2, 5] and group_ends(7, 3) == [1, 3, 6] and group_ends(4, 4) == [0, 1, 2, 3]


def test_random_maps_reach_every_choice_alike() -> None:
    generator = draws()
    chosen = [tuple(map_layers("random-step", 4, 2, generator).argmax(dim=1).tolist()) for _ in range(1200)]
    counts = {pair: chosen.count(pair) for pair in set(chosen)}
    assert len(counts) == 6 and min(counts.values()) > 150
    assert torch.equal(map_layers("random-epoch", 9, 3, draws(5)), map_layers("random-epoch", 9, 3, draws(5)))


def test_refusals_name_the_way_out() -> None:
    with pytest.raises(ValueError, match="Did you mean 'average'"):
        map_layers("averag", 4, 2, draws())
    for student in (0, 5):
        with pytest.raises(ValueError, match=f"student of {student} blocks"):
            map_layers("fixed", 4, student, draws())
