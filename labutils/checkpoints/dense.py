"""The plain form of a saved model: a folder that transformers loads like any other."""

from pathlib import Path

import torch
from transformers import PreTrainedModel

from labutils.checkpoints.naming import match_all
from labutils.checkpoints.shards import Shards, check_same, open_shards
from labutils.checkpoints.skeleton import read_config
from labutils.checkpoints.storable import Storable
from labutils.models.classes import check_not_quantised, model_class, saved_class
from labutils.models.exact import load_weights, without_progress_bar


def write_dense(storable: Storable, folder: Path) -> None:
    """Write a model, and read back every tensor of it.

    Raises:
        OSError: it cannot be written, or is not what was written.
    """
    with storable.as_stored() as model, without_progress_bar():
        model.save_pretrained(folder, state_dict=dict(storable.state))
    storable.config.save_pretrained(folder)
    _check_written(storable, folder)


def read_dense(folder: Path, dtype: torch.dtype | None, *, as_loaded: bool) -> PreTrainedModel:
    """The model of a folder with everything in it, as it was saved.

    Args:
        dtype: None keeps that of every tensor.
        as_loaded: the class and dtypes in which `load_model` would load it, instead of those that it was saved from.

    Raises:
        LookupError, ValueError: a missing, damaged or foreign file or tensor.
    """
    shards = open_shards(folder)  # says clearly what is missing or damaged
    config = read_config(folder)
    check_not_quantised(config, folder)
    kind = (model_class if as_loaded else saved_class)(config)
    model = load_weights(kind, str(folder), config, dtype=dtype or "auto")
    if dtype is None and not as_loaded:
        _keep_dtypes(model, shards)
    return model


def _keep_dtypes(model: PreTrainedModel, shards: Shards) -> None:
    """Give back their dtype to entries that transformers has cast to that of the others."""
    state = model.state_dict(keep_vars=True)
    for group in match_all(shards.shapes, model, set(state)):
        found = {shards.dtypes[key] for key in group.keys}
        if any(state[name].is_floating_point() and found != {state[name].dtype} for name in group.names):
            for name, tensor in group.to_model(shards.read, model).items():
                state[name].data = tensor.to(state[name].device)


def _check_written(storable: Storable, folder: Path) -> None:
    shards, left = open_shards(folder), set(storable.state)
    left -= set(storable.model._keys_to_ignore_on_save or ())
    with shards.reading() as read:
        for group in match_all(shards.shapes, storable.skeleton, left):
            for name, tensor in group.to_model(read, storable.skeleton).items():
                if name in storable.state:
                    check_same(name, tensor, storable.state[name], shards.files[group.keys[0]])
                    left.discard(name)
    if left:
        raise ValueError(
            f"transformers does not write {min(left)} of a {type(storable.model).__name__} so that it can be read back "
            f"({len(left)} such tensors). Save the compact form, which keeps the model's own names."
        )
