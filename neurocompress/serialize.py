"""What leaves the program as text: JSON without NaN, and names from foreign files that can not steer a terminal."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Characters of one sentence to a user; names in it come from files and can have any length.
MAX_SENTENCE = 4000


def to_json(data: Mapping[str, Any], indent: int | None = None) -> str:
    """A JSON object of plain values, NumPy arrays and scalars, paths and sets; NaN and infinity become null."""
    return json.dumps(_plain(data), indent=indent, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return [_plain(item) for item in sorted(value)]
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # NumPy arrays and scalars
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def printable(text: str) -> str:
    """`text` with control characters, bidirectional overrides and what else can not be seen written out: a name from
    a file must not send codes to the terminal. Line breaks and tabs stay."""
    if all(c.isprintable() or c in "\n\t" for c in text):
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def one_line(text: str, longest: int = MAX_SENTENCE) -> str:
    """`text` as one printable line: a line break of a file must not begin a sentence of its own. The middle of what is
    longer than `longest` characters is left out."""
    if len(text) > longest:
        text = f"{text[: longest // 2]} ... {text[-longest // 2 :]}"
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
