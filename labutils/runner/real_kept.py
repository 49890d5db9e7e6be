"""Read back what `docs/real` keeps of notebooks that a later run is without, so that the run can be added to it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from labutils.claims.ledger import ledger
from labutils.claims.verdicts import Verdict
from labutils.runner.real_manifest import find_altered, read_manifest
from labutils.runner.real_pages import with_verdicts


@dataclass(frozen=True)
class KeptPages:
    """Notebooks that stay, by stem.

    Attributes:
        files: what belongs to them, by its name in the folder.
        entries: theirs in the manifest.
        verdicts: theirs, before any correction.
    """

    files: Mapping[str, bytes]
    entries: Mapping[str, Mapping[str, Any]]
    verdicts: Mapping[str, list[Verdict]]

    def told_anew(self, corrected: Mapping[str, list[Verdict]]) -> dict[str, bytes]:
        """The files, with the verdicts as they are after a correction that reaches further."""
        told = dict(self.files)
        for stem in self.entries:
            told[f"{stem}.md"] = with_verdicts(told[f"{stem}.md"].decode(), corrected[stem]).encode()
        return told


def read_pages(name: str, *, without: Collection[str], real: Path) -> KeptPages:
    """What is kept under a name, of all notebooks but some.

    Raises:
        ValueError: nothing is kept, it has another name, or it is not as it was recorded.
    """
    manifest = read_manifest(real)
    if manifest.get("name") != name:
        kept = repr(manifest["name"]) if manifest else "nothing"
        raise ValueError(f"{real.name}/ holds {kept}, not {name!r}: record without adding, or under the name it has")
    if altered := find_altered(real):
        raise ValueError(f"nothing can be added: {altered[0]}; bring it back, or record all anew")
    entries = {stem: about for stem, about in manifest["notebooks"].items() if stem not in without}
    files = {file: (real / file).read_bytes() for file in manifest["files"] if _stem(file, entries)}
    verdicts = {stem: read_verdicts(real / "ledgers" / f"{stem}.jsonl") for stem in entries}
    return KeptPages(files, entries, verdicts)


def _stem(file: str, stems: Collection[str]) -> str | None:
    """The notebook that a file belongs to; figures are numbered after their notebook."""
    path = PurePosixPath(file)
    stem = path.stem.rpartition("-")[0] if path.suffix == ".png" else path.stem
    return stem if stem in stems else None


def read_verdicts(file: Path) -> list[Verdict]:
    """The verdicts of one ledger, in its order."""
    return [Verdict.from_row(row) for row in ledger(file).to_dict("records")]
