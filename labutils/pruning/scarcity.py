"""Whether there are enough calibration tokens for a Hessian.

The Hessian of a layer of d inputs is a mean over tokens. With few tokens per input its small eigenvalues are too small,
and an update that trusts them repairs the sample instead of the model. Damping, a share of the mean diagonal that is
added to it, shrinks the update; the ridge that predicts best falls with the observations per coefficient.
"""

import functools
import logging
from collections.abc import Iterable

import torch

from labutils.models.structure import prunable_layers, weight_matrix
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.matrices import MatrixMethod
from labutils.pruning.methods import Request

# Damping per input and token. With the usual damping of 0.01 it asks for ten tokens per input.
DAMPING_PER_INPUT = 0.1

LOGGER = logging.getLogger("labutils")


def tokens_per_input(walk: BlockWalk) -> float:
    """Calibration tokens, without padding, for each input of the widest matrix.

    >>> tokens_per_input(BlockWalk(model, tokens))
    """
    layers = [layer for block in walk.blocks for layer in prunable_layers(block).values()]
    widest = max(weight_matrix(layer).shape[1] for layer in layers)
    return int(walk.inputs.get("attention_mask", torch.ones_like(walk.inputs["input_ids"])).sum()) / widest


def needed_damping(walk: BlockWalk) -> float:
    """The damping that the widest matrix needs with these calibration tokens.

    >>> needed_damping(BlockWalk(model, tokens))
    """
    return DAMPING_PER_INPUT / max(tokens_per_input(walk), 1e-9)


def warn_if_scarce(walk: BlockWalk, methods: Iterable[MatrixMethod], request: Request) -> None:
    """Tell of a Hessian update whose damping is below what its calibration tokens need, by the logger, once.

    >>> warn_if_scarce(walk, [SparseGPT()], request)
    """
    if not request.sparsity or not any(method.needs_factor for method in methods):
        return  # of nothing there is no repair
    needed, given = needed_damping(walk), request.options.damping
    if given < needed:
        tell_once(
            f"{request.method.name}: {tokens_per_input(walk):.2g} calibration tokens per input of the widest matrix; "
            f"damping={given:g} is meant for {DAMPING_PER_INPUT / given:.3g} or more, and what is found with fewer "
            f"hangs on the sample. Take more sequences, or damping={needed:.2g}"
        )


@functools.cache
def tell_once(message: str) -> None:
    """Log a warning, once in a process: a sweep prunes hundreds of times."""
    LOGGER.warning(message)
