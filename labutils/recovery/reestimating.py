"""Move biases and norms of a pruned model back to what the dense model gives on the same tokens, without gradients.

What leaves a norm or a layer with a bias is compared channel by channel, in the order of the forward pass, each behind
those already moved. A bias takes up the mean shift (bias correction, Nagel et al. 2019, arXiv:1906.04721); a norm's
gain, and its bias where it has one, the least-squares line from the pruned model's values to the dense model's.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

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


def reestimate(
    model: PreTrainedModel, dense: PreTrainedModel, tokens: Int64[Tensor, "n seq_len"], *, batch_size: int = 16
) -> Recovered:
    """Re-estimate all biases and norms of a pruned model in place, by forward passes alone.

        lab.recovery.reestimate(pruned, dense, tokens)

    It takes a pass of the dense model, whose outputs are held in memory, and one part of a pass of the pruned model for
    every norm and every layer with a bias.

    Raises:
        ValueError: unusable tokens; LookupError: the model has neither norms nor biases. The model is then as it was.
    """
    check_training(model, tokens, steps=1, batch_size=batch_size, learning_rate=1.0)
    kept = kept_places(model, dense)
    watch = Stopwatch()
    batches = [batch.to(device_of(model)) for batch in tokens.split(batch_size)]
    with restored_on_error(model), eval_mode(model), eval_mode(dense):
        wanted = _dense_outputs(dense, batches)
        modules = dict(model.named_modules())
        for name in progress(list(wanted), description="re-estimate", unit="module"):
            module = modules[name]
            before = {key: kept.get(f"{name}.{key}") for key in ("weight", "bias")}
            _move(module, torch.cat([_stop_at(model, module, batch) for batch in batches]), wanted.pop(name))
            if before["bias"] is not None:
                module.bias.masked_fill_(~before["bias"], 0.0)
        assert_kept(model, kept)
    count = sum(p.numel() for one in modules.values() if _is_movable(one) for p in _moved(one))
    return Recovered([], watch.spent(), count, tokens.numel())


def fit_line(pruned: Outputs, dense: Outputs) -> tuple[Float[Tensor, " channels"], Float[Tensor, " channels"]]:
    """Slope and intercept of the least-squares line from pruned to dense values, per channel; (1, shift) where the
    pruned values do not vary.

    >>> fit_line(torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [3.0]]))
    (tensor([2.]), tensor([1.]))
    """
    mean, target = pruned.mean(0), dense.mean(0)
    spread = (pruned - mean).square().sum(0)
    slope = torch.where(spread > 0, ((pruned - mean) * (dense - target)).sum(0) / spread.clamp(min=1e-30), 1.0)
    return slope, target - slope * mean


def fit_scale(pruned: Outputs, dense: Outputs) -> Float[Tensor, " channels"]:
    """The factor per channel that brings pruned values nearest to dense ones; 1 where all pruned values are zero."""
    energy = pruned.square().sum(0)
    return torch.where(energy > 0, (pruned * dense).sum(0) / energy.clamp(min=1e-30), 1.0)


def _move(module: nn.Module, pruned: Outputs, dense: Outputs) -> None:
    """Give a module the bias, or the gain and bias, that brings its outputs nearest to the dense model's."""
    bias = getattr(module, "bias", None)
    if not is_norm(module):
        module.bias.add_((dense - pruned).mean(0).to(bias.dtype))
        return
    offset = _gain_offset(module)
    if bias is None:
        slope = fit_scale(pruned, dense)
    else:
        slope, shift = fit_line(pruned, dense)
        bias.copy_((bias.float() * slope + shift).to(bias.dtype))
    gain = (module.weight.float() + offset) * slope - offset
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


def _dense_outputs(dense: PreTrainedModel, batches: list[Tensor]) -> dict[str, Outputs]:
    """The outputs of every norm and layer with a bias, in the order in which they run; LookupError without any."""
    found: dict[str, list[Tensor]] = {}
    hooks = [
        module.register_forward_hook(lambda _, __, output, name=name: found.setdefault(name, []).append(_flat(output)))
        for name, module in dense.named_modules()
        if _is_movable(module)
    ]
    try:
        for batch in batches:
            dense(input_ids=batch, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        raise LookupError(f"{type(dense).__name__} has neither norms nor biases to re-estimate.")
    return {name: torch.cat(parts) for name, parts in found.items()}


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
