"""Starts a Lava program that does not outlive who asked for it. Run by the interpreter that has Lava, as a program.

    python guarded.py FOLDER PROGRAM ARGUMENTS...

stdin is a pipe whose other end is held by the one process that waits for the result. When it closes without a word
that process is gone, however it ended (SIGKILL too): a watcher in a session of its own then ends the program's process
group, waits for Lava's shared memory to be removed, and removes FOLDER. A word on the pipe says that all is done.
"""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable

#: Seconds that a stopped program gets to remove its shared memory.
STOP_S = 0.8


def stop_group(group: int, bury: Callable[[], object] = lambda: None) -> None:
    """Ends a process group. SIGTERM spares the process that removes Lava's shared memory; it gets time.

    bury: called meanwhile, for a parent to take note of what ended.
    """
    try:
        os.killpg(group, signal.SIGTERM)
        until = time.monotonic() + STOP_S
        while time.monotonic() < until:
            bury()
            os.killpg(group, 0)
            time.sleep(0.02)
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def watch(group: int, folder: str) -> None:
    """Waits for the word or for the end of who would say it."""
    if os.read(0, 1):
        return
    stop_group(group)
    shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    folder, *command = sys.argv[1:]
    program = os.getpid()  # and its group: the process was started in a session of its own
    if os.fork() == 0:
        os.setsid()
        watch(program, folder)
        os._exit(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.execv(sys.executable, [sys.executable, *command])


if __name__ == "__main__":
    main()
