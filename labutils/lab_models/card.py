"""The model card: everything that is measured about a lab model, as `card.json`, and the README written from it."""

import hashlib
import json
from itertools import islice
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.core.provenance import find_versions
from labutils.lab_models import fitness
from labutils.lab_models.corpus import SEEDS_PER_RUN, mixture, stream_texts
from labutils.lab_models.loop import Options
from labutils.lab_models.readme import format_readme
from labutils.lab_models.specs import SEQUENCE_LENGTH
from labutils.models.loading import load_model

LIBRARIES = ("torch", "transformers", "tokenizers", "numpy", "safetensors")
SAMPLED_TEXTS = 200  # per source, to turn tokens into documents


def write_card(folder: Path, *, name: str) -> dict[str, Any]:
    """Measure the model in `folder` and write its `card.json` and `README.md`; returns the card.

    Raises:
        LookupError: the folder holds no model trained by `train_lab_model`.
    """
    if not (folder / "training.json").exists():
        raise LookupError(f"{folder} holds no trained lab model (training.json is missing); train it first.")
    training = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    model, tokenizer = load_model(str(folder.resolve()), device="cpu")
    files = ("model.safetensors", "tokenizer.json")
    card = {
        "name": name,
        "architecture": model.config.architectures[0],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "sha256": {file: hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in files},
        "command": _command(name, training),
        "training": _describe_training(training),
        "corpus": _describe_corpus(training, tokenizer),
        "versions": find_versions(*LIBRARIES),
        **_measure(model, tokenizer),
    }
    (folder / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(format_readme(card), encoding="utf-8")
    return card


def _command(name: str, training: dict[str, Any]) -> str:
    options = training["options"]
    given = f"--tokens {options['tokens']} --seed {options['seed']} --device {training['device']}"
    return f"python -m labutils train {name} {given}"


def _describe_training(training: dict[str, Any]) -> dict[str, Any]:
    options = training["options"]
    return {
        "tokens": training["step"] * options["batch_size"] * SEQUENCE_LENGTH,
        "steps": training["step"],
        "seconds": round(training["seconds"], 1),
        "device": training["device"],
        "options": options,
        "loss_curve": training["loss_curve"],
    }


def _describe_corpus(training: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Tokens per source as trained on, and documents or items as these tokens over the mean length of a sample."""
    options = training["options"]
    sequences = training["step"] * options["batch_size"]
    withheld = Options(**options).withheld  # a model trained before this option read everything
    sources = {}
    for source, share in mixture(withheld).items():
        pairs = islice(stream_texts(source, options["seed"] * SEEDS_PER_RUN + 1), SAMPLED_TEXTS)
        texts = [text + answer for text, answer in pairs]
        lengths = [len(ids) + 1 for ids in tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]]
        tokens = round(share * sequences * (SEQUENCE_LENGTH - 1))
        documents = round(tokens / (sum(lengths) / len(lengths)))
        sources[source] = {"share": round(share, 4), "tokens": tokens, "documents": documents}
    totals = {key: sum(entry[key] for entry in sources.values()) for key in ("tokens", "documents")}
    return {**totals, "withheld": withheld, "sources": sources}


def _measure(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Tasks, families and texts of the dense model and of its magnitude-pruned copy, and the verdict on fitness."""
    pruned = fitness.magnitude_pruned(model, fitness.CHECKED_SPARSITY)
    dense_summary, pruned_summary = (_summarise(each, tokenizer) for each in (model, pruned))
    return {**dense_summary, "pruned": pruned_summary, "fitness": fitness.judge(dense_summary, pruned_summary)}


def _summarise(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    rows = fitness.measure_tasks(model, tokenizer)
    return {
        "tasks": fitness.summarise_tasks(rows),
        "families": fitness.summarise_families(rows),
        "texts": fitness.summarise_texts(fitness.measure_texts(model, tokenizer)),
    }
