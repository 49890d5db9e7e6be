"""Statistics of a block's matrices, gathered by hooks during one forward pass over the calibration tokens.

Only running sums are kept, never the activations. Padding is left out. Layers that read the same tensor share one
`Statistics` object, so that what is computed from it is computed once.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from labutils.models.experts import ExpertMatrix, expert_inputs
from labutils.models.structure import Layer, all_finite, weight_matrix
from labutils.pruning.reconstruction import Factor, factor_hessian, relative_output_error
from labutils.pruning.symmetric import add_gram, mirror_lower

SAMPLE_TOKENS = 256


class StopForward(Exception):
    """Raised inside a forward pass when nothing after this point is needed."""


@dataclass
class Statistics:
    """What the calibration tokens say about the input of one or several matrices.

    Attributes:
        hessian: (2 / sequences) XᵀX, or None when only the norms were asked for.
        norms: ‖X_:j‖₂ over all tokens, per input.
        sample: the first tokens' inputs, on which an output error is estimated when there is no Hessian.
        n_tokens: tokens seen, without padding; of an expert, those routed to it. 0: nothing is known of the inputs.
        sums: Σ X_tj over all tokens, per input; None where nobody summed them.
        n_sequences: of the calibration.
        gradient: of one matrix's weights, for scores that read it (`gradient_passes`), or several of them stacked;
            matrices that share their inputs then have `Statistics` of their own.
    """

    hessian: Float[Tensor, "in in"] | None
    norms: Float[Tensor, "in"]
    sample: Float[Tensor, "sample in"]
    n_tokens: int
    sums: Float[Tensor, "in"] | None = None
    n_sequences: int = 1
    gradient: Float[Tensor, "*kinds out in"] | None = None

    @property
    def variances(self) -> Float[Tensor, "in"]:
        """Of every input over the tokens."""
        count = max(self.n_tokens, 1)
        return (self.norms.double().square() / count - (self.sums.double() / count).square()).clamp(min=0)

    def permuted(self, order: Int[Tensor, "in"]) -> "Statistics":
        """Of the same inputs in another order."""
        hessian = None if self.hessian is None else self.hessian[order][:, order]
        sums = None if self.sums is None else self.sums[order]
        norms, sample = self.norms[order], self.sample[:, order]
        gradient = None if self.gradient is None else self.gradient[..., order]
        return Statistics(hessian, norms, sample, self.n_tokens, sums, self.n_sequences, gradient)


class _Accumulator:
    """Running sums over batches; the activations themselves are never kept."""

    def __init__(self, width: int, device: torch.device, hessian: bool):
        shape = (width, width) if hessian else (width,)
        self.products = torch.zeros(shape, dtype=torch.float32, device=device)
        self.sums = torch.zeros(width, dtype=torch.float32, device=device)
        self.sample = torch.zeros((0, width), dtype=torch.float32, device=device)
        self.n_tokens = 0

    def add(self, inputs: Float[Tensor, "tokens in"]) -> None:
        inputs = inputs.float()
        if self.products.dim() == 2:
            add_gram(self.products, inputs)
        else:
            self.products += inputs.square().sum(dim=0)
        self.sums += inputs.sum(dim=0)
        if len(self.sample) < SAMPLE_TOKENS:
            self.sample = torch.cat([self.sample, inputs[: SAMPLE_TOKENS - len(self.sample)]])
        self.n_tokens += len(inputs)

    def plus(self, other: "_Accumulator") -> "_Accumulator":
        """The sums over what both have seen."""
        both = _Accumulator(self.sample.shape[1], self.products.device, self.products.dim() == 2)
        both.products, both.sums = self.products + other.products, self.sums + other.sums
        both.sample = torch.cat([self.sample, other.sample])[:SAMPLE_TOKENS]
        both.n_tokens = self.n_tokens + other.n_tokens
        return both

    def result(self, n_sequences: int) -> Statistics:
        if self.products.dim() == 1:
            return Statistics(None, self.products.sqrt(), self.sample, self.n_tokens, self.sums, n_sequences)
        norms = self.products.diagonal().clamp_min(0).sqrt()
        hessian = mirror_lower(self.products) * (2 / n_sequences)
        return Statistics(hessian, norms, self.sample, self.n_tokens, self.sums, n_sequences)


class Collector:
    """Hooks on what a block's matrices read, owned by a `with` statement.

    Linear layers are watched one by one, a module of fused experts as a whole. Where the first batch called each of
    them once, later batches may stop at the last one, whose output nobody needs.
    """

    def __init__(self, layers: Mapping[str, Layer], hessian: bool, stop_early: bool):
        self.layers, self.hessian, self.stop_early = layers, hessian, stop_early
        self.sums: dict[str, _Accumulator] = {}
        self.again: dict[str, _Accumulator] = {}  # of layers called more than once in a pass: what they then read
        self.reads: dict[str, str] = {}  # layer → the layer that accumulates their common input
        self.reached: set[nn.Module] = set()
        self.n_batches, self.may_stop, self.called_once = 0, False, False

    def __enter__(self) -> "Collector":
        watched: dict[nn.Module, Callable] = {}
        experts: dict[nn.Module, dict[str, str]] = {}
        for name, layer in self.layers.items():
            if isinstance(layer, ExpertMatrix):
                experts.setdefault(layer.experts, {})[layer.name] = name
            else:
                watched[layer] = self._watch_layer(name)
        watched |= {module: self._watch_experts(names) for module, names in experts.items()}
        self.n_watched = len(watched)
        with ExitStack() as hooks:
            for module, watch in watched.items():
                hooks.enter_context(module.register_forward_pre_hook(watch))
            self.hooks = hooks.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self.hooks.close()

    def start(self, mask: Tensor | None, *, last: bool = True) -> None:
        """A new batch begins, or the block is applied to it once more; the mask is False on its padding.

        Args:
            last: whether this is the last time for the batch, so that the block's output is not needed.
        """
        if self.n_batches == 1:
            self.called_once = self.n_calls == len(self.reached) == self.n_watched
        self.may_stop = self.stop_early and last and self.called_once
        self.mask = mask
        self.seen: dict[str, Tensor] = {}  # the inputs of layers that no earlier batch has reached
        self.called: set[str] = set()
        self.n_batches += 1
        self.n_calls = 0

    def _watch_layer(self, name: str):
        def collect(layer: nn.Module, args: tuple) -> None:
            inputs = args[0]
            if name not in self.reads:
                self.reads[name] = next((other for other, tensor in self.seen.items() if tensor is inputs), name)
                self.seen[name] = inputs
            if name in self.called:  # DeBERTa's keys, of tokens and of distances: others may not read this too
                self._add(self.again, name, *self._without_padding(name, inputs))
            elif self.reads[name] == name:
                self._add(self.sums, name, *self._without_padding(name, inputs))
            self.called.add(name)
            self._count(layer)

        return collect

    def _watch_experts(self, names: dict[str, str]):
        def collect(experts: nn.Module, args: tuple) -> None:
            tokens, chosen = self._without_padding(next(iter(names.values())), *args[:2])
            for own_name, inputs in expert_inputs(experts, tokens, chosen):
                name = names[own_name]
                self.reads[name] = name
                self._add(self.sums, name, inputs)
            self._count(experts)

        return collect

    def _count(self, module: nn.Module) -> None:
        self.n_calls += 1
        self.reached.add(module)
        if self.may_stop and self.n_calls == self.n_watched:
            raise StopForward

    def _without_padding(self, name: str, *tensors: Tensor) -> list[Tensor]:
        """Each tensor as [tokens, width]; some architectures flatten batch and sequence themselves."""
        flat = [tensor.reshape(-1, tensor.shape[-1]) for tensor in tensors]
        if self.mask is None:
            return flat
        if len(flat[0]) != self.mask.numel():
            raise ValueError(
                f"{name} reads {len(flat[0])} of the batch's {self.mask.numel()} tokens, so that padding cannot be "
                "told from text there; calibrate with sequences of one length, without padding."
            )
        return [tokens[self.mask.reshape(-1)] for tokens in flat]

    def _add(self, sums: dict[str, _Accumulator], name: str, tokens: Float[Tensor, "tokens in"]) -> None:
        if name not in sums:
            sums[name] = _Accumulator(tokens.shape[-1], tokens.device, self.hessian)
        sums[name].add(tokens)

    def results(self, block: str, n_sequences: int) -> dict[str, Statistics]:
        """The statistics of every layer; those that no token has reached share what says so, one for each width.

        Raises:
            ValueError: inputs that are not finite; the layer is named.
        """
        for name, sums in [*self.sums.items(), *self.again.items()]:
            if not all_finite(sums.products):
                raise ValueError(
                    f"The inputs of {block}.{name} contain NaN or infinite values on the calibration tokens."
                )
        found = {name: sums.result(n_sequences) for name, sums in self.sums.items()}
        results = {name: found[source] for name, source in self.reads.items()}
        for name, again in self.again.items():
            results[name] = self.sums[self.reads[name]].plus(again).result(n_sequences)
        unreached: dict[int, Statistics] = {}
        for name in [name for name in self.layers if name not in results]:
            weight = weight_matrix(self.layers[name])
            width = weight.shape[1]
            if width not in unreached:
                unreached[width] = _Accumulator(width, weight.device, self.hessian).result(n_sequences)
            results[name] = unreached[width]
        return results


class BlockInputs:
    """Statistics of a block's matrices by layer name, and their factorised Hessians."""

    def __init__(self, collect: Callable[..., dict[str, Statistics]]):
        """`collect(hessian=…)` gathers the statistics."""
        self._collect = collect
        self._statistics: dict[bool, dict[str, Statistics]] = {}
        self._factors: dict[tuple[float, torch.dtype, bool], dict[int, Factor]] = {}

    def statistics(self, *, hessian: bool) -> dict[str, Statistics]:
        """With a Hessian or with norms alone, which are summed in another way and differ in the last digit."""
        if hessian not in self._statistics:
            self._statistics[hessian] = self._collect(hessian=hessian)
        return self._statistics[hessian]

    def keep(self, statistics: dict[str, Statistics], *, hessian: bool) -> None:
        """Take statistics that were gathered elsewhere."""
        self._statistics[hessian] = statistics

    def factors(
        self, damping: float, precision: torch.dtype = torch.float32, *, inverse: bool = True
    ) -> dict[int, Factor]:
        """One factorisation per distinct input, keyed by the identity of its statistics."""
        key = damping, precision, inverse
        if key not in self._factors:
            distinct = {id(own): own for own in self.statistics(hessian=True).values()}
            self._factors[key] = {
                place: factor_hessian(own.hessian.to(precision), damping=damping, inverse=inverse)
                for place, own in distinct.items()
            }
        return self._factors[key]


def output_error(weight: Float[Tensor, "out in"], pruned: Float[Tensor, "out in"], statistics: Statistics) -> float:
    """Relative squared error of the layer's output: exact from the Hessian, else on the sampled calibration tokens.

    NaN where no calibration token reached the matrix.
    """
    if statistics.n_tokens == 0:
        return float("nan")
    if statistics.hessian is not None:
        return relative_output_error(weight, pruned, statistics.hessian)
    total = torch.linalg.vector_norm(statistics.sample @ weight.float().T).item() ** 2
    error = torch.linalg.vector_norm(statistics.sample @ (pruned - weight).float().T).item() ** 2
    return error / total if total > 0 else 0.0
