"""Which gradients a method reads, found once for a walk and handed out block by block.

What a score reads is named where it is registered: "model" (√Σ g²), "absolute" (Σ |g|), "mixture" (those of two texts),
"dual" (D-Pruner's importance) are of the dense model's loss, before anything is pruned; "block" of a block's output.
"""

from collections.abc import Callable, Iterable
from typing import Literal

from labutils.pruning.calibration import BlockWalk
from labutils.pruning.dual_importance import dual_importance
from labutils.pruning.gradients import Gradients, absolute_gradients, block_gradients, model_gradients
from labutils.pruning.matrices import MatrixMethod
from labutils.pruning.mixture_gradients import mixture_gradients

Kind = Literal["model", "absolute", "mixture", "dual", "block"] | None

PASSES: dict[str, Callable[..., list[Gradients]]] = {
    "model": model_gradients, "absolute": absolute_gradients, "mixture": mixture_gradients, "dual": dual_importance,
}  # fmt: skip
WITH_OPTIONS = {"mixture": ("general_weight", "alignment_weight"), "dual": ("general_strength", "loss_scale")}


def keep_gradients(walk: BlockWalk, methods: Iterable[MatrixMethod]) -> None:
    """Before a dense model's first block is pruned: the gradients of its loss that methods read, each once for a walk.

    Raises:
        ValueError: as the passes do; the model stays as it is.
    """
    for method in methods:
        key = _key(method)
        if method.gradients in PASSES and key not in walk.gradients:
            walk.gradients[key] = PASSES[method.gradients](walk, **dict(key[1]))


def find_gradients(walk: BlockWalk, index: int, method: MatrixMethod) -> Gradients:
    """What a method reads of the block that the walk has come to; nothing for most methods.

    Raises:
        RuntimeError: the model's, which `keep_gradients` has not kept.
    """
    if method.gradients is None:
        return {}
    if method.gradients == "block":
        return block_gradients(walk, index)
    if _key(method) not in walk.gradients:
        raise RuntimeError("The dense model's gradients are read, and were not kept before it was pruned.")
    return walk.gradients[_key(method)][index]


def _key(method: MatrixMethod) -> tuple[Kind, tuple]:
    """What the pass depends on: its kind, and those of the method's options that it takes."""
    taken = WITH_OPTIONS.get(method.gradients, ())
    return method.gradients, tuple((name, value) for name, value in getattr(method, "options", ()) if name in taken)
