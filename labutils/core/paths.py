"""Where the collection keeps its files."""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]  # the sources of `labutils`, whatever room this file stands in
REPOSITORY = PACKAGE.parent
DATA = REPOSITORY / "data"
MODELS = DATA / "models"
NOTEBOOKS = REPOSITORY / "notebooks"


def expand(name: str | os.PathLike[str]) -> Path:
    """The path of that name, with `~` for the home folder; every path that a reader gives passes through here.

    >>> expand("~/models/mine")  # PosixPath("/home/me/models/mine")

    Raises:
        LookupError: it begins with the name of a user whose home folder is not known.
    """
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise LookupError(f"{str(name)!r}: {error} Give the whole path, from '/' on.") from error


def real_data() -> Path | None:
    """The folder of real texts and tasks named by the environment variable `LABUTILS_DATA`, or None.

    Raises:
        LookupError: the variable is set but names no folder.
    """
    named = os.environ.get("LABUTILS_DATA")
    if not named:
        return None
    folder = expand(named).resolve()
    if not folder.is_dir():
        raise LookupError(
            f"LABUTILS_DATA names {named!r}, which is not a folder. Correct it, or unset it to do without."
        )
    return folder


def find_file(name: str | os.PathLike[str]) -> Path:
    """A file or folder by absolute path, by path from the working directory, or by path inside `LABUTILS_DATA`.

    `~` stands for the home folder.

    Raises:
        LookupError: it is in none of these places; the message lists them.
    """
    candidates = [expand(name)]
    if (folder := real_data()) is not None:
        candidates.append(folder / name)
    for candidate in candidates:
        if candidate.exists():
            return candidate.resolve()
    hint = "" if real_data() else " LABUTILS_DATA is not set."
    raise LookupError(f"{str(name)!r} was not found; looked at {', '.join(str(c) for c in candidates)}.{hint}")


def run_folder() -> Path:
    """The folder of the run that this notebook is part of; without the runner, the one for interactive work.

    >>> run_folder() / "figures"
    """
    run = os.environ.get("LABUTILS_RUN_FOLDER")
    return expand(run) if run else REPOSITORY / "results" / "interactive"


def study_folder() -> Path:
    """Where this notebook writes: the folder of its own name in the run's."""
    opened = Path(os.environ.get("JPY_SESSION_NAME", "notebook")).stem  # set by Jupyter
    return run_folder() / os.environ.get("LABUTILS_NOTEBOOK", opened)
