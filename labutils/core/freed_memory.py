"""Memory that was freed goes back to the system, which glibc's allocator else keeps between what is still held."""

import ctypes
import threading
import time

EVERY_SECONDS = 20.0


def return_freed_memory() -> bool:
    """Give the system back what the process has freed; False where the C library has no call for it.

    >>> return_freed_memory()

    glibc itself returns only what lies at the end of its heap: https://man7.org/linux/man-pages/man3/malloc_trim.3.html.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library; Windows, where None is no library
        return False
    trim(0)
    return True


def keep_returning(every: float = EVERY_SECONDS) -> None:
    """Return freed memory from now on, until this process ends, from a thread of its own.

    >>> keep_returning()
    """

    def work() -> None:
        while return_freed_memory():
            time.sleep(every)

    threading.Thread(target=work, daemon=True, name="labutils freed memory").start()
