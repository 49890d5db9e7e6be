"""Statistics of a block's linear layers, gathered by hooks during one forward pass over the calibration tokens.

Only running sums are kept, never the activations. Padding is left out. Layers that read the same tensor share one
`Statistics` object, so that what is computed from it is computed once.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

SAMPLE_TOKENS = 256
STRIP = 256  # columns of a Hessian that are accumulated together


class StopForward(Exception):
    """Raised inside a forward pass when nothing after this point is needed."""


@dataclass
class Statistics:
    """What the calibration tokens say about the input of one or several linear layers.

    Attributes:
        hessian: (2 / sequences) XᵀX, or None when only the norms were asked for.
        norms: ‖X_:j‖₂ over all tokens, per input.
        sample: the first tokens' inputs, on which an output error is estimated when there is no Hessian.
        n_tokens: tokens seen, without padding.
    """

    hessian: Float[Tensor, "in in"] | None
    norms: Float[Tensor, "in"]
    sample: Float[Tensor, "sample in"]
    n_tokens: int


class _Accumulator:
    """Running sums over batches; the activations themselves are never kept."""

    def __init__(self, width: int, device: torch.device, hessian: bool):
        shape = (width, width) if hessian else (width,)
        self.products = torch.zeros(shape, dtype=torch.float32, device=device)
        self.sample = torch.zeros((0, width), dtype=torch.float32, device=device)
        self.n_tokens = 0

    def add(self, inputs: Float[Tensor, "tokens in"]) -> None:
        inputs = inputs.float()
        if self.products.dim() == 2:
            for start in range(0, inputs.shape[1], STRIP):  # on and below the diagonal: it is symmetric
                strip = slice(start, start + STRIP)
                self.products[start:, strip].addmm_(inputs[:, start:].T, inputs[:, strip])
        else:
            self.products += torch.linalg.vector_norm(inputs, dim=0) ** 2
        if len(self.sample) < SAMPLE_TOKENS:
            self.sample = torch.cat([self.sample, inputs[: SAMPLE_TOKENS - len(self.sample)]])
        self.n_tokens += len(inputs)

    def result(self, n_sequences: int) -> Statistics:
        if self.products.dim() == 1:
            return Statistics(None, self.products.sqrt(), self.sample, self.n_tokens)
        norms = self.products.diagonal().clamp_min(0).sqrt()
        lower = self.products.tril()
        whole = lower + lower.tril(-1).T
        return Statistics(whole * (2 / n_sequences), norms, self.sample, self.n_tokens)


class Collector:
    """Hooks on the linear layers of one block, owned by a `with` statement."""

    def __init__(self, layers: dict[str, nn.Module], hessian: bool, stop_early: bool):
        self.layers, self.hessian, self.stop_early = layers, hessian, stop_early
        self.sums: dict[str, _Accumulator] = {}
        self.reads: dict[str, str] = {}  # layer → the layer that accumulates their common input
        self.order: list[str] = []
        self.n_batches = 0

    def __enter__(self) -> "Collector":
        self.handles = [layer.register_forward_pre_hook(self._hook(name)) for name, layer in self.layers.items()]
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self.handles:
            handle.remove()

    def start(self, mask: Tensor | None) -> None:
        self.mask = mask
        self.seen: dict[str, Tensor] = {}
        self.n_batches += 1

    def _hook(self, name: str):
        def collect(layer: nn.Module, args: tuple) -> None:
            inputs = args[0]
            if self.n_batches == 1:
                self.reads[name] = next((other for other, tensor in self.seen.items() if tensor is inputs), name)
                self.seen[name] = inputs
                self.order.append(name)
            if self.reads[name] == name:
                self._add(name, inputs)
            if self.stop_early and self.n_batches > 1 and name == self.order[-1]:
                raise StopForward

        return collect

    def _add(self, name: str, inputs: Tensor) -> None:
        if name not in self.sums:
            self.sums[name] = _Accumulator(inputs.shape[-1], inputs.device, self.hessian)
        tokens = inputs.reshape(-1, inputs.shape[-1])  # some architectures flatten batch and sequence themselves
        if self.mask is not None and len(tokens) == self.mask.numel():
            tokens = tokens[self.mask.reshape(-1)]
        self.sums[name].add(tokens)

    def results(self, block: str, n_sequences: int) -> dict[str, Statistics]:
        shared = {}
        for name, sums in self.sums.items():
            if not torch.isfinite(sums.products).all():
                raise ValueError(
                    f"The inputs of {block}.{name} contain NaN or infinite values on the calibration tokens."
                )
            shared[name] = sums.result(n_sequences)
        return {name: shared[source] for name, source in self.reads.items()}
