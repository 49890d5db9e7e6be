"""The rows of the stored notebooks in the repository: what each verdict was judged from, and what studies concluded.

`data/evidence/<notebook>` holds what `lab.ledger("data/evidence", from_rows=True)` needs, and
`data/rows/<notebook>.parquet` the rows of the sweeps, for whoever wants to ask them something else.
"""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from labutils.claims.evidence import FILE, listed_files
from labutils.claims.evidence import FOLDER as EVIDENCE
from labutils.core import paths
from labutils.core.files import unchanged_on_failure, write_atomically
from labutils.core.parquet import read_slim, slim_parquet

# Of the others the studies themselves are stored, or their rows are few.
STUDIES = ("00", "01", "02", "03", "04", "05", "09", "12", "13", "14")
FOLDERS = ("rows", "evidence")  # of the data folder
MOST_BYTES = 10_000_000  # of all that is in them


def keep_rows(run: Path, stems: Iterable[str], *, data: Path = paths.DATA) -> list[str]:
    """Copy rows and evidence of the notebooks in `STUDIES` from a run into the data folder; returns the stems kept.

    Raises:
        LookupError, ValueError: those of `plan_rows`; nothing is written then.

        keep_rows(Path("results/full"), ["01_layerwise_sparsity"])
    """
    plan = plan_rows(run, stems, data=data)
    write_rows(plan, data=data)
    return list(plan)


def plan_rows(run: Path, stems: Iterable[str], *, data: Path = paths.DATA) -> dict[str, dict[str, bytes]]:
    """What `write_rows` is to write for each notebook in `STUDIES` among the stems: file below the folder → content.

    Of a folder of evidence only the list and the tables that it names are taken. Other notebooks are left out.

    Raises:
        LookupError: the run lacks the rows or the evidence of such a notebook.
        ValueError: with what the folder holds of other notebooks, all would take more than 10 MB.

        plan_rows(Path("results/full"), ["01_layerwise_sparsity"])
    """
    plan = {stem: _read_kept(run, stem) for stem in stems if stem.startswith(STUDIES)}
    found = [path for folder in FOLDERS for path in (data / folder).rglob("*") if path.is_file()]
    total = sum(path.stat().st_size for path in found if _stem(path.relative_to(data)) not in plan)
    total += sum(len(content) for files in plan.values() for content in files.values())
    if total > MOST_BYTES:
        raise ValueError(f"the rows take {total / 1e6:.1f} MB, at most {MOST_BYTES / 1e6:.0f} MB are stored")
    return plan


def write_rows(plan: Mapping[str, Mapping[str, bytes]], *, data: Path = paths.DATA) -> None:
    """Write what `plan_rows` gives in place of what was kept of the same notebooks; a failure leaves all as it was.

    write_rows(plan_rows(Path("results/full"), ["01_layerwise_sparsity"]))
    """
    with unchanged_on_failure(*(data / folder for folder in FOLDERS)):
        for stem, files in plan.items():
            shutil.rmtree(data / "evidence" / stem, ignore_errors=True)
            for name, content in files.items():
                write_atomically(data / name, content)


def _read_kept(run: Path, stem: str) -> dict[str, bytes]:
    rows, evidence = run / stem / "rows.parquet", run / stem / EVIDENCE
    if not rows.is_file() or not (evidence / FILE).is_file():
        raise LookupError(f"{stem}: the run kept no rows of its verdicts, or lost them; run it again")
    kept = {f"evidence/{stem}/{path.name}": path.read_bytes() for path in listed_files(evidence)}
    return {f"rows/{stem}.parquet": slim_parquet(pd.read_parquet(rows)), **kept}


def _stem(path: Path) -> str:
    """The notebook of `rows/<stem>.parquet` or of a file below `evidence/<stem>`."""
    return path.parts[1].removesuffix(".parquet")


def load_stored_rows(stem: str, *, data: Path = paths.DATA) -> pd.DataFrame:
    """The rows with which a stored notebook concluded.

    Raises:
        LookupError: none are stored of it.

        load_stored_rows("02_pruning_strategy")
    """
    path = data / "rows" / f"{stem}.parquet"
    if not path.exists():
        stored = ", ".join(sorted(file.stem for file in path.parent.glob("*.parquet"))) or "none"
        raise LookupError(f"no rows of {stem!r} are stored; stored are those of: {stored}")
    return read_slim(path.read_bytes())
