"""Keep a run on a real model in `docs/real`: pages, figures, rows and a manifest, without a text of its data.

Everything is made and checked in memory first; a run that is refused changes nothing.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from labutils.claims.ledger import FILE as LEDGER
from labutils.claims.ledger import correct
from labutils.claims.verdicts import Verdict
from labutils.core import paths
from labutils.core.files import hash_bytes, hash_path, write_atomically
from labutils.runner.foreign_text import find_quotation, text_files
from labutils.runner.notebooks import find_notebooks, hash_cells, read_notebook, read_title
from labutils.runner.real_kept import KeptPages, read_pages, read_verdicts
from labutils.runner.real_manifest import FOLDER, MANIFEST, read_manifest, seal
from labutils.runner.real_outputs import TAG, hidden_cells, read_parts, read_provenance
from labutils.runner.real_pages import RealStudy, without_folders, write_index, write_page
from labutils.runner.real_rows import slim_rows
from labutils.runner.records import find_damaged, find_named, read_records
from labutils.runner.stored_outputs import write_heads, write_readme

PROFILE = "real"
MOST_BYTES = 5_000_000  # of all rows together
MEASURED = (
    "n_rows",
    "verdicts",
    "device",
    "threads",
    "wall_seconds",
    "processor_seconds",
    "peak_megabytes",
    "finished",
)


def keep_pages(
    run: str | Path,
    name: str,
    *,
    add: bool = False,
    notebooks: Path = paths.NOTEBOOKS,
    readme: Path | None = None,
    real: Path = FOLDER,
) -> list[str]:
    """Write the pages of a run on a real model, tell its answers in notebooks and README, and return the stems.

    The pages of an earlier run are replaced; with `add`, those of notebooks that this run is without stay, and Holm's
    correction is over all that is kept then. Texts of the data are left out: outputs of code cells tagged `texts`,
    tables, and columns of rows that quote them.

    Args:
        run: folder of a run with the profile `real`.
        name: on what it was made, for instance the model and the texts.
        add: to what is kept under the same name.
        notebooks, readme, real: where to write; those of the repository by default.

    Raises:
        LookupError: the folder holds no run, or the data it read are not found.
        ValueError: a notebook failed, ran with another profile or with other cells than it has now; its outputs or its
            data were changed since; an output quotes the data; the rows are too large; or there is nothing to add to:
            nothing is kept, it has another name, or it was edited. Nothing is written then.

        keep_pages("results/real", "SmolLM2-135M on WikiText and PubMed")
    """
    run = paths.expand(run)
    records = read_records(run)
    if not records:
        raise LookupError(f"{run} holds no run: no record of a notebook was found in it")
    present = find_notebooks(notebooks)
    for stem, record in records.items():
        _check(run, stem, record, present)
    ledgers = "".join((run / stem / LEDGER).read_text() for stem, each in records.items() if not each["after_all"])
    if not (run / LEDGER).exists() or (run / LEDGER).read_text() != ledgers:
        raise ValueError(f"{run / LEDGER} is not what the notebooks found; `labutils run … --resume` writes it anew")
    stays = read_pages(name, without=list(records), real=real) if add else KeptPages({}, {}, {})
    found = stays.verdicts | {stem: read_verdicts(run / stem / LEDGER) for stem in records}
    corrected = _correct_together({stem: found[stem] for stem in sorted(found)})
    contents, entries = stays.told_anew(corrected), dict(stays.entries)
    for stem, record in records.items():
        study = _read_study(run, record, present[stem], corrected[stem])
        made, entries[stem] = _make_files(run, study, name)
        contents |= made
    _check_size({file: content for file, content in contents.items() if file.startswith("rows/")})
    entries = {stem: entries[stem] for stem in sorted(entries)}
    contents["index.md"] = write_index(name, entries).encode()
    _write(real, contents, {"name": name, "notebooks": entries})
    write_heads(notebooks=notebooks, real=real)
    write_readme(notebooks=notebooks, readme=readme, real=real)
    return list(records)


def _check(run: Path, stem: str, record: Mapping[str, Any], present: Mapping[str, Path]) -> None:
    if record["status"] != "succeeded" or record["profile"] != PROFILE:
        raise ValueError(f"{stem}: pages come from a successful run with the profile {PROFILE!r}")
    if damaged := find_damaged(run, record):
        raise ValueError(f"{stem}: {damaged[0]} is missing or altered since that run")
    if stem not in present or hash_cells(read_notebook(present[stem])) != record["inputs"]["cells_sha256"]:
        raise ValueError(
            f"{stem}: its cells changed since that run; run it again, or go back to {record['git']['commit']}"
        )


def _find_sources(stem: str, inputs: Mapping[str, Any]) -> list[Path]:
    """The files of texts that the run read, as they were."""
    found = find_named(_located(inputs["parameters"]))
    expected = {_located(name): sha for name, sha in inputs["named"].items() if not name.startswith("package:")}
    if missing := sorted(set(expected) - set(found)):
        raise LookupError(
            f"{stem} read {missing[0]}, which is not found; set LABUTILS_DATA to the folder that holds it"
        )
    texts = {name: path for name, path in found.items() if text_files(path)}
    for name, path in texts.items():
        if name in expected and hash_path(path) != expected[name]:
            raise ValueError(
                f"{stem}: {name} is not what that run read; bring it back, so that quotations of it are found"
            )
    return list(texts.values())


def _located(value: Any) -> Any:
    """A recorded name as `find_file` takes it: files of `LABUTILS_DATA` are named from that folder."""
    if isinstance(value, Mapping):
        return {key: _located(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_located(entry) for entry in value]
    return value.replace("$LABUTILS_DATA/", "") if isinstance(value, str) else value


def _correct_together(found: Mapping[str, list[Verdict]]) -> dict[str, list[Verdict]]:
    """The verdicts by notebook, corrected over all of them."""
    corrected = iter(correct([one for verdicts in found.values() for one in verdicts]))
    return {stem: [next(corrected) for _ in verdicts] for stem, verdicts in found.items()}


def _read_study(run: Path, record: Mapping[str, Any], present: Path, verdicts: list[Verdict]) -> RealStudy:
    stem, notebook = record["notebook"], read_notebook(present)
    executed = read_notebook(run / stem / f"{stem}.ipynb")
    parts, limits = read_parts(executed, hidden_cells(notebook, executed), record["answer"])
    return RealStudy(stem, read_title(notebook), record, verdicts, parts, limits, read_provenance(executed))


def _make_files(run: Path, study: RealStudy, name: str) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Page, figures and rows of a notebook by their names in the folder, and its entry in the manifest."""
    stem, record, inputs = study.stem, study.record, study.record["inputs"]
    sources = _find_sources(stem, inputs)
    if quoted := find_quotation(study.texts_of_outputs(), sources):
        raise ValueError(f"{stem} would quote its data, “{quoted}”: give the cell that shows it the tag {TAG!r}")
    rows, left_out = slim_rows(
        pd.read_parquet(run / stem / "rows.parquet"),
        is_quotation=lambda texts: find_quotation(texts, sources) is not None,
    )
    page = write_page(study, name).encode()
    about = {"question": study.question, "answer": without_folders(record["answer"])}
    about |= {key: record.get(key) for key in MEASURED} | {key: record[key] for key in ("earlier",) if key in record}
    about |= {"git": record["git"], **inputs, "columns_left_out": left_out}
    made = {f"{stem}.md": page, f"rows/{stem}.parquet": rows, **study.figures()}
    verdicts = without_folders((run / stem / LEDGER).read_text())
    return made | {f"ledgers/{stem}.jsonl": verdicts.encode()}, _without_folders(about)


def _without_folders(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_without_folders(name): _without_folders(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_without_folders(entry) for entry in value]
    return without_folders(value) if isinstance(value, str) else value


def _check_size(rows: Mapping[str, bytes]) -> None:
    if (total := sum(map(len, rows.values()))) > MOST_BYTES:
        sizes = ", ".join(f"{name} {len(content) / 1e6:.1f}" for name, content in rows.items())
        raise ValueError(f"the rows take {total / 1e6:.1f} MB, at most {MOST_BYTES / 1e6:.0f} MB are stored ({sizes})")


def _write(real: Path, contents: Mapping[str, bytes], about: dict[str, Any]) -> None:
    """Write the folder anew; what an earlier run left goes, and the manifest comes last."""
    earlier = read_manifest(real).get("files", {})
    for name, content in contents.items():
        write_atomically(real / name, content)
    for name in set(earlier) - set(contents):
        (real / name).unlink(missing_ok=True)
    files = {name: hash_bytes(content) for name, content in contents.items()}
    write_atomically(real / MANIFEST, seal(about | {"files": files}))
