"""Seconds and peak memory of one piece of work in this process; those of the whole process are in `usage`."""

import ctypes
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import torch

from labutils.core.usage import status_megabytes

# The C library's names of its limits, and bytes: what is larger than the first is never part of the heap, and of the
# heap's free end more than the second is given back.
MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
LARGEST_MMAP_THRESHOLD = 32 * 2**20  # glibc takes no larger one
KEPT_AT_MOST = 2**30

CLEAR = Path("/proc/self/clear_refs")


class Cost(NamedTuple):
    """What one piece of work took.

    Attributes:
        wall: seconds by the clock. processor: seconds of computing by all threads of this process.
        peak_megabytes: the most memory held beyond what was held at the start, in 10⁶ bytes: of the GPU where the
            work is on one, of this process (on Linux) otherwise; NaN where the system does not tell.
    """

    wall: float
    processor: float
    peak_megabytes: float


def measure_cost(work: Callable[[], object], *, device: str = "cpu") -> Cost:
    """Do the work once and measure it; what `device` has been given to do is waited for.

    >>> measure_cost(lambda: lab.prune(model, tokens, method="wanda", sparsity=0.5)).processor
    """
    on_gpu = device == "cuda"
    before = _reset_gpu_peak() if on_gpu else _reset_peak()
    wall, processor = time.perf_counter(), time.process_time()
    work()
    if on_gpu:
        torch.cuda.synchronize()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    peak = torch.cuda.max_memory_allocated() / 1e6 if on_gpu else status_megabytes("VmHWM")
    return Cost(wall, processor, max(0.0, peak - before) if peak == peak else peak)


def _reset_gpu_peak() -> float:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated() / 1e6


def _reset_peak() -> float:
    """Give freed memory back, begin the kernel's high-water mark anew, and return what is held now; else NaN."""
    trim_malloc()
    try:
        CLEAR.write_text("5")
    except OSError:  # not Linux, or not allowed
        return float("nan")
    return status_megabytes("VmRSS")


def trim_malloc() -> None:
    """Return memory that was freed to the system, where the C library can (glibc).

    Its allocator keeps the gaps between what is still in use. Where large tensors come and go, as blocks do that are
    read from disk one after the other, the gaps add up to several times what is alive.
    """
    with suppress(OSError, AttributeError, TypeError):  # other C libraries have no such call
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """While this lasts, memory that was freed stays with the process, to be used again (with glibc; else as ever).

    What a block computes is freed with every batch and wanted again with the next. To return its pages each time, and
    be handed empty ones, can take a fifth of the time of a pruning. Afterwards what is free goes back, and the limits
    are those at which glibc arrives by itself in a process that has once freed a large tensor.
    """
    _set_limit(MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
    _set_limit(TRIM_THRESHOLD, KEPT_AT_MOST)
    try:
        yield
    finally:
        _set_limit(TRIM_THRESHOLD, 2 * LARGEST_MMAP_THRESHOLD)
        trim_malloc()


def _set_limit(name: int, value: int) -> None:
    with suppress(OSError, AttributeError, TypeError):  # other C libraries have no such call
        ctypes.CDLL(None).mallopt(name, value)


def describe_processor() -> str:
    """The processor's name where the system tells it, else its architecture.

    >>> describe_processor()  # "AMD EPYC 7763 64-Core Processor"
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
