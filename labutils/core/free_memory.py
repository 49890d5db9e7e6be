"""How much memory is free: on the machine, or in the group of processes that a container sets a limit to."""

from pathlib import Path

import torch

MEMORY = Path("/proc/meminfo")
# Limit and use of a container's memory, in the two ways that Linux has for it.
LIMITS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def free_memory(device: str = "cpu") -> int | None:
    """Bytes that can be had without swapping; None where the system does not tell.

    >>> free_memory()
    """
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    if not MEMORY.exists():
        return None
    lines = dict(line.split(":", 1) for line in MEMORY.read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    for limit, used in LIMITS:
        found = [path.read_text().strip() for path in map(Path, (limit, used)) if path.exists()]
        if len(found) == 2 and all(text.isdecimal() for text in found):  # "max" is no limit
            free = min(free, int(found[0]) - int(found[1]))
    return free
