"""What is freed between what is held goes back to the system."""

import sys

import psutil
import pytest

from labutils.core import freed_memory
from labutils.core.freed_memory import return_freed_memory


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's call")
def test_memory_freed_between_what_is_held_is_returned() -> None:
    blocks = [bytearray(b"x" * 100_000) for _ in range(3000)]  # 300 MB, too small each for memory of their own
    held = blocks[::50]
    del blocks
    before = psutil.Process().memory_info().rss
    assert return_freed_memory()
    assert before - psutil.Process().memory_info().rss > 150e6
    assert len(held) == 60


def test_where_there_is_no_such_call_nothing_happens(monkeypatch) -> None:
    monkeypatch.setattr(freed_memory.ctypes, "CDLL", lambda name: object())
    assert not return_freed_memory()
