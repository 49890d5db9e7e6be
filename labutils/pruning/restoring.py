"""Weights that come back: copies of what a pruning may change."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from labutils.models.structure import prunable_layers


class WeightSnapshot:
    """A copy of all prunable weights of some blocks; used as a context, an exception puts them back.

    Copies are kept in host memory; the pruning needs the GPU's.

    >>> with WeightSnapshot(blocks) as dense:
    ...     prune_somehow(blocks)
    ...     dense.restore()
    """

    def __init__(self, blocks: Iterable[nn.Module], *, on_device: bool = False):
        """With `on_device`, for few weights that come back often, copies lie beside the weights."""
        self.layers = [layer for block in blocks for layer in prunable_layers(block).values()]
        self.on_device = on_device

    def __enter__(self) -> "WeightSnapshot":
        self.backup = self.current()
        return self

    def __exit__(self, kind: type | None, *details: object) -> None:
        if kind is not None:
            self.restore()
        self.backup = []

    def current(self) -> list[Tensor]:
        """A copy of the weights as they are now, for `restore`."""
        weights = [layer.weight.detach() for layer in self.layers]
        return [weight.to(weight.device if self.on_device else "cpu", copy=True) for weight in weights]

    @torch.no_grad()
    def restore(self, weights: list[Tensor] | None = None) -> None:
        """Put the weights back now: those at the beginning, or a copy made in between."""
        for layer, weight in zip(self.layers, weights or self.backup, strict=True):
            layer.weight.copy_(weight)
