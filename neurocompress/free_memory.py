"""How much memory is free on this machine, and in the container that this process runs in."""

from __future__ import annotations

import contextlib
from pathlib import Path

_CGROUPS = (  # version 2, then 1: the limit, what is used, and its statistics
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)


def free_memory(system: Path = Path("/")) -> int | None:
    """Bytes that can still be taken; None where the system does not say (it is Linux that does).

    system: the root of the file system.
    """
    found: list[int] = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        text = (system / "proc/meminfo").read_text()
        found.append(1024 * int(text.split("MemAvailable:")[1].split()[0]))
    for limit, used, cache in _CGROUPS:
        with contextlib.suppress(OSError, ValueError, IndexError):  # "max" where there is no limit
            group = system / "sys/fs/cgroup"
            most, taken = int((group / limit).read_text()), int((group / used).read_text())
            statistics = (group / limit).with_name("memory.stat").read_text().split()
            found.append(max(0, most - taken + int(statistics[statistics.index(cache) + 1])))
    return min(found, default=None)
