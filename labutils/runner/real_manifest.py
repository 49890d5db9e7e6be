"""What `docs/real` holds of a run on a real model: its manifest, whether its files are intact, what to tell elsewhere.

`real_runs` writes the folder; here it is read.
"""

import datetime
import html
import json
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from labutils.claims.registry import all_claims
from labutils.core import paths
from labutils.core.files import hash_file, hash_json, read_json
from labutils.runner.notebooks import hash_cells
from labutils.runner.short_answers import in_short

FOLDER = paths.REPOSITORY / "docs" / "real"
MANIFEST = "manifest.json"


def read_manifest(real: Path = FOLDER) -> dict[str, Any]:
    """Name, notebooks and files of the recorded run; empty where none is recorded.

    >>> read_manifest()["notebooks"]["01_layerwise_sparsity"]["answer"]
    """
    path = real / MANIFEST
    return read_json(path) if path.exists() else {}


def seal(manifest: dict[str, Any]) -> str:
    """The text of a manifest, with a hash by which an edit shows."""
    return json.dumps(manifest | {"sha256": hash_json(manifest)}, indent=1, allow_nan=False) + "\n"


def find_altered(real: Path = FOLDER) -> list[str]:
    """What in the folder is not as it was recorded, one line each; nothing where there is no folder."""
    manifest = read_manifest(real)
    found = {path.relative_to(real).as_posix(): path for path in sorted(real.rglob("*")) if path.is_file()}
    expected = manifest.get("files", {})
    problems = [f"{name} is missing" for name in expected if name not in found]
    for name, path in found.items():
        if name == MANIFEST:
            if hash_json({key: value for key, value in manifest.items() if key != "sha256"}) != manifest.get("sha256"):
                problems.append(f"{name} was edited by hand")
        elif name not in expected:
            problems.append(f"{name} is not part of the recorded run")
        elif hash_file(path) != expected[name]:
            problems.append(f"{name} was edited by hand")
    return [f"{real.name}/{problem}" for problem in problems]


def tell_in_notebook(stem: str, notebook: NotebookNode, manifest: dict[str, Any]) -> str | None:
    """The paragraph of a notebook's head on the recorded run; None where that run is without the notebook."""
    about = manifest.get("notebooks", {}).get(stem)
    if about is None:
        return None
    earlier = made_earlier(stem, notebook, manifest)
    link = f"[its page](../docs/real/{stem}.md)" + (", made by an earlier state of these cells" if earlier else "")
    answer = f"{safe(about['answer'])}{_tell_revised(stem, about)}"
    return f"**On {safe(manifest['name'])}.** {answer} Figures, verdicts and sizes: {link}."


def made_earlier(stem: str, notebook: NotebookNode, manifest: dict[str, Any]) -> bool:
    """Whether the recorded run has the notebook, but with other cells."""
    about = manifest.get("notebooks", {}).get(stem)
    return about is not None and about["cells_sha256"] != hash_cells(notebook)


def tell_in_readme(stem: str, manifest: dict[str, Any]) -> str | None:
    """The line of the README's table on the recorded run; None where that run is without the notebook."""
    about = manifest.get("notebooks", {}).get(stem)
    answer = about and f"{safe(in_short(about['answer']))}{_tell_revised(stem, about)}"
    return answer and f"**[{safe(manifest['name'])}](docs/real/{stem}.md):** {answer}"


def _tell_revised(stem: str, about: dict[str, Any]) -> str:
    """That claims of a notebook were defined otherwise when it was recorded; empty where none was."""
    recorded = datetime.datetime.fromisoformat(about["finished"])
    claims = [one for one in all_claims() if one.studied_in == stem and one.revised]
    earlier = [one.id for one in claims if recorded < datetime.datetime.fromisoformat(one.revised)]
    return f" Judged there by an earlier definition: {', '.join(earlier)}." if earlier else ""


def safe(text: str) -> str:
    """Text that may come from data, for a Markdown page: its signs stand for themselves and make no links or tags."""
    return html.escape(text, quote=False).replace("](", "]\\(")
