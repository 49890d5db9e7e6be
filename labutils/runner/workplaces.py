"""Private folders of running kernels, for their sockets and logs; those of runners that were killed are removed."""

import contextlib
import shutil
import tempfile
from pathlib import Path

from filelock import FileLock, Timeout

PREFIX, LOCK = "labutils-run-", "alive.lock"
_held: dict[Path, FileLock] = {}


def make_workplace() -> Path:
    """Make a folder for one kernel, in the system's folder for temporary files: paths of sockets must be short.

    >>> folder = make_workplace()
    >>> remove_workplace(folder)
    """
    root = Path(tempfile.gettempdir())
    for left in root.glob(f"{PREFIX}*"):
        _remove_left_behind(left)
    # It takes its name when its lock is held: before, it could be taken for one left behind.
    fresh = Path(tempfile.mkdtemp(prefix="labutils-new-"))
    lock = FileLock(fresh / LOCK, thread_local=False)
    lock.acquire()
    folder = fresh.rename(root / fresh.name.replace("labutils-new-", PREFIX))
    _held[folder] = lock
    return folder


def remove_workplace(folder: Path) -> None:
    """Remove a folder that `make_workplace` gave."""
    shutil.rmtree(folder, ignore_errors=True)
    _held.pop(folder).release()


def _remove_left_behind(folder: Path) -> None:
    """Remove a folder whose lock nobody holds; another user's, or one that goes this moment, is left to its owner."""
    if folder in _held or not (folder / LOCK).exists():
        return
    with contextlib.suppress(Timeout, OSError), FileLock(folder / LOCK, timeout=0):
        shutil.rmtree(folder, ignore_errors=True)
