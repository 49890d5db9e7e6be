"""Locks of a run folder, among threads and processes; a process that is killed gives its locks back."""

from pathlib import Path

from filelock import FileLock

FOLDER, MANIFEST = ".locks", "manifest"


def lock(run: Path, name: str) -> FileLock:
    """The lock of a notebook's folder, or of the manifest.

    with lock(Path("results/lab"), "01_a"): ...
    """
    return _make_lock(run / FOLDER / f"{name}.lock")


def kernel_lock(run: Path, stem: str) -> FileLock:
    """The lock that a notebook's kernel holds while it lives: one whose runner was killed outlives it for a moment.

    kernel_lock(Path("results/lab"), "01_a").acquire()
    """
    return _make_lock(run / FOLDER / "kernels" / f"{stem}.lock")


def find_locks(run: Path) -> set[str]:
    """The notebooks that any run has begun in this folder."""
    return {path.stem for path in (run / FOLDER).glob("*.lock")} - {MANIFEST}


def _make_lock(path: Path) -> FileLock:
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path)
