"""What stands around a model or a layer: compiled, parallel and adapted models, and the model itself inside them."""

from collections.abc import Iterator

from torch import nn
from transformers import PreTrainedModel


def bare_model(model: nn.Module) -> PreTrainedModel:
    """The transformers model that is meant: itself, the base of a PEFT model, or what `torch.compile` was given.

        bare_model(peft.get_peft_model(llama, config)) is llama

    Of a PEFT model the adapters stay where they are, in the base model's blocks, and take part in what it computes.

    Raises:
        ValueError: a model that runs on several devices through a wrapper, or no transformers model at all.
    """
    if isinstance(compiled := getattr(model, "_orig_mod", None), nn.Module):
        return bare_model(compiled)
    if isinstance(model, PreTrainedModel):
        return model
    if _is_peft(model) and hasattr(model, "get_base_model"):
        return bare_model(model.get_base_model())
    inner = getattr(model, "module", None)
    if isinstance(inner, nn.Module):
        raise ValueError(
            f"{type(model).__name__} is a wrapper that spreads batches over devices; give the model inside it, "
            "`model.module`."
        )
    raise ValueError(f"{type(model).__name__} is no model of transformers (a PreTrainedModel); give one.")


def base_modules(block: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """As `block.named_modules()`, but without adapters: an adapted layer is its base layer, by the name it always had.

    >>> dict(base_modules(adapted_block))["self_attn.q_proj"]
    Linear(in_features=2048, out_features=2048, bias=False)
    """
    known: set[nn.Module] = set()
    waiting = [("", block)]
    while waiting:
        name, module = waiting.pop()
        module = base_layer(module)
        if module in known:
            continue
        known.add(module)
        yield name, module
        start = f"{name}." if name else ""
        children = [(start + own, child) for own, child in module._modules.items() if child is not None]
        waiting.extend(reversed(children))


def base_layer(module: nn.Module) -> nn.Module:
    """What PEFT has put adapters around; any other module itself."""
    while _is_adapted(module):
        module = module.base_layer
    return module


def adapted_layers(block: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The layers that PEFT has put around others, by their names in the block, those inside others too."""
    return ((name, module) for name, module in block.named_modules() if _is_adapted(module))


def _is_adapted(module: nn.Module) -> bool:
    return "base_layer" in module._modules and _is_peft(module)


def _is_peft(module: nn.Module) -> bool:
    return type(module).__module__.startswith("peft.")
