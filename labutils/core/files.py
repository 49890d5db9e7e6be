"""Fingerprints of files and atomic writes: what makes a run checkable and safe to interrupt."""

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from labutils.core import paths

IGNORED_FOLDERS = {"__pycache__", ".ipynb_checkpoints"}


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file so that readers, and a run killed half-way, see the old content or the new one, never a part.

    What writers of this machine that were killed have left of earlier tries is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    machine = re.sub(r"\W", "_", platform.node())
    _remove_left_behind(path, machine)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.{machine}-{os.getpid()}-")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _remove_left_behind(path: Path, machine: str) -> None:
    """Remove the unfinished files of this name whose writers have ended."""
    begin = f".{path.name}.{machine}-"
    for entry in path.parent.iterdir():
        number = entry.name.removeprefix(begin).partition("-")[0]
        if entry.name.startswith(begin) and number.isdecimal() and not is_running(int(number)):
            entry.unlink(missing_ok=True)


def is_running(process: int) -> bool:
    """Whether this machine has a process of this id.

    >>> is_running(os.getpid())
    True
    """
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True


@contextlib.contextmanager
def folder_when_complete(folder: Path) -> Iterator[Path]:
    """A folder that appears under its name when all of it is written, and of which nothing is left after an exception.

        with folder_when_complete(Path("results/model")) as unfinished:
            (unfinished / "notes.txt").write_text("done")

    Yields a hidden folder beside it. After any exception, an interruption too, neither that one stays nor a parent
    that was made for it.

    Args:
        folder: new or empty; a link to an empty folder is followed.

    Raises:
        OSError: it cannot be made, or holds something.
    """
    place = folder.resolve()
    made = [parent for parent in place.parents if not parent.exists()]  # the innermost first
    unfinished = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}."))
        yield unfinished
        unfinished.chmod(0o755)  # mkdtemp makes it private
        os.replace(unfinished, place)
    except BaseException:
        if unfinished is not None:
            shutil.rmtree(unfinished, ignore_errors=True)
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise


@contextlib.contextmanager
def unchanged_on_failure(*places: Path) -> Iterator[None]:
    """Files, and folders with all below them, that are as they were after any exception, an interruption too.

        with unchanged_on_failure(Path("README.md"), Path("data/rows")):
            write_atomically(Path("README.md"), "new")

    Their contents are held in memory meanwhile. What cannot be put back is named in a note of the exception.
    """
    before = {path: path.read_bytes() for path in _files_of(places)}
    folders = _folders_of(places)
    try:
        yield
    except BaseException as error:
        for path in _files_of(places) | set(before):
            try:
                _put_back(path, before.get(path))
            except OSError as problem:
                error.add_note(f"{path} could not be put back as it was: {problem}")
        for made in sorted(_folders_of(places) - folders, reverse=True):  # the innermost first
            with contextlib.suppress(OSError):
                made.rmdir()
        raise


def _files_of(places: Iterable[Path]) -> set[Path]:
    return {path for place in places for path in (place, *place.rglob("*")) if path.is_file()}


def _folders_of(places: Iterable[Path]) -> set[Path]:
    """The folders at, above and below the places."""
    return {path for place in places for path in (place, *place.parents, *place.rglob("*")) if path.is_dir()}


def _put_back(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink()
    elif not path.is_file() or path.read_bytes() != content:
        write_atomically(path, content)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    >>> read_json(Path("pruned/config.json"))["model_type"]

    Raises:
        ValueError: the file holds no JSON, or another value than an object.
        OSError: it cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # no UTF-8, or no JSON
        raise ValueError(f"{path} is damaged: it holds no JSON ({error}).") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: it holds a {type(content).__name__} instead of an object.")
    return content


def hash_bytes(data: bytes) -> str:
    """SHA-256 of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def hash_json(value: Any) -> str:
    """SHA-256 of a value's canonical JSON (sorted keys, no spaces).

    >>> hash_json({"b": 1, "a": 2}) == hash_json({"a": 2, "b": 1})
    True
    """
    return hash_bytes(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_tree(folder: Path, pattern: str = "*") -> str:
    """SHA-256 over the relative names and contents of all files below `folder` whose name matches `pattern`."""
    files = sorted(
        path
        for path in folder.rglob(pattern)
        if path.is_file() and not IGNORED_FOLDERS.intersection(path.relative_to(folder).parts)
    )
    return hash_json([[path.relative_to(folder).as_posix(), hash_file(path)] for path in files])


def hash_path(path: Path) -> str:
    """SHA-256 of a file, or of all files below a folder."""
    return hash_tree(path) if path.is_dir() else hash_file(path)


def hash_package() -> str:
    """SHA-256 over the sources of `labutils` itself."""
    return hash_tree(paths.PACKAGE, "*.py")


def git_state() -> dict[str, str | bool | None]:
    """The commit of the repository and whether tracked files differ from it; None for both outside git."""

    def ask(*arguments: str) -> str:
        command = ["git", "-C", str(paths.REPOSITORY), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


def without_paths(text: str) -> str:
    """Replace this machine's folders in a text by what they stand for, so that records can be shared.

    without_paths("/home/me/texts/notes.txt")  # "~/texts/notes.txt"
    """
    for folder, name in _known_folders():
        text = text.replace(folder, name)
    return text


def _known_folders() -> Iterable[tuple[str, str]]:
    known = {str(paths.REPOSITORY): "."}
    if (real := os.environ.get("LABUTILS_DATA")) is not None:
        known[str(Path(real).resolve())] = "$LABUTILS_DATA"
    known[str(Path.cwd())] = "."
    known[str(Path.home())] = "~"
    # The longest first: a repository usually lies inside the home folder. A root folder would match every path.
    return sorted(((k, v) for k, v in known.items() if len(k) > 1), key=lambda item: -len(item[0]))
