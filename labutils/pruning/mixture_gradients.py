"""What the gradients of two texts, a domain's and a general one, tell of a matrix: for GAPrune's score.

GAPrune (Tang & Yang 2025, arXiv 2509.10844) was made for models of sentences, whose loss contrasts triplets of them;
here gradients are of the next-token loss of a causal language model. Its code squares the gradients of batches of 8;
here every sequence has its own, as the Fisher information of the paper asks.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from labutils.pruning.calibration import BlockWalk
from labutils.pruning.dual_importance import NO_GENERAL
from labutils.pruning.gradients import Gradients, gradient_moments

ALIGNED_OVER = 3  # rows and columns of weights over which agreement is averaged
FLOOR = 1e-8  # of a Fisher information, as in the authors' code


def mixture_gradients(
    walk: BlockWalk, *, general_weight: float = 1.0, alignment_weight: float = 0.2
) -> list[Gradients]:
    """Per block and matrix (3 × out × in): Fisher information of the domain, of general text, and their agreement.

    Fisher information is mean_n g_n² over sequences. Agreement is the product of the two texts' mean gradients, each
    divided by its norm over the matrix, averaged over 3 × 3 weights (GAPrune's code, arXiv 2509.10844). Where neither
    is weighed, no general text is read, and both are zero.

    >>> mixture_gradients(BlockWalk(model, CalibrationTexts(domain, general=general)))[0]["mlp.down_proj"]

    Raises:
        ValueError: no general text; and as `model_gradients`.
    """
    if (general_weight or alignment_weight) and walk.general is None:
        raise ValueError(f"gaprune {NO_GENERAL.format('general_weight=0, alignment_weight')}")
    domain, domain_means = gradient_moments(walk, walk.gradient_inputs)
    if not (general_weight or alignment_weight):
        return [{name: _mixed(own + FLOOR) for name, own in block.items()} for block in domain]
    general, general_means = gradient_moments(walk, walk.general)
    found = []
    for squares, means, others, other_means in zip(domain, domain_means, general, general_means, strict=True):
        found.append({})
        for name, own in squares.items():
            agreement = local_agreement(means[name], other_means[name])
            found[-1][name] = _mixed(own + FLOOR, others[name] + FLOOR, agreement)
    return found


def local_agreement(first: Float[Tensor, "out in"], second: Float[Tensor, "out in"]) -> Float[Tensor, "out in"]:
    """The product of two matrices of norm 1, averaged over 3 × 3 entries; beyond the edge are zeros.

    >>> local_agreement(torch.eye(2), torch.eye(2))
    tensor([[0.1111, 0.1111], [0.1111, 0.1111]])
    """
    product = torch.nn.functional.normalize(first, dim=(0, 1)) * torch.nn.functional.normalize(second, dim=(0, 1))
    return torch.nn.functional.avg_pool2d(product[None], ALIGNED_OVER, stride=1, padding=ALIGNED_OVER // 2)[0]


def _mixed(domain: Tensor, general: Tensor | None = None, agreement: Tensor | None = None) -> Tensor:
    nothing = torch.zeros_like(domain)
    return torch.stack([domain, nothing if general is None else general, nothing if agreement is None else agreement])
