"""A model built from its configuration alone: with no memory for its weights, or with a state at hand."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.core_model_loading import build_glob_alternation

from labutils.models.classes import builder, check_not_quantised, model_class, saved_class


def build_without_weights(
    folder: Path, dtype: torch.dtype | None, *, stored: torch.dtype = torch.float32,
    choose: Callable[[PreTrainedConfig], type] = model_class,
) -> PreTrainedModel:  # fmt: skip
    """The model of a folder's configuration, in evaluation mode, all parameters on the meta device, buffers real.

    Args:
        dtype: None for the one that the configuration names.
        stored: the dtype where it names none.
        choose: which class to build.

    Raises:
        LookupError: no configuration, or one that names no architecture.
        ValueError: the checkpoint is quantised.
    """
    config = read_config(folder)
    check_not_quantised(config, folder)
    try:
        return build_from_config(choose(config), config, dtype or config.dtype or stored)
    except ValueError as error:
        raise LookupError(f"{folder} cannot be built by transformers: {error}") from error


def read_config(folder: Path) -> PreTrainedConfig:
    """The configuration of a folder; a LookupError where there is none, or none that can be read."""
    try:
        return AutoConfig.from_pretrained(folder)
    except Exception as error:  # on a damaged file transformers raises whatever comes
        raise LookupError(f"{folder} has no configuration that names an architecture: {error}") from error


def build_from_config(kind: type, config: PreTrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    """A model without weights; every entry has the dtype in which transformers would load it.

    Some tensors are kept in float32 whatever the rest is in, such as the biases by which experts are chosen.
    """
    with parameters_on_meta():
        model = builder(kind)(config, dtype=dtype).eval()
    if plan := model._get_dtype_plan(dtype):
        patterns, group_of, _ = build_glob_alternation(list(plan))
        for name, entry in model.state_dict(keep_vars=True).items():
            if entry.is_floating_point() and (found := patterns.search(name)):
                entry.data = entry.data.to(plan[group_of[found.lastgroup]])
    return model


def build_with_state(folder: Path, dtype: torch.dtype | None, state: Mapping[str, Tensor]) -> PreTrainedModel:
    """The model of a folder's configuration with the given state, under the model's own names.

    Args:
        dtype: None keeps that of every tensor.

    Raises:
        LookupError: a weight is missing, and none that the model ties it to is there; or one is of no use to it.
        ValueError: a weight of another shape than the configuration asks for.
    """
    model = build_without_weights(folder, dtype, choose=saved_class)
    own = model.state_dict()
    if foreign := sorted(state.keys() - own.keys()):
        raise LookupError(f"{folder} holds {foreign[0]}, which a model of its configuration does not have.")
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            raise ValueError(
                f"{name} in {folder} is {tuple(tensor.shape)}, but its configuration asks for "
                f"{tuple(own[name].shape)}; they do not belong together."
            )
    if dtype is not None:
        state = {name: tensor.to(own[name].dtype) for name, tensor in state.items()}
    model.load_state_dict(state, strict=False, assign=True)
    missing = set(own) - set(state)
    model.tie_weights(missing_keys=missing, recompute_mapping=False)  # takes those that are tied out of the missing
    if missing:
        raise LookupError(f"{folder} holds no tensor for {min(missing)}; it is not a complete checkpoint.")
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
