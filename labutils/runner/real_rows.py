"""Rows of a run on a real model, made small without a change of any number, and without a text of the data.

`load_real_rows` reads them again.
"""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from labutils.core.files import hash_bytes
from labutils.core.parquet import read_slim, slim_parquet
from labutils.runner.real_manifest import FOLDER, read_manifest

LONGEST = 200  # characters; what is longer is no name


def slim_rows(rows: pd.DataFrame, *, is_quotation: Callable[[list[str]], bool]) -> tuple[bytes, list[str]]:
    """The content of a small Parquet file of one row group, and the columns that were left out.

    Args:
        rows: as a study concluded with them.
        is_quotation: tells whether any of some texts quotes the data; such a column is left out.

        content, left_out = slim_rows(rows, is_quotation=lambda texts: False)
    """
    texts = {name: [str(value) for value in rows[name].dropna().unique()] for name in rows if _is_text(rows[name])}
    left_out = [
        name for name, found in texts.items() if max(map(len, found), default=0) > LONGEST or is_quotation(found)
    ]
    return slim_parquet(rows.drop(columns=left_out)), left_out


def load_real_rows(stem: str, *, real: Path = FOLDER) -> pd.DataFrame:
    """The rows of a notebook's run on a real model, as the study concluded with them.

    Contrasts and intervals that are computed from them are those of its verdicts.

    Raises:
        LookupError: nothing is stored for that notebook.
        ValueError: the file is not the one that was stored.

        rows = load_real_rows("01_layerwise_sparsity")
        lab.contrast(rows, {"magnitude": ("magnitude/uniform", "magnitude/global")})
    """
    manifest, name = read_manifest(real), f"rows/{stem}.parquet"
    if name not in manifest.get("files", {}):
        stored = ", ".join(manifest.get("notebooks", {})) or "none"
        raise LookupError(f"no rows of {stem!r} on a real model are stored; stored are: {stored}")
    content = (real / name).read_bytes()
    if hash_bytes(content) != manifest["files"][name]:
        raise ValueError(f"{name} is not the file that was recorded: take it from the repository again")
    return read_slim(content)


def _is_text(column: pd.Series) -> bool:
    return not (pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column))
