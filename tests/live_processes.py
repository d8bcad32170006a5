"""Which processes live, for tests that must leave none."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path


def numbers_of(text: str) -> list[int]:
    """Live processes, but this one, whose command line names `text`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            found += [int(entry.name)] if text in line else []
    return sorted(found)


def gone(check: Callable[[], object]) -> bool:
    """Whether `check` gives nothing within some seconds: init buries what is dead when it comes to it."""
    for _ in range(200):
        if not check():
            return True
        time.sleep(0.05)
    return False
