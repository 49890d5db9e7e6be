"""What is freed between what is held goes back to the system."""

import platform
import threading

import psutil
import pytest

from labutils.core import freed_memory
from labutils.core.freed_memory import keep_returning, return_freed_memory


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's call")
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


def test_it_is_returned_again_and_again_until_there_is_no_such_call(monkeypatch) -> None:
    answers, ended = iter([True, True, False]), threading.Event()

    def asked() -> bool:
        answer = next(answers)
        if not answer:
            ended.set()
        return answer

    monkeypatch.setattr(freed_memory, "return_freed_memory", asked)
    keep_returning(every=0.001)
    assert ended.wait(10) and next(answers, "none is left") == "none is left"
