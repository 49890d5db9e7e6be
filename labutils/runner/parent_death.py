"""A kernel ends with the runner that started it, however that one ends. Only the standard library is needed here."""

import ctypes
import os
import signal
import sys

VARIABLE = "LABUTILS_RUNNER"  # the runner's process id
PR_SET_PDEATHSIG = 1  # of Linux's prctl


def die_with_parent() -> None:
    """From now on, be killed at the moment when the parent ends; where it has ended already, end.

    Called before anything is loaded or written: a kernel that outlives its runner would write beside the next one's.
    Elsewhere than on Linux ipykernel itself looks every second whether the parent is there.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(os.environ[VARIABLE]):
        os._exit(1)
