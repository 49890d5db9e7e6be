"""A model built from its configuration alone: with no memory for its weights, or with a state at hand."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedModel

from labutils.models.classes import check_not_quantised, model_class


def build_without_weights(folder: Path, dtype: torch.dtype | None) -> PreTrainedModel:
    """The model of a folder's configuration, in evaluation mode, all parameters on the meta device, buffers real.

    Raises:
        LookupError: no configuration, or one that names no architecture.
        ValueError: the checkpoint is quantised.
    """
    try:
        config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise LookupError(f"{folder} has no configuration that names an architecture: {error}") from error
    check_not_quantised(config, folder)
    with parameters_on_meta():
        return model_class(config).from_config(config, dtype=dtype or config.dtype or torch.float32).eval()


def build_with_state(folder: Path, dtype: torch.dtype | None, state: dict[str, Tensor]) -> PreTrainedModel:
    """The model of a folder's configuration with the given state, under the model's own names.

    Raises:
        LookupError: a weight is missing, and none that the model ties it to is there; or one is of no use to it.
    """
    model = build_without_weights(folder, dtype)
    own = model.state_dict()
    if foreign := sorted(state.keys() - own.keys()):
        raise LookupError(f"{folder} holds {foreign[0]}, which a model of its configuration does not have.")
    state = {name: tensor.to(own[name].dtype) for name, tensor in state.items()}
    model.load_state_dict(state, strict=False, assign=True)  # tied weights follow
    model.tie_weights()
    missing = [name for name, parameter in model.named_parameters() if parameter.is_meta]
    if missing:
        raise LookupError(f"{folder} holds no tensor for {missing[0]}; it is not a complete checkpoint.")
    return model


@contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Modules built inside have no memory for their parameters; buffers are computed as ever."""
    register = nn.Module.register_parameter

    def without_memory(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None and not parameter.is_meta:  # a tied one stays the one that it is
            parameter = nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)
        register(module, name, parameter)

    nn.Module.register_parameter = without_memory
    try:
        yield
    finally:
        nn.Module.register_parameter = register
