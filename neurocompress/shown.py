"""What Python prints of a result: a few lines that say what it is, and never its arrays.

A repr has at most LINES lines of at most COLUMNS columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from textwrap import wrap
from typing import Any

import numpy as np

LINES, COLUMNS = 24, 100


def listed(head: str, *groups: Iterable[str]) -> str:
    """A first line and groups of lines below it, indented; of what is too long, the beginning and how much is left."""
    rest = [[_whole(line, "  ") for line in group] for group in groups]
    rest = [group for group in rest if group]
    found = _whole(head, "").split("\n")
    for k, group in enumerate(rest):
        room = LINES - len(found) - sum(min(2, len(later)) for later in rest[k + 1:])
        for place, line in enumerate(group):
            lines = line.split("\n")
            last = place == len(group) - 1
            if len(lines) > room - (not last):
                found += [f"  ... and {len(group) - place} more"] * (room > 0)
                break
            found += lines
            room -= len(lines)
    return "\n".join(found[:LINES])


def _whole(line: str, indent: str) -> str:
    """A line in as many as it takes, without anything that is not printable."""
    clean = "".join(c if c.isprintable() else " " for c in line)
    return "\n".join(wrap(clean, COLUMNS, initial_indent=indent, subsequent_indent=f"{indent}    ",
                           break_on_hyphens=False) or [indent])


def brief(self: Any) -> str:
    """`__repr__` of a dataclass without what is None: arrays by type and shape, long containers by what they hold."""
    parts = (f"{field.name}={value(getattr(self, field.name))}" for field in fields(self)
             if field.repr and getattr(self, field.name) is not None)
    return listed(f"{type(self).__name__}({', '.join(parts)})")


def value(found: Any) -> str:
    """A field's value, short."""
    if isinstance(found, np.ndarray):
        if found.size == 1:
            return f"{found.item():.6g}" if found.dtype.kind in "biuf" else repr(found.item())
        one = found.size and found.dtype.kind in "biuf" and bool(np.all(found == found.flat[0]))
        return f"{found.dtype} {found.shape}" + (f" of {found.flat[0].item():.6g}" if one else "")
    if isinstance(found, Mapping):
        return f"{{{', '.join(map(str, found))}}}" if len(found) < 6 else f"{len(found)} of {type(found).__name__}"
    if isinstance(found, (tuple, list)) and len(found) > 6:
        return f"{len(found)} of {type(found).__name__}"
    return repr(found)[:COLUMNS]


def times(shape: Iterable[int]) -> str:
    """(2, 34, 34) as "2 x 34 x 34"."""
    return " x ".join(map(str, shape))


def percent(found: float | None) -> str:
    """Accuracy as it is said in a sentence."""
    return "no labels, so no accuracy" if found is None else f"accuracy {found:.2f} %"


def several(count: int, what: str) -> str:
    """"1 core", "1,200 cores"."""
    return f"{count:,} {what}" + ("" if count == 1 else "s")
