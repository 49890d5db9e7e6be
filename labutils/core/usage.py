"""What this process has used so far: processor time and memory. Nothing heavy is loaded for the question."""

import resource
import sys
from contextlib import suppress
from pathlib import Path

import psutil

STATUS = Path("/proc/self/status")
TIMES = ("user", "system", "children_user", "children_system")  # the last two: of children that have ended


def processor_seconds() -> float:
    """Seconds of computing by this process so far, and by its children, whether they have ended or still run.

    >>> processor_seconds()  # 12.5: with four busy threads, after about three seconds by the clock
    """
    process = psutil.Process()
    seconds = _seconds(process)
    for child in process.children(recursive=True):
        with suppress(psutil.Error):  # it ended meanwhile
            seconds += _seconds(child)
    return seconds


def peak_resident_megabytes() -> float:
    """The most memory that this process has held so far, in 10⁶ bytes.

    On Linux by the kernel's high-water mark of the program itself: what `getrusage` tells may be that of the process
    that started this one.
    """
    if STATUS.exists():
        return status_megabytes("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


def status_megabytes(field: str) -> float:
    """A size that Linux tells of this process, such as `VmRSS`, in 10⁶ bytes; NaN on other systems."""
    if not STATUS.exists():
        return float("nan")
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024 / 1e6


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return sum(getattr(times, name, 0.0) for name in TIMES)
