"""Progress of a verb on the terminal: the stage, how far it is, and how long it will still take."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(as_json: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A callable (stage, done, total) that moves a bar on stderr; total 0 is a stage of unknown length.

    It does nothing where nobody watches: with --json, or when stderr is no terminal. Nothing goes to stdout.
    """
    if as_json or not sys.stderr.isatty():
        yield lambda stage, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from ..plain import one_line

    bars = Progress(TextColumn("{task.description}", markup=False), BarColumn(),
                    TextColumn("{task.percentage:>3.0f} %"), TimeRemainingColumn(),
                    console=Console(stderr=True), transient=True)
    with bars:
        task = bars.add_task("reading", total=None)
        current = "reading"

        def told(stage: str, done: int, total: int) -> None:
            nonlocal task, current
            if stage != current:
                bars.remove_task(task)
                task, current = bars.add_task(one_line(stage), total=total or None), stage
            bars.update(task, completed=done, total=total or None)

        yield told
