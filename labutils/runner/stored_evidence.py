"""The rows of the stored notebooks in the repository: what each verdict was judged from, and what studies concluded.

`data/evidence/<notebook>` holds what `lab.ledger("data/evidence", from_rows=True)` needs, and
`data/rows/<notebook>.parquet` the rows of the sweeps, for whoever wants to ask them something else.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from labutils.claims.evidence import FILE
from labutils.core import paths
from labutils.core.files import write_atomically
from labutils.core.parquet import read_slim, slim_parquet
from labutils.runner.conclusion import EVIDENCE

STUDIES = ("00", "01", "02", "03", "04", "05")  # of the others the studies themselves are stored, or their rows are few
MOST_BYTES = 10_000_000


def keep_rows(run: Path, stems: Iterable[str], *, data: Path = paths.DATA) -> list[str]:
    """Copy rows and evidence of notebooks 00 to 05 from a run into the data folder; returns the stems kept.

    Raises:
        ValueError: all together would take more than 10 MB; nothing is written then.

        keep_rows(Path("results/full"), ["01_layerwise_sparsity"])
    """
    kept = [stem for stem in stems if stem.startswith(STUDIES) and (run / stem / EVIDENCE / FILE).exists()]
    tables = {stem: slim_parquet(pd.read_parquet(run / stem / "rows.parquet")) for stem in kept}
    evidence = {stem: sorted((run / stem / EVIDENCE).iterdir()) for stem in kept}
    total = sum(map(len, tables.values())) + sum(file.stat().st_size for files in evidence.values() for file in files)
    if total > MOST_BYTES:
        raise ValueError(f"the rows take {total / 1e6:.1f} MB, at most {MOST_BYTES / 1e6:.0f} MB are stored")
    for stem in kept:
        write_atomically(data / "rows" / f"{stem}.parquet", tables[stem])
        shutil.rmtree(data / "evidence" / stem, ignore_errors=True)
        for file in evidence[stem]:
            write_atomically(data / "evidence" / stem / file.name, file.read_bytes())
    return kept


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
