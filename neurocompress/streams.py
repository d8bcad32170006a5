"""stdout and stderr: what a verb prints is held back until it is done, so that nothing printed can cut its work short.

Where stdout can not be written the status never is a verdict's: 2, or 141 where a reader left before it was told that
the network does not fit (0 where all was well: whoever read has seen enough). A closed stdout is refused before any
work. What can not be written to stderr is dropped.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TextIO

#: Exit status of a run whose reader left (128 + SIGPIPE), as shells have it.
READER_LEFT = 141


class _Alike(io.TextIOBase):
    """What looks like `stream` to whoever prints."""

    def __init__(self, stream: TextIO):
        super().__init__()
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        return self._stream.isatty()


class Held(_Alike, io.StringIO):
    """Text for `stream`, which looks like it to whoever prints; it has no `buffer`, through which click would go."""


class Heedless(_Alike):
    """`stream`, except that an error of it is nobody's: a full disk under stderr ends no run."""

    def fileno(self) -> int:
        return self._stream.fileno()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def open_closed() -> bool:
    """Closed descriptors 0, 1 and 2 lead to nowhere: else the next file opened would be printed to. Whether 1 was."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    closed = sys.stdout is None
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()
    return closed


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")


def hush(stream: TextIO) -> None:
    """Leads the stream's descriptor to nowhere: what is left in its buffer raises no error when Python ends."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
