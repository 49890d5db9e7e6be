"""Memory that stays with the process while blocks come and go."""

import ctypes
import platform
import subprocess
import sys

import pytest

from labutils.core.profiling import keep_freed_memory

FAULTS = """\
import resource, torch
from labutils.core.profiling import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        tensors = [torch.ones(2_000_000) for _ in range(12)]  # 8 MB each, 96 MB in all
        del tensors
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

plain = faults()
with keep_freed_memory():
    kept = faults()
print(plain, kept)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries decide by themselves what they keep")
def test_freed_pages_are_used_again() -> None:
    said = subprocess.run([sys.executable, "-c", FAULTS], check=True, capture_output=True, text=True).stdout
    plain, kept = map(int, said.split())
    assert kept < plain / 2


def test_without_such_limits_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(name: str | None) -> None:
        raise OSError("no C library to be had")

    monkeypatch.setattr(ctypes, "CDLL", no_library)
    with keep_freed_memory():
        pass
