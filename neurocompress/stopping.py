"""Ctrl-C and a polite kill: obeyed within two seconds, whatever the process is doing."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

#: Exit status of a stopped run, as shells have it for Ctrl-C.
STOPPED = 130
#: Seconds that the program gets to end by itself. Native code (a large factorization, a convolution) does not return
#: to Python before it is done, and only Python can raise KeyboardInterrupt.
GRACE_S = 1.5

_clean_ups: list[Callable[[], None]] = []
_asked = threading.Event()


@contextmanager
def on_stop(clean_up: Callable[[], None]) -> Iterator[None]:
    """While the block runs, `clean_up` is called where the process must be ended from outside of it."""
    _clean_ups.append(clean_up)
    try:
        yield
    finally:
        _clean_ups.remove(clean_up)


def asked() -> bool:
    """Whether somebody asked the process to stop."""
    return _asked.is_set()


def obey() -> None:
    """From now on SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt; a process that goes on all the same is ended.

    A signal that is ignored when the process starts (nohup, a shell's background job) stays ignored.
    """
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    numbers = [s for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(s) != signal.SIG_IGN]
    for number in numbers:
        signal.signal(number, _raise)
    threading.Thread(target=_watch, args=(wake, frozenset(numbers)), daemon=True, name="stopping").start()


def _raise(number: int, frame: FrameType | None) -> None:
    if not _asked.is_set():  # the second Ctrl-C must not stop the cleaning up
        _asked.set()
        raise KeyboardInterrupt


def _watch(wake: int, numbers: frozenset[int]) -> None:
    while os.read(wake, 1)[0] not in numbers:
        pass
    time.sleep(GRACE_S)
    for clean_up in reversed(_clean_ups):
        with contextlib.suppress(Exception):
            clean_up()
    os._exit(STOPPED)
