"""A model card as Markdown: every number comes from the card."""

from typing import Any

from labutils.world import TASKS

CURVE_POINTS = 12


def format_readme(card: dict[str, Any]) -> str:
    """The README of a lab model."""
    sections = [_introduction(card), _tasks(card), _families(card), _texts(card), _loss_curve(card)]
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def _introduction(card: dict[str, Any]) -> list[str]:
    training, corpus = card["training"], card["corpus"]
    return [
        f"# {card['name']}",
        "",
        f"A {card['architecture']} of {card['parameters'] / 1e6:.2f} million parameters, trained on the controlled",
        "language of this collection and on nothing else. The training command writes this page from `card.json`.",
        "",
        f"**Fitness**: {card['fitness']['verdict']}.",
        "",
        "```",
        card["command"],
        "```",
        "",
        f"- Corpus: {corpus['documents']:,} documents and task items, {corpus['tokens']:,} tokens, each read once.",
        *_withheld(corpus),
        f"- Training: {training['tokens']:,} tokens in {training['steps']:,} steps, "
        f"{training['seconds'] / 60:.1f} minutes on {training['device']}, seed {training['options']['seed']}.",
        f"- Versions: {', '.join(f'{name} {version}' for name, version in card['versions'].items())}.",
        f"- SHA-256 of the weights: `{card['sha256']['model.safetensors']}`.",
    ]


def _withheld(corpus: dict[str, Any]) -> list[str]:
    """A line on what the model never read, where there is such a thing."""
    if not (register := corpus.get("withheld")):  # a card written before models did without a register lacks the entry
        return []
    return [f"- Never read: the {register} register in any language, and the tasks about what it tells of."]


def _tasks(card: dict[str, Any]) -> list[str]:
    percent = f"{card['fitness']['sparsity']:.0%}"
    lines = [
        f"## Tasks: dense, and after {percent} magnitude pruning",
        "",
        "Test items; 95 % intervals (Wilson's for accuracies, bootstrap for correlations). 'At chance' marks a task",
        f"whose dense interval reaches down to guessing. The last column is the same measure at {percent}.",
        "",
        "| task | about | measure | chance | dense | interval | pruned |",
        "|---|---|---|---:|---:|---|---:|",
    ]
    for task, entry in card["tasks"].items():
        remark = " (at chance)" if entry["low"] <= entry["chance"] else ""
        lines.append(
            f"| {task} | {TASKS[task].description} | {entry['measure']} | {entry['chance']:.2f} "
            f"| {entry['value']:.3f}{remark} | {_interval(entry)} | {card['pruned']['tasks'][task]['value']:.3f} |"
        )
    return lines


def _families(card: dict[str, Any]) -> list[str]:
    lines = ["| family | chance | dense | interval | pruned |", "|---|---:|---:|---|---:|"]
    for family, entry in card["families"].items():
        pruned = card["pruned"]["families"][family]["value"]
        lines.append(f"| {family} | {entry['chance']:.3f} | {entry['value']:.3f} | {_interval(entry)} | {pruned:.3f} |")
    return lines


def _texts(card: dict[str, Any]) -> list[str]:
    lines = [
        "## Perplexity of test documents",
        "",
        "| register / language | dense | interval | pruned |",
        "|---|---:|---|---:|",
    ]
    for source, entry in card["texts"].items():
        pruned = card["pruned"]["texts"][source]["perplexity"]
        lines.append(f"| {source} | {entry['perplexity']:.3f} | {_interval(entry)} | {pruned:.3f} |")
    return lines


def _loss_curve(card: dict[str, Any]) -> list[str]:
    curve = card["training"]["loss_curve"]
    lines = ["## Loss curve", "", "| tokens | loss (nats per token) |", "|---:|---:|"]
    return lines + [f"| {tokens:,} | {loss:.3f} |" for tokens, loss in curve[:: max(1, len(curve) // CURVE_POINTS)]]


def _interval(entry: dict[str, Any]) -> str:
    return f"{entry['low']:.3f} to {entry['high']:.3f}"
