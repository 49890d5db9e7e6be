"""The stored table of the sweep (docs/conformance.csv), and what is written from it: the page and README's sentence."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import transformers
from conformance.checks import Row

from labutils.core import paths

TABLE = paths.REPOSITORY / "docs" / "conformance.csv"
PAGE = paths.REPOSITORY / "docs" / "conformance.md"
README = paths.REPOSITORY / "README.md"
START, END = "<!-- conformance -->", "<!-- /conformance -->"
OUTCOMES = ("right", "refused", "wrong", "not built")

# What readers call the architectures that most of them look for; README names those that the table finds right.
FAMILIES = {
    "LlamaForCausalLM": "Llama", "MistralForCausalLM": "Mistral", "Qwen2ForCausalLM": "Qwen2",
    "Qwen3ForCausalLM": "Qwen3", "Gemma2ForCausalLM": "Gemma 2", "Gemma3ForCausalLM": "Gemma 3",
    "Phi3ForCausalLM": "Phi-3",
    "Olmo2ForCausalLM": "OLMo 2", "StableLmForCausalLM": "StableLM", "GraniteMoeHybridForCausalLM": "Granite 4",
    "DeepseekV3ForCausalLM": "DeepSeek-V3", "MixtralForCausalLM": "Mixtral", "Qwen3MoeForCausalLM": "Qwen3-MoE",
    "GptOssForCausalLM": "GPT-OSS", "MambaForCausalLM": "Mamba", "OPTForCausalLM": "OPT", "GPT2LMHeadModel": "GPT-2",
    "GPTNeoXForCausalLM": "GPT-NeoX", "BloomForCausalLM": "Bloom", "FalconForCausalLM": "Falcon", "BertModel": "BERT",
    "RobertaModel": "RoBERTa", "DistilBertModel": "DistilBERT", "ModernBertModel": "ModernBERT",
    "T5EncoderModel": "T5's encoder",
}  # fmt: skip


def make_table(rows: Iterable[Row]) -> pd.DataFrame:
    """One row per class, in the order of the names; numbers of a refusal's message are those of the tiny model."""
    found = [
        {
            "class": row.name, "mappings": row.mappings, "outcome": row.outcome, "matrices": row.matrices or None,
            "experts": row.experts, "disk to disk": row.disk, "stays dense": " ".join(row.dense), "reason": row.reason,
            "transformers": transformers.__version__,
        }
        for row in rows
    ]  # fmt: skip
    return pd.DataFrame(found).sort_values("class", ignore_index=True).astype({"matrices": "Int64"})


def read_table(path: Path = TABLE) -> pd.DataFrame:
    """The stored table."""
    return pd.read_csv(path, dtype={"matrices": "Int64"}, keep_default_na=False, na_values={"matrices": [""]})


def page(table: pd.DataFrame) -> str:
    """The page, as Markdown."""
    version = table["transformers"].iloc[0]
    parts = [
        "# Which classes of transformers can be pruned",
        "",
        f"Written by `make conformance` from [conformance.csv](conformance.csv), for transformers {version}.",
        "",
        "Every class that transformers names for a causal language model, a base model or a text encoder is built with",
        "a tiny random configuration. It is *right* where all of this holds, and *refused* where `lab.prune` says why",
        "it cannot be done and leaves the model as it was:",
        "",
        "- the statistics of every matrix are those that hooks see in plain forward passes, of the dense model and",
        "  behind blocks whose weights have changed; experts that are fused in one parameter are watched at the",
        "  products of torch in which they take part, one by one",
        "- `wanda` at 50 % leaves half of the entries of every block matrix zero, and everything else as it was",
        "- `sparsegpt` gives finite weights with as many zeros",
        "- both saved forms load back as the same class with the same state, bit for bit, and the same output but for",
        "  the last digits",
        "- pruning from disk to disk gives the weights that pruning in memory gives, or is refused before it begins",
        "",
        *_summary(table),
        "",
        "## Right",
        "",
        ", ".join(f"`{name}`" for name in table.loc[table["outcome"] == "right", "class"]) + ".",
        "",
        *_remarks(table),
        *_by_reason(table, "refused", "Refused, with the reason"),
        *_by_reason(table, "wrong", "Wrong"),
        *_by_reason(table, "not built", "Not tried: no model of the class can be built here"),
    ]
    return "\n".join(parts).rstrip() + "\n"


def sentence(table: pd.DataFrame) -> str:
    """README's paragraph on architectures."""
    right = set(table.loc[table["outcome"] == "right", "class"])
    counts = table["outcome"].value_counts()
    named = [name for kind, name in FAMILIES.items() if kind in right]
    tried = len(table) - counts.get("not built", 0)
    return (
        f"Architectures are found by structure, not by name. Of {tried} model classes of transformers "
        f"{table['transformers'].iloc[0]}, built tiny and tried one by one, {counts.get('right', 0)} are pruned right "
        f"and {counts.get('refused', 0)} refused with the reason, most of them because they read no text "
        f"([the table](docs/conformance.md)). Right are, among others, {', '.join(named[:-1])} and {named[-1]}."
    )


def with_sentence(readme: str, table: pd.DataFrame) -> str:
    """README with the paragraph of the table between its marks."""
    before, rest = readme.split(START)
    return f"{before}{START}\n{sentence(table)}\n{END}{rest.split(END)[1]}"


def write_all(table: pd.DataFrame) -> None:
    """Store the table, and write the page and README's paragraph from it."""
    table.to_csv(TABLE, index=False)
    stored = read_table()
    PAGE.write_text(page(stored), encoding="utf-8")
    README.write_text(with_sentence(README.read_text(encoding="utf-8"), stored), encoding="utf-8")


def _summary(table: pd.DataFrame) -> list[str]:
    lines = ["| classes | tried | right | refused | wrong | not built |", "|---|---|---|---|---|---|"]
    names = {"causal": "causal language models", "base": "base models", "text": "text encoders"}
    groups = [(label, table[table["mappings"].str.split().map(set).map(lambda own, key=key: key in own)])
              for key, label in names.items()]  # fmt: skip
    for label, rows in [*groups, ("all, each once", table)]:
        counts = Counter(rows["outcome"])
        tried = len(rows) - counts["not built"]
        lines.append(f"| {label} | {tried} | {' | '.join(str(counts[outcome]) for outcome in OUTCOMES)} |")
    return lines


def _remarks(table: pd.DataFrame) -> list[str]:
    """Of the right classes: what was not compared, what stays dense, and what disk to disk refuses."""
    right = table[table["outcome"] == "right"]
    unseen = right[right["experts"].map(_has_unseen)]
    dense = right[right["stays dense"] != ""]
    disk = right[~right["disk to disk"].isin(["equal", ""])]
    lines = ["### Remarks on the right ones", ""]
    for row in unseen.itertuples():
        lines.append(
            f"- `{row[1]}`: {row.experts} matrices of fused experts were compared; no token reached the others, or no "
            "product shows them."
        )
    for name, left in zip(dense["class"], dense["stays dense"], strict=True):
        lines.append(f"- `{name}`: beside the blocks, {', '.join(f'`{one}`' for one in left.split())} stay dense.")
    for reason, rows in disk.groupby("disk to disk"):
        names = ", ".join(f"`{name}`" for name in rows["class"])
        lines.append(f"- Disk to disk refused: {reason} ({names})")
    return [*lines, ""] if len(lines) > 2 else []


def _has_unseen(experts: str) -> bool:
    return bool(experts) and len(set(experts.split(" of "))) > 1


def _by_reason(table: pd.DataFrame, outcome: str, title: str) -> list[str]:
    rows = table[table["outcome"] == outcome]
    if rows.empty:
        return []
    general = [_without_names(reason, name) for reason, name in zip(rows["reason"], rows["class"], strict=True)]
    lines = [f"## {title}", ""]
    groups = rows.assign(general=general).groupby("general")
    for reason, own in sorted(groups, key=lambda group: (-len(group[1]), group[0])):
        lines.append(f"- {reason} ({len(own)}): {', '.join(f'`{name}`' for name in own['class'])}")
    return [*lines, ""]


def _without_names(reason: str, name: str) -> str:
    """A message without what it names of one class, so that equal reasons stand together."""
    general = re.sub(rf"\b{re.escape(name)}\b", "…", reason).replace("|", "/").replace("<", "‹")
    return re.sub(r"(?:\w+\.)+\d+(?:\.\w+)*(?:\[\d+\])?|(?<=')[\w.]+(?=')", "…", general).strip()
