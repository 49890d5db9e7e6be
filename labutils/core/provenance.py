"""Where numbers come from: versions, device, and fingerprints of model, tokenizer and data, as one table."""

import contextlib
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
import torch
from transformers import PreTrainedTokenizerBase

from labutils.core import paths
from labutils.core.files import git_state, hash_json, hash_path, without_paths
from labutils.core.parts import split_part

FOLDED = "folded"  # in `DataFrame.attrs`: the title under which `lab.show` folds a table away
PACKAGES = ("torch", "transformers", "tokenizers", "numpy")


def provenance(
    model: torch.nn.Module | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    sources: Iterable[str] = (),
    seed: int | None = None,
    tokens: torch.Tensor | None = None,
) -> pd.DataFrame:
    """Tell what a result depends on, for the top of a notebook.

    Args:
        model: its name, number of parameters, dtype and a SHA-256 of its weights are told; of one from a GGUF file
            also the file's SHA-256, architecture and types.
        tokenizer: its class, number of tokens and a SHA-256 of its vocabulary are told.
        sources: names of texts and tasks, as `load_texts` takes them; files get a SHA-256 of their content.
        seed: the seed of everything random.
        tokens: the token ids that were used, of which a SHA-256 is told: versions of a tokenizer may differ in them.

    Returns:
        DataFrame with the columns `item` and `value`, both text.

    Raises:
        LookupError: a source `file:<path>` does not exist.

        lab.provenance(model, tokenizer, sources=["lab:review", "file:notes.txt"], seed=0)
    """
    git = git_state()
    commit = "outside git" if git["commit"] is None else f"{git['commit']}{' with changes' if git['dirty'] else ''}"
    versions = find_versions("labutils", *PACKAGES)
    rows: list[tuple[str, Any]] = [("labutils", versions.get("labutils", "not installed")), ("git commit", commit)]
    rows += [("python", versions["python"])]
    rows += [(package, versions[package]) for package in PACKAGES]
    rows += [("device", _describe_device(model)), ("threads", torch.get_num_threads())]
    if model is not None:
        rows += _describe_model(model)
    if tokenizer is not None:
        name = type(tokenizer).__name__
        rows += [("tokenizer", f"{name}, {len(tokenizer):,} tokens"), ("tokenizer sha256", hash_tokenizer(tokenizer))]
    rows += [(f"source {without_paths(source)}", _fingerprint(source)) for source in sources]
    if tokens is not None:
        rows += [("token ids sha256", hash_tensors({"input_ids": tokens}))]
    if seed is not None:
        rows += [("seed", seed)]
    table = pd.DataFrame([(item, str(value)) for item, value in rows], columns=["item", "value"])
    table.attrs[FOLDED] = "Versions, model, tokenizer and texts, with their hashes"
    return table


def find_versions(*packages: str) -> dict[str, str]:
    """Versions of Python and of these packages, as far as they are installed.

    >>> find_versions("torch", "no-such-package")
    {'python': '3.12.3', 'torch': '2.13.0'}
    """
    found = {"python": platform.python_version()}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def hash_weights(model: torch.nn.Module) -> str:
    """SHA-256 of all entries of the model's state (`hash_tensors`)."""
    return hash_tensors(model.state_dict())


def hash_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of tensors, in the order of their names.

    Equal for equal values, whatever device they are on and however they were stored.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # Bytes, not numbers: numpy has no bfloat16.
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def hash_tokenizer(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of what turns text into ids: the whole fast tokenizer, or the vocabulary of a slow one."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return hash_json(json.loads(backend.to_str()) if backend is not None else tokenizer.get_vocab())


def _describe_model(model: torch.nn.Module) -> list[tuple[str, Any]]:
    name = getattr(getattr(model, "config", None), "_name_or_path", "") or type(model).__name__
    size = sum(parameter.numel() for parameter in model.parameters())
    return [
        ("model", f"{without_paths(str(name))} ({type(model).__name__})"),
        ("parameters", f"{size:,}"),
        ("dtype", ", ".join(sorted({str(p.dtype).removeprefix("torch.") for p in model.parameters()}))),
        ("weights sha256", hash_weights(model)),
        *getattr(model, "labutils_origin", {}).items(),
    ]


def _describe_device(model: torch.nn.Module | None) -> str:
    parameter = next(model.parameters(), None) if model is not None else None
    device = parameter.device if parameter is not None else torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def _fingerprint(source: str) -> str:
    kind, _, name = source.partition(":")
    if kind == "file":
        return f"sha256 {hash_path(paths.find_file(split_part(name)[0]))}"
    if kind == "lab":
        return f"written by the controlled language, sha256 of its data {hash_path(paths.DATA / 'world')}"
    return "by its revision on the hub" if kind == "hub" else "not a known kind of source"
