"""Progress of a verb on stderr: the phase it is in, how far it is, and how long that has taken or will still take.

A terminal gets a bar; a file or a pipe gets plain lines: one for each phase and one every LINE_S seconds of it. What
takes less than FIRST_S prints nothing.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ...progress import Progress as Told
from ...progress import silent
from ...serialize import one_line

#: Seconds before the first line, and between the lines of one phase.
FIRST_S, LINE_S = 2.0, 10.0
#: Seconds between two looks at the clock.
LOOK_S = 0.25


@contextmanager
def progress(as_json: bool, first: str = "reading") -> Iterator[Told]:
    """A callable (phase, done, total) that shows on stderr how far a verb is; total 0 is a phase of unknown length.

    With --json it does nothing: a program reads along. first: the phase that runs until another one is told.
    """
    if as_json:
        yield silent
        return
    with _bar(first) if _is_terminal() else _lines(first) as told:
        yield told


def _is_terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


class Lines:
    """The plain lines. `look` is called now and then, from another thread, and writes what is due."""

    def __init__(self, write: Callable[[str], None], clock: Callable[[], float], first: str):
        self._write, self._clock, self._lock = write, clock, threading.Lock()
        self._start = clock()
        self._phase, self._done, self._total = first, 0, 0
        self._printed: float | None = None  # when a line was last written, None where this phase is new
        self._known: set[str] = set()

    def told(self, phase: str, done: int, total: int) -> None:
        with self._lock:
            if phase != self._phase:
                self._phase = phase
                if phase not in self._known:  # phases that take turns get no line at each turn
                    self._printed = None
            self._done, self._total = done, total
        self.look()

    def look(self) -> None:
        with self._lock:
            now = self._clock()
            due = self._start + FIRST_S if self._printed is None else self._printed + LINE_S
            if now < due:
                return
            self._printed = now
            self._known.add(self._phase)
            minutes, seconds = divmod(int(now - self._start), 60)
            line = f"[{minutes}:{seconds:02d}] {one_line(self._phase)}{self._far()}"
        self._write(line)

    def _far(self) -> str:
        if self._total:
            return f": {self._done:,} of {self._total:,} ({100 * self._done // self._total} %)"
        return f": {self._done:,} done" if self._done else ""


@contextmanager
def _lines(first: str) -> Iterator[Told]:
    stderr, ended = sys.stderr, threading.Event()

    def write(line: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
            print(line, file=stderr, flush=True)

    lines = Lines(write, time.monotonic, first)

    def look() -> None:
        while not ended.wait(LOOK_S):
            lines.look()

    thread = threading.Thread(target=look, name="progress", daemon=True)
    thread.start()
    try:
        yield lines.told
    finally:
        ended.set()
        thread.join()


@contextmanager
def _bar(first: str) -> Iterator[Told]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    bars = Progress(TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(),
                    TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True)
    with bars:
        task = bars.add_task(first, total=None)
        current = first

        def told(phase: str, done: int, total: int) -> None:
            nonlocal task, current
            if phase != current:
                bars.remove_task(task)
                task, current = bars.add_task(one_line(phase), total=total or None), phase
            bars.update(task, completed=done, total=total or None)

        yield told
