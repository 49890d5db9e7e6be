"""Processor time: that of this process, of children that have ended, and of those that still run."""

import subprocess
import sys

import numpy as np

from labutils.core.usage import peak_resident_megabytes, processor_seconds, status_megabytes

BUSY = "import time\nwhile time.process_time() < 0.5: pass\nprint('done', flush=True)\n"


def test_children_count_while_they_run_and_afterwards() -> None:
    before = processor_seconds()
    child = subprocess.Popen(
        [sys.executable, "-c", BUSY + "import sys; sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "done\n"
    running = processor_seconds() - before
    child.communicate()
    ended = processor_seconds() - before
    assert 0.45 < running <= ended + 0.02 and ended < 3  # the system counts in hundredths


WORK = """
import time
from labutils.core.usage import processor_seconds
before, start = processor_seconds(), time.process_time()
time.sleep(0.3)
waited = processor_seconds() - before
while time.process_time() - start < 0.3:
    pass
print(waited, processor_seconds() - before)
"""


def test_work_of_a_process_counts_and_waiting_does_not() -> None:
    """In a process of its own: threads and children that other tests have left may still be at work in this one."""
    told = subprocess.run([sys.executable, "-c", WORK], check=True, stdout=subprocess.PIPE, text=True).stdout
    waited, worked = map(float, told.split())
    assert waited < 0.2 and worked >= 0.25


def test_peak_memory_covers_what_was_held() -> None:
    held = np.ones(40_000_000, dtype=np.uint8)
    now = status_megabytes("VmRSS")
    del held
    assert peak_resident_megabytes() >= (0.99 * now if now == now else 40)  # Linux counts pages in batches
