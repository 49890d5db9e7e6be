"""The model card: everything measured about a lab model, as JSON, and the README written from it."""

import hashlib
import importlib.metadata
import json
import platform
import sys
from itertools import islice
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from labutils.models import load_model
from labutils.training import fitness
from labutils.training.corpus import SEEDS_PER_RUN, SHARD_SEQUENCES, mixture, stream_texts
from labutils.training.specs import SEQUENCE_LENGTH
from labutils.world import TASKS

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
    pruned = fitness.magnitude_pruned(model, fitness.CHECKED_SPARSITY)
    dense_rows, pruned_rows = (fitness.measure_tasks(each, tokenizer) for each in (model, pruned))
    dense_texts, pruned_texts = (fitness.summarise_texts(fitness.measure_texts(each, tokenizer)) for each in (model, pruned))
    dense_families, pruned_families = (fitness.summarise_families(rows) for rows in (dense_rows, pruned_rows))
    options = training["options"]
    card = {
        "name": name,
        "architecture": model.config.architectures[0],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "config": {key: value for key, value in model.config.to_diff_dict().items() if isinstance(value, int | float | str | bool)},
        "sha256": {"model.safetensors": _sha256(folder / "model.safetensors"), "tokenizer.json": _sha256(folder / "tokenizer.json")},
        "command": f"python -m labutils train {name} --tokens {options['tokens']} --seed {options['seed']} --device {training['device']}",
        "training": {
            "tokens": training["step"] * options["batch_size"] * SEQUENCE_LENGTH,
            "steps": training["step"],
            "seconds": round(training["seconds"], 1),
            "device": training["device"],
            "processor": platform.machine(),
            "options": options,
            "loss_curve": training["loss_curve"],
        },
        "corpus": _describe_corpus(training, tokenizer),
        "versions": {"python": platform.python_version()} | {each: importlib.metadata.version(each) for each in LIBRARIES},
        "tasks": fitness.summarise_tasks(dense_rows),
        "families": dense_families,
        "texts": dense_texts,
        "pruned": {
            "tasks": fitness.summarise_tasks(pruned_rows),
            "families": pruned_families,
            "texts": pruned_texts,
        },
        "fitness": fitness.judge(dense_families, pruned_families, dense_texts, pruned_texts),
    }
    (folder / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(format_readme(card), encoding="utf-8")
    return card


def _describe_corpus(training: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Tokens per source as trained on, and documents as tokens over the mean length of a sample."""
    options = training["options"]
    sequences = training["step"] * options["batch_size"]
    sources = {}
    for source, share in mixture().items():
        texts = list(islice(stream_texts(source, options["seed"] * SEEDS_PER_RUN + 1), SAMPLED_TEXTS))
        lengths = [len(ids) + 1 for ids in tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]]
        tokens = round(share * sequences * (SEQUENCE_LENGTH - 1))
        sources[source] = {"share": round(share, 4), "tokens": tokens, "documents": round(tokens / (sum(lengths) / len(lengths)))}
    totals = {key: sum(entry[key] for entry in sources.values()) for key in ("tokens", "documents")}
    return {**totals, "shards": -(-sequences // SHARD_SEQUENCES), "sources": sources}


def format_readme(card: dict[str, Any]) -> str:
    """The card as Markdown; every number comes from the card."""
    training, corpus, check = card["training"], card["corpus"], card["fitness"]
    percent = f"{check['sparsity']:.0%}"
    lines = [
        f"# {card['name']}",
        "",
        f"A {card['architecture']} of {card['parameters'] / 1e6:.2f} million parameters, trained on the controlled language of this "
        f"collection and on nothing else. Written by the training command from `card.json`; do not edit.",
        "",
        f"**Fitness**: {check['verdict']}.",
        "",
        "```",
        card["command"],
        "```",
        "",
        f"- Corpus: {corpus['documents']:,} documents and task items, {corpus['tokens']:,} tokens, each seen once.",
        f"- Training: {training['tokens']:,} tokens in {training['steps']:,} steps, {training['seconds'] / 60:.1f} minutes on "
        f"{training['device']}, seed {training['options']['seed']}; last loss {training['loss_curve'][-1][1]:.3f} nats per token."
        if training["loss_curve"]
        else f"- Training: {training['tokens']:,} tokens in {training['steps']:,} steps.",
        f"- Versions: {', '.join(f'{name} {version}' for name, version in card['versions'].items())}.",
        f"- SHA-256 of the weights: `{card['sha256']['model.safetensors']}`.",
        "",
        f"## Tasks: dense, and after {percent} magnitude pruning",
        "",
        f"Test items; 95 % intervals (Wilson's for accuracies, bootstrap for correlations). The last column is the same measure "
        f"at {percent}.",
        "",
        "| task | about | measure | chance | dense | interval | pruned |",
        "|---|---|---|---:|---:|---|---:|",
    ]
    for task, entry in card["tasks"].items():
        pruned = card["pruned"]["tasks"][task]["value"]
        lines.append(
            f"| {task} | {TASKS[task].description} | {entry['measure']} | {entry['chance']:.2f} | {entry['value']:.3f} "
            f"| {entry['low']:.3f} to {entry['high']:.3f} | {pruned:.3f} |"
        )
    lines += ["", "| family | chance | dense | interval | pruned |", "|---|---:|---:|---|---:|"]
    for family, entry in card["families"].items():
        pruned = card["pruned"]["families"][family]["value"]
        lines.append(f"| {family} | {entry['chance']:.3f} | {entry['value']:.3f} | {entry['low']:.3f} to {entry['high']:.3f} | {pruned:.3f} |")
    lines += ["", "## Perplexity of test documents", "", "| register / language | dense | interval | pruned |", "|---|---:|---|---:|"]
    for source, entry in card["texts"].items():
        pruned = card["pruned"]["texts"][source]["perplexity"]
        lines.append(f"| {source} | {entry['perplexity']:.3f} | {entry['low']:.3f} to {entry['high']:.3f} | {pruned:.3f} |")
    lines += ["", "## Loss curve", "", "| tokens | loss (nats per token) |", "|---:|---:|"]
    curve = training["loss_curve"]
    lines += [f"| {tokens:,} | {loss:.3f} |" for tokens, loss in curve[:: max(1, len(curve) // 12)]]
    return "\n".join(lines) + "\n"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
