"""The last cell of every notebook: `conclude` writes what the study found, and that it came to its end."""

import datetime
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence

import pandas as pd

from labutils.claims.evidence import write_evidence
from labutils.claims.ledger import FILE, reject_repeated, write_ledger
from labutils.claims.verdicts import Verdict
from labutils.core.files import hash_bytes, hash_file, write_atomically
from labutils.core.paths import study_folder
from labutils.core.usage import peak_resident_megabytes, processor_seconds
from labutils.runner.row_files import frame_to_parquet

EVIDENCE = "evidence"  # folder of the rows that verdicts were judged from, in the notebook's folder


def conclude(rows: pd.DataFrame, verdicts: Sequence[Verdict], answer: str) -> pd.DataFrame:
    """Write a study's rows, verdicts and one-line answer, and return the verdicts as a table.

    Under the runner they go to the notebook's folder of the run, elsewhere to its folder in `results/interactive`.
    Written are, each atomically, `rows.parquet`, `ledger.jsonl` (one verdict a line), the folder `evidence` (what every
    verdict was judged from) and, last of all, `result.json`, whose presence tells that the study came to its end.

    Args:
        rows: the tidy rows that the verdicts were computed from.
        verdicts: as `judge` gives them; may be empty.
        answer: the answer to the notebook's question, one line with number and interval.

    Raises:
        ValueError: the answer is empty or has several lines, two verdicts are on one claim, a verdict holds NaN, or
            Parquet cannot hold the rows (a column with lists beside names is written as text).

        lab.conclude(rows, [lab.judge("C01", …)], "Yes: 0.12 nats [0.08, 0.16] more loss")
    """
    answer = answer.strip()
    if not answer or "\n" in answer:
        raise ValueError(f"the answer must be one line of text, not {answer!r}")
    reject_repeated(verdicts, "the study")
    folder = study_folder()
    parquet = frame_to_parquet(rows)
    write_atomically(folder / "rows.parquet", parquet)
    write_ledger(folder / FILE, verdicts)
    write_evidence(folder / EVIDENCE, verdicts)
    result = {
        "answer": answer,
        "n_rows": len(rows),
        "verdicts": dict(Counter(verdict.outcome for verdict in verdicts)),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "attempt": os.environ.get("LABUTILS_ATTEMPT"),
        **_usage(),
        "rows_sha256": hash_bytes(parquet),
        "ledger_sha256": hash_file(folder / FILE),
    }
    write_atomically(folder / "result.json", json.dumps(result, indent=2) + "\n")
    return pd.DataFrame([verdict.as_row() for verdict in verdicts])


def _usage() -> dict[str, str | int | float | None]:
    """Where the study ran, and what its process has used so far; torch is not loaded for the question."""
    torch = sys.modules.get("torch")
    on_gpu = torch is not None and torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "threads": torch.get_num_threads() if torch is not None else None,
        "processor_seconds": round(processor_seconds(), 2),
        "peak_megabytes": round(peak_resident_megabytes(), 1),
    }
