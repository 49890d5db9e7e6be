"""Pages of a run on a real model, as Markdown: one per notebook, and a table over all of them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labutils.claims.verdicts import Verdict
from labutils.runner.real_manifest import safe
from labutils.runner.real_outputs import Part
from labutils.runner.spent import in_all

COMMAND = "python -m labutils record <run> <name> --pages"
SIZES = ("seq_len", "n_calibration", "n_draws", "n_items", "n_texts", "rank")  # what the table over notebooks shows
CORRECTED = "Outcomes are corrected (Holm) over all claims of the run; sentences further below give each on its own."
FOLDERS = re.compile(r"(?<![\w.$~])/(?:[\w.+@-]+/)+")


@dataclass(frozen=True)
class RealStudy:
    """One notebook's part of the run.

    Attributes:
        stem, question: of the notebook.
        record: as the runner wrote it.
        verdicts: after Holm's correction over the whole run.
        parts, limits: what its page shows (`real_outputs.read_parts`).
        provenance: of model and machine (`real_outputs.read_provenance`).
    """

    stem: str
    question: str
    record: Mapping[str, Any]
    verdicts: Sequence[Verdict]
    parts: Sequence[Part]
    limits: str
    provenance: Mapping[str, str]

    def figures(self) -> dict[str, bytes]:
        """The figures by their names in the folder of pages."""
        images = [image for part in self.parts for image in part.figures]
        return {f"figures/{self.stem}-{number}.png": image for number, image in enumerate(images, start=1)}

    def texts_of_outputs(self) -> list[str]:
        """Everything that computation, and so the data, may have had a say in."""
        found = [sentence for part in self.parts for sentence in part.sentences]
        for verdict in self.verdicts:
            found += [verdict.note, verdict.correction, *map(str, verdict.scope.values())]
        return [self.record["answer"], *found]


def write_page(study: RealStudy, name: str) -> str:
    """The page of one notebook; `name` says on what the run was made."""
    intro = (
        f"[{study.stem}](../../notebooks/{study.stem}.ipynb) on {safe(name)}; [all pages](index.md). The code, "
        "tables, and what came out on the lab models are in the notebook; tables of this run are left out."
    )
    blocks = [f"# {study.question}", intro, f"**Answer.** {_told(study.record['answer'])}"]
    if study.verdicts:
        blocks += ["## Verdicts", _verdict_table(study.verdicts), CORRECTED]
    blocks += [study.limits] if study.limits else []
    blocks += ["## On what", _table(["", ""], _facts(study))]
    number = 0
    for part in study.parts:
        blocks += [f"## {part.heading}"] if part.begins and part.heading else []
        blocks += [part.words] if part.words else []
        for _ in part.figures:
            number += 1
            blocks.append(f"![{_describe_figure(number, part)}](figures/{study.stem}-{number}.png)")
        blocks += ["> " + _told(sentence.strip()).replace("\n", "\n> ") for sentence in part.sentences]
    parameters = study.record["inputs"]["parameters"].items()
    blocks += [
        "## Parameters",
        _table(["parameter", "value"], [(f"`{key}`", _value(value)) for key, value in parameters]),
    ]
    return "\n\n".join(blocks) + "\n"


def with_verdicts(page: str, verdicts: Sequence[Verdict]) -> str:
    """A page of `write_page` with its table of verdicts written anew; one without verdicts stays as it is."""
    if not verdicts:
        return page
    before, rest = page.split("## Verdicts\n\n", 1)
    _, after = rest.split(f"\n\n{CORRECTED}", 1)
    return f"{before}## Verdicts\n\n{_verdict_table(verdicts)}\n\n{CORRECTED}{after}"


def write_index(name: str, notebooks: Mapping[str, Mapping[str, Any]]) -> str:
    """The table over notebooks; `notebooks` are the manifest's entries by stem."""
    rows = []
    for stem, about in notebooks.items():
        sizes = [f"{key} {about['parameters'][key]}" for key in SIZES if about["parameters"].get(key) is not None]
        hours = [_hours(in_all(about, key)) for key in ("wall_seconds", "processor_seconds")]
        answer = safe(about["answer"])
        rows.append(
            (f"[{stem}]({stem}.md)", about["question"], answer, *hours, ", ".join(sizes), f"{about['n_rows']:,}")
        )
    totals = [_total(notebooks, key) for key in ("wall_seconds", "processor_seconds")]
    rows.append(("**all**", "", "", *totals, "", f"{sum(about['n_rows'] for about in notebooks.values()):,}"))
    columns = ["notebook", "question", "answer", "wall hours", "processor hours", "sizes", "rows"]
    return f"""# {safe(name)}

What the notebooks found on a real model and real texts, which are not part of the repository: only numbers, figures and
single words are kept. The verdicts of all models side by side: [also seen on](../also_seen_on.md).

{_table(columns, rows)}

Processor hours are of the notebook's kernel and its children. Where a page tells of several calls, those that were
interrupted are in its hours.{_alone(notebooks)}

`ledgers/` holds the verdicts of each notebook, each on its own. `rows/` holds the rows behind every answer (Parquet),
to the last digit: `labutils.runner.load_real_rows("<notebook>")` reads them, and contrasts that are computed from them
are those of the verdicts. `manifest.json` holds parameters, versions, and SHA-256 of what was read and written. All
of this folder is generated by `{COMMAND}`.
"""


def _alone(notebooks: Mapping[str, Mapping[str, Any]]) -> str:
    """Of which notebooks interrupted calls were not recorded."""
    stems = [stem for stem, about in notebooks.items() if "earlier" not in about]
    return f" Of these, the last call alone is: {', '.join(stems)}." if stems else ""


def without_folders(text: str) -> str:
    """A text in which absolute paths are cut to their last part, so that no machine shows in it."""
    return FOLDERS.sub("", text)


def _facts(study: RealStudy) -> list[tuple[str, str]]:
    record, inputs, seen = study.record, study.record["inputs"], study.provenance
    parameters, versions, git = inputs["parameters"], inputs["versions"], record["git"]
    models = parameters.get("models") or [parameters.get("model"), parameters.get("second_model")]
    scopes = [", ".join(f"{key} {value}" for key, value in verdict.scope.items()) for verdict in study.verdicts]
    files = [name.rpartition("/")[2] for name in inputs["named"] if not name.startswith("package:")]
    threads, memory = record.get("threads") or seen.get("threads"), record.get("peak_megabytes")
    facts = {
        "model": ", ".join(filter(None, models)),
        "its weights": f"{seen['parameters']} in {seen['dtype']}" if "dtype" in seen else "",
        "files read": ", ".join(files),
        "judged on": "; ".join(dict.fromkeys(scopes)),
        "wall hours": _hours(in_all(record, "wall_seconds")),
        "processor hours": _hours(in_all(record, "processor_seconds")),
        "in calls": str(1 + record["earlier"]["calls"]) if record.get("earlier") else "",
        "peak memory": f"{memory / 1e3:.1f} GB" if memory else "",
        "machine": record["device"] + (f", threads: {threads}" if threads else ""),
        "finished": record["finished"],
        "made by": f"labutils at commit {git['commit'] or 'unknown'}{', with changes' if git['dirty'] else ''}",
        "with": ", ".join(
            f"{name} {versions[name]}" for name in ("python", "torch", "transformers") if name in versions
        ),
    }
    rows = (f"[{record['n_rows']:,}](rows/{study.stem}.parquet)",)
    return [(key, _told(value)) for key, value in facts.items() if value] + [("rows", *rows)]


def _verdict_table(verdicts: Sequence[Verdict]) -> str:
    rows = []
    for verdict in verdicts:
        remarks = "; ".join(filter(None, [verdict.note, verdict.correction]))
        margin = "" if verdict.margin is None else f"{verdict.margin:.2g}"
        basis = "" if verdict.estimate is None else verdict.evidence()
        told = (f"**{verdict.claim}** {verdict.statement}", f"**{verdict.outcome}**", basis, margin, remarks)
        rows.append([_told(text) for text in told])
    columns = ["claim", "outcome", "effect [interval]", "margin", "remarks"]
    return _table(columns, rows)


def _describe_figure(number: int, part: Part) -> str:
    """The text in place of a figure: its section, and the first sentence above it."""
    sentence = re.split(r"(?<=[.:])\s", " ".join(part.words.split()))[0]
    told = [f"Figure {number}.", *(f"{text.rstrip('.')}." for text in (part.heading, sentence) if text)]
    return re.sub(r"[\[\]`*]", "", " ".join(told)).replace("?.", "?").replace(":.", ".")


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(_cell(text) for text in line)} |" for line in lines)


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", text.replace("\n", " "))


def _value(value: Any) -> str:
    entries = value if isinstance(value, list) else [value]
    return ", ".join(_told(str(entry)) for entry in entries) if value is not None else "none"


def _told(text: str) -> str:
    return safe(without_folders(text))


def _hours(seconds: float | None) -> str:
    return "not recorded" if seconds is None else f"{seconds / 3600:.3f}" if seconds < 360 else f"{seconds / 3600:.2f}"


def _total(notebooks: Mapping[str, Mapping[str, Any]], key: str) -> str:
    told = [in_all(about, key) for about in notebooks.values()]
    return "not recorded" if None in told else f"**{_hours(sum(told))}**"
