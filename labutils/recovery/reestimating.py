"""Move biases and norms of a pruned model back to what the dense model gives on the same tokens, without gradients.

What leaves a norm or a layer with a bias is compared channel by channel, in the order of the forward pass, each behind
those already moved. A bias takes up the mean shift (bias correction, Nagel et al. 2019, arXiv:1906.04721); a norm's
gain, and its bias where it has one, the least-squares line from the pruned model's values to the dense model's.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from labutils.core.progress import progress
from labutils.models.modes import device_of, eval_mode
from labutils.recovery.clock import Stopwatch
from labutils.recovery.places import assert_kept, is_norm, kept_places
from labutils.recovery.recovering import Recovered, check_training, restored_on_error

Outputs = Float[Tensor, "tokens channels"]
Channels = Float[Tensor, " channels"]


def reestimate(
    model: PreTrainedModel, dense: PreTrainedModel, tokens: Int64[Tensor, "n seq_len"], *, batch_size: int = 16
) -> Recovered:
    """Re-estimate all biases and norms of a pruned model in place, by forward passes alone.

        lab.recovery.reestimate(pruned, dense, tokens)

    It takes one part of a pass of either model for every norm and every layer with a bias; of their outputs no more
    than a batch is in memory.

    Raises:
        ValueError: unusable tokens; LookupError: the model has neither norms nor biases. The model is then as it was.
    """
    check_training(model, tokens, steps=1, batch_size=batch_size, learning_rate=1.0)
    kept = kept_places(model, dense)
    watch = Stopwatch()
    batches = [batch.to(device_of(model)) for batch in tokens.split(batch_size)]
    modules, wanted = dict(model.named_modules()), dict(dense.named_modules())
    movable = [parameter for one in modules.values() if _is_movable(one) for parameter in _moved(one)]
    with restored_on_error(model, movable), eval_mode(model), eval_mode(dense):
        for name in progress(_in_order(dense, batches[0][:1]), description="re-estimate", unit="module"):
            sums = Sums()
            for batch in batches:
                sums.add(_stop_at(model, modules[name], batch), _stop_at(dense, wanted[name], batch))
            _move(modules[name], sums)
            if (bias_kept := kept.get(f"{name}.bias")) is not None:
                modules[name].bias.masked_fill_(~bias_kept, 0.0)
        assert_kept(model, kept)
    count = sum(parameter.numel() for parameter in movable)
    return Recovered([], watch.spent(), count, tokens.numel())


@dataclass
class Sums:
    """What least squares per channel needs of pruned values x and dense values y, summed over tokens in 64 bits.

    Values are counted from the first batch's means, so that what varies little keeps its digits.
    """

    count: int = 0
    origin: tuple[Tensor, Tensor] | None = None
    x: Tensor | float = 0.0
    y: Tensor | float = 0.0
    xx: Tensor | float = 0.0
    xy: Tensor | float = 0.0

    def add(self, pruned: Outputs, dense: Outputs) -> None:
        """Take up a batch of both models' values at the same tokens."""
        pruned, dense = pruned.double(), dense.double()
        self.origin = self.origin or (pruned.mean(0), dense.mean(0))
        x, y = pruned - self.origin[0], dense - self.origin[1]
        self.count += len(x)
        self.x, self.y = self.x + x.sum(0), self.y + y.sum(0)
        self.xx, self.xy = self.xx + x.square().sum(0), self.xy + (x * y).sum(0)

    def means(self) -> tuple[Channels, Channels]:
        """Of pruned and of dense values."""
        return self.origin[0] + self.x / self.count, self.origin[1] + self.y / self.count

    def line(self) -> tuple[Channels, Channels]:
        """Slope and intercept of the least-squares line from pruned to dense values; (1, shift) where the pruned values
        do not vary."""
        spread = self.xx - self.x * self.x / self.count
        shared = self.xy - self.x * self.y / self.count
        slope = torch.where(spread > 1e-12 * self.xx, shared / spread.clamp(min=1e-30), 1.0)
        mean, target = self.means()
        return slope, target - slope * mean

    def scale(self) -> Channels:
        """The factor that brings pruned values nearest to dense ones; 1 where all pruned values are zero."""
        (mean, _), (a, b) = self.means(), self.origin
        energy = self.xx + a * (mean * self.count + self.x)
        product = self.xy + a * self.y + b * self.x + a * b * self.count
        return torch.where(energy > 0, product / energy.clamp(min=1e-30), 1.0)


def _move(module: nn.Module, sums: Sums) -> None:
    """Give a module the bias, or the gain and bias, that brings its outputs nearest to the dense model's."""
    bias = getattr(module, "bias", None)
    if not is_norm(module):
        mean, target = sums.means()
        module.bias.add_((target - mean).to(bias.dtype))
        return
    offset = _gain_offset(module)
    if bias is None:
        slope = sums.scale()
    else:
        slope, shift = sums.line()
        bias.copy_((bias.double() * slope + shift).to(bias.dtype))
    gain = (module.weight.double() + offset) * slope - offset
    module.weight.copy_(gain.to(module.weight.dtype))


def _gain_offset(module: nn.Module) -> float:
    """What a norm adds to its weight before it multiplies: 1 for Gemma's, 0 for most. A weight of zero tells."""
    weight = module.weight.detach().clone()
    module.weight.zero_()
    probe = torch.linspace(-1.0, 1.0, weight.numel(), device=weight.device, dtype=weight.dtype)[None]
    given = module(probe) - (0.0 if getattr(module, "bias", None) is None else module.bias)
    module.weight.copy_(weight)
    return 1.0 if given.abs().max() > 0 else 0.0


def _is_movable(module: nn.Module) -> bool:
    return is_norm(module) or (isinstance(module, nn.Linear | Conv1D) and module.bias is not None)


def _moved(module: nn.Module) -> list[nn.Parameter]:
    return list(module.parameters(recurse=False)) if is_norm(module) else [module.bias]


def _in_order(dense: PreTrainedModel, tokens: Tensor) -> list[str]:
    """The norms and layers with a bias in the order in which they run; LookupError without any."""
    found: dict[str, None] = {}
    hooks = [
        module.register_forward_hook(lambda _, __, ___, name=name: found.setdefault(name))
        for name, module in dense.named_modules()
        if _is_movable(module)
    ]
    try:
        dense(input_ids=tokens, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        raise LookupError(f"{type(dense).__name__} has neither norms nor biases to re-estimate.")
    return list(found)


class _ReachedModule(Exception):
    """A forward pass came to the module in question; what follows is not needed."""


def _stop_at(model: PreTrainedModel, module: nn.Module, batch: Tensor) -> Outputs:
    """A module's outputs in a forward pass that ends there."""
    found = []

    def stop(_: nn.Module, __: tuple, output: Tensor) -> None:
        found.append(_flat(output))
        raise _ReachedModule

    with _hooked(module, stop):
        try:
            model(input_ids=batch, use_cache=False)
        except _ReachedModule:
            return found[0]
    raise RuntimeError("the module did not run")


@contextmanager
def _hooked(module: nn.Module, hook: Callable) -> Iterator[None]:
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _flat(output: Tensor) -> Outputs:
    return output.detach().float().flatten(0, -2)
