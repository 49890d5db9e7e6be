"""STUN's choice of experts: clusters and who stands for them, against a merging by hand."""

import itertools

import numpy as np
import pytest
import torch
from architectures import ARCHITECTURES

import labutils as lab
from labutils.models.structure import find_blocks
from labutils.structured.expert_clusters import cluster_experts, kept_of_clusters


def merged_by_hand(places: np.ndarray, n_clusters: int) -> set[frozenset[int]]:
    """Put the two clusters together whose farthest members are closest, until so many are left."""
    clusters = [frozenset([expert]) for expert in range(len(places))]

    def apart(pair: tuple[frozenset[int], frozenset[int]]) -> float:
        return max(np.linalg.norm(places[a] - places[b]) for a in pair[0] for b in pair[1])

    while len(clusters) > n_clusters:
        first, second = min(itertools.combinations(clusters, 2), key=apart)
        clusters = [own for own in clusters if own not in (first, second)] + [first | second]
    return set(clusters)


@pytest.mark.parametrize("seed", range(5))
def test_of_each_cluster_the_one_nearest_to_its_mean_stays(seed) -> None:
    generator = np.random.default_rng(seed)
    places, weights = generator.normal(size=(9, 4)), generator.normal(size=(9, 6))
    for n_kept in (1, 4, 8):
        expected = []
        for cluster in merged_by_hand(places, n_kept):
            mean = weights[sorted(cluster)].mean(axis=0)
            away = {own: round(np.linalg.norm(weights[own] - mean), 9) for own in sorted(cluster)}
            expected.append(min(away, key=away.__getitem__))  # of equal ones, as two alone always are, the first
        assert kept_of_clusters(places, weights, n_kept) == sorted(expected)


@pytest.mark.parametrize("name", ["mixtral", "qwen3-moe"])
def test_a_copy_of_an_expert_goes_and_the_output_stays_near(name) -> None:
    model = ARCHITECTURES[name].build()
    with torch.no_grad():
        for block in find_blocks(model)[1]:  # experts 1 and 3 are the same, and so are their rows of the router
            for parameter in (block.mlp.gate.weight, block.mlp.experts.gate_up_proj, block.mlp.experts.down_proj):
                parameter[3] = parameter[1]
    removal = cluster_experts(model, n_experts=1)
    assert set(removal.experts) == {0, 1} and set(removal.experts.values()) == {(3,)}
    smaller = lab.structured.carve(model, removal)
    assert [block.mlp.experts.num_experts for block in find_blocks(smaller)[1]] == [4, 4]


def test_what_cannot_be_is_refused() -> None:
    model = ARCHITECTURES["mixtral"].build()
    for wrong in (0, 5, True):
        with pytest.raises(ValueError, match="whole number from 1 to 4"):
            cluster_experts(model, n_experts=wrong)
    with pytest.raises(LookupError, match="no mixture of experts"):
        cluster_experts(ARCHITECTURES["llama"].build(), n_experts=1)
