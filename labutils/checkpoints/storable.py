"""What of a model is stored, and which models can be stored so that they come back as they are."""

import copy
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from labutils.checkpoints.skeleton import build_from_config
from labutils.models.classes import find_class


class Storable:
    """A model as it is going to be stored: checked, before anything is written.

    Attributes:
        model: the model itself, which stays as it is.
        config: what is written as its configuration: its class, the dtype of most of its weights, whether its
            embeddings are tied, and no record of a quantisation that its dense weights no longer have.
        skeleton: the model that this configuration gives, without weights.
        state: the entries that are written. One that the skeleton ties to another is left out; one that shares its
            memory otherwise is written for itself.
    """

    def __init__(self, model: nn.Module):
        """Raises: ValueError: nothing could load it again; the message says why, and what to do."""
        _check_class(model)
        self.model, self.config = model, _stored_config(model)
        self.skeleton = build_from_config(type(model), self.config, self.config.dtype)
        _check_state(model, self.skeleton)
        self.state = _entries(model, self.skeleton)

    @contextmanager
    def as_stored(self) -> Iterator[PreTrainedModel]:
        """The model with the configuration that is stored, which transformers writes; its own comes back after."""
        hidden = {name: self.model.__dict__.pop(name) for name in ("hf_quantizer",) if name in self.model.__dict__}
        own, self.model.config = self.model.config, copy.deepcopy(self.config)
        try:
            yield self.model
        finally:
            self.model.config = own
            self.model.__dict__.update(hidden)


def _check_class(model: nn.Module) -> None:
    kind = type(model).__name__
    for name, module in model.named_modules():
        if type(module).__module__.startswith("peft."):
            raise ValueError(
                f"{name or kind} is of peft: the model holds adapters beside its weights. `model.save_pretrained(...)` "
                "stores the adapters alone; `model.merge_and_unload()` merges them into the weights and "
                "`model.unload()` takes them off, and what either gives can be saved here."
            )
    if not isinstance(model, PreTrainedModel):
        raise ValueError(
            f"{kind} is no model of transformers, so no configuration tells how to build it again. Save the model "
            "inside it: `model.module` of a DataParallel, `model._orig_mod` of a compiled one."
        )
    if find_class(kind) is not type(model):
        raise ValueError(
            f"transformers has no class {kind} of its own, so a folder of it could not be loaded. Load its state into "
            "the class of transformers that it is made from, and save that."
        )


def _stored_config(model: PreTrainedModel) -> PreTrainedConfig:
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    config.dtype = _common_dtype(model)
    for entry in ("quantization_config", "compression_config"):
        if hasattr(config, entry):
            delattr(config, entry)
    if (tied := _are_tied(model)) is not None:
        for owner in (config, config.get_text_config()):
            if getattr(owner, "tie_word_embeddings", tied) != tied:
                owner.tie_word_embeddings = tied
    return config


def _are_tied(model: PreTrainedModel) -> bool | None:
    """Whether the output matrix is the embeddings' own; None where the model has not both."""
    try:
        tables = model.get_input_embeddings(), model.get_output_embeddings()
    except NotImplementedError:  # a model of images or sound
        return None
    inputs, outputs = (getattr(table, "weight", None) for table in tables)
    return inputs is outputs if isinstance(inputs, Tensor) and isinstance(outputs, Tensor) else None


def _common_dtype(model: PreTrainedModel) -> torch.dtype:
    """That of most of its numbers; a few tensors may be kept more exactly."""
    counts: Counter[torch.dtype] = Counter()
    for parameter in model.parameters():
        if parameter.is_floating_point():
            counts[parameter.dtype] += parameter.numel()
    return counts.most_common(1)[0][0] if counts else model.dtype


def _check_state(model: PreTrainedModel, skeleton: PreTrainedModel) -> None:
    kind, own, state = type(model).__name__, skeleton.state_dict(), model.state_dict()
    for name, tensor in state.items():
        if name not in own:
            raise ValueError(
                f"{name} is nothing that a {kind} of its configuration has, so it could not be loaded. Take off what "
                "was put around its layers (`torch.nn.utils.prune.remove`, `remove_parametrizations`, `_orig_mod` of "
                "a compiled part), or change `model.config` along with the model."
            )
        if tensor.is_meta:
            raise ValueError(
                f"{name} is not in memory (it is offloaded, or was never loaded). Load the whole model, or prune from "
                "disk to disk with `prune_checkpoint`."
            )
        if tensor.is_floating_point() != own[name].is_floating_point():
            raise ValueError(f"{name} is quantised ({tensor.dtype}); save the dense model, and quantise afterwards.")
        if tensor.shape != own[name].shape:
            raise ValueError(
                f"{name} is {tuple(tensor.shape)}, but a {kind} of its configuration has {tuple(own[name].shape)}. "
                "Change `model.config` along with the model."
            )
    if absent := sorted(own.keys() - state.keys()):
        raise ValueError(
            f"The model has no {absent[0]}, as a {kind} of its configuration has ({len(absent)} are missing in all). "
            "Change `model.config` along with the model, such as its number of layers."
        )


def _entries(model: PreTrainedModel, skeleton: PreTrainedModel) -> dict[str, Tensor]:
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    for name, kept in skeleton.all_tied_weights_keys.items():
        if name in state and kept in state and _place(state[name]) == _place(state[kept]):
            del state[name]
    seen: set[int] = set()
    for name, tensor in state.items():
        storage = tensor.untyped_storage().data_ptr()
        if storage in seen:
            state[name] = tensor.clone(memory_format=torch.contiguous_format)
        seen.add(storage)
    return state


def _place(tensor: Tensor) -> tuple:
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype
