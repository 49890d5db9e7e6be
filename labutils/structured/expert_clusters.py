"""Which experts are much alike: STUN's choice of those that go, from the weights alone (ACL 2025).

Two experts are as far apart as the rows of their router, which decide which tokens they get. The closest are put
together, as long as every two of a cluster are closer than those of other clusters (complete linkage), until as many
clusters are left as experts shall stay. Of each cluster the expert that is nearest to the mean of its experts' weights
stays; two alone are equally near, and the first of them stays. Here every mixture keeps equally many, because a
configuration has one number for all; the paper's one threshold for the whole model lets them differ. Nor are experts
averaged, as its code does where very few clusters are left.
"""

import numpy as np
import torch
from jaxtyping import Float
from scipy.cluster.hierarchy import cut_tree, linkage
from torch import Tensor
from transformers import PreTrainedModel

from labutils.models.experts import expert_matrices
from labutils.models.structure import find_blocks
from labutils.structured.anatomy import Anatomy, read_anatomies
from labutils.structured.removal import Removal
from labutils.structured.slices import router_tensors

EQUAL = 1e-9  # of two distances, relative: rounding decides nothing


def cluster_experts(model: PreTrainedModel, *, n_experts: int) -> Removal:
    """The experts of every mixture that others stand for; `carve` takes them out.

    >>> smaller = lab.structured.carve(model, lab.structured.cluster_experts(model, n_experts=2))

    Args:
        n_experts: how many go from every mixture.

    Raises:
        ValueError: none or all of them would go.
        LookupError: no mixture of fused experts, or a router that is no matrix with a row for each of them.
    """
    anatomies, blocks = read_anatomies(model), find_blocks(model)[1]
    mixtures = {index: anatomy for index, anatomy in enumerate(anatomies) if anatomy.experts}
    if not mixtures:
        raise LookupError(f"a {type(model).__name__} has no mixture of experts in the form that transformers fuses.")
    count = next(iter(mixtures.values())).experts.count
    if isinstance(n_experts, bool) or not isinstance(n_experts, int) or not 0 < n_experts < count:
        raise ValueError(f"n_experts={n_experts!r} must be a whole number from 1 to {count - 1}.")
    gone = {}
    for index, anatomy in mixtures.items():
        kept = kept_of_clusters(
            _router_rows(anatomy, blocks[index], index), _expert_rows(anatomy, blocks[index]), count - n_experts
        )
        gone[index] = tuple(expert for expert in range(count) if expert not in kept)
    return Removal(experts=gone)


def kept_of_clusters(
    places: Float[np.ndarray, "experts width"], weights: Float[np.ndarray, "experts parameters"], n_kept: int
) -> list[int]:
    """Of each of `n_kept` clusters by `places` the expert whose weights are nearest to the cluster's mean, in order.

    >>> kept_of_clusters(np.array([[0.0], [0.1], [5.0]]), np.array([[1.0], [2.0], [9.0]]), 2)
    [0, 2]
    """
    labels = cut_tree(linkage(places, method="complete"), n_clusters=n_kept).ravel()
    kept = []
    for label in range(n_kept):
        members = np.flatnonzero(labels == label)
        away = np.linalg.norm(weights[members] - weights[members].mean(axis=0), axis=1)
        nearest = away <= away.min() * (1 + EQUAL)
        kept.append(int(members[nearest.argmax()]))
    return sorted(kept)


def _router_rows(anatomy: Anatomy, block: torch.nn.Module, index: int) -> Float[np.ndarray, "experts width"]:
    matrices = [tensor for tensor in router_tensors(anatomy, block).values() if tensor.dim() == 2]
    if len(matrices) != 1:
        raise LookupError(
            f"block {index} has {len(matrices)} matrices with a row for each expert; one, the router's, tells how far "
            "apart experts are. `drop_experts` chooses by what experts do to texts."
        )
    return _numpy(matrices[0])


def _expert_rows(anatomy: Anatomy, block: torch.nn.Module) -> Float[np.ndarray, "experts parameters"]:
    """All weights of each expert in one row."""
    matrices = expert_matrices(block.get_submodule(anatomy.experts.module))
    own = [
        [one.weight.reshape(-1) for one in matrices if one.index == expert] for expert in range(anatomy.experts.count)
    ]
    return _numpy(torch.stack([torch.cat(parts) for parts in own]))


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy().astype(np.float64)
