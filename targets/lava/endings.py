"""Why a Lava program ended, where this machine is the reason: a sentence with a fix instead of a traceback."""

from __future__ import annotations

import errno
import re
import signal
from pathlib import Path

from neurocompress.errors import Refused, refuse

SHARED_MEMORY = "/dev/shm"
_MAKE_ROOM = (f"Make room there; a container gets more shared memory by its own flag (docker run --shm-size=1g), "
              f"a machine by mount -o remount,size=1g {SHARED_MEMORY}")
_FEWER = "Use fewer samples or steps, or a machine (or a limit of its container) with more memory"
_PROCESSES = ("Raise the limit on processes (ulimit -u, or --pids-limit of the container) or on memory (ulimit -v), "
              "or end some that run")
#: What the messages of a program, or of the system, hold; what that means; and what helps. The first that holds counts.
_CAUSES: tuple[tuple[str, str, str], ...] = (
    (r"ended by SIGBUS", f"the shared memory of this machine, {SHARED_MEMORY}, is full", _MAKE_ROOM),
    (r"ended by SIGKILL", "a process of Lava was killed from outside, as the system does when memory runs out", _FEWER),
    (rf"Errno ({errno.ENOSPC}|{errno.EDQUOT})\b",
     f"no space is left in {SHARED_MEMORY}, where Lava keeps its messages, or in the temporary folder {{folder}}",
     _MAKE_ROOM),
    (rf"Errno {errno.EFBIG}\b", "a file grew beyond the limit of this shell", "Raise it (ulimit -f)"),
    (rf"Errno ({errno.EMFILE}|{errno.ENFILE})\b", "Lava opened as many files as it may",
     "Raise the limit on open files (ulimit -n 4096)"),
    (rf"Errno {errno.EAGAIN}\b|can't start new thread|pthread_create failed",
     "no further process or thread may be started", _PROCESSES),
    (rf"MemoryError|Errno {errno.ENOMEM}\b", "memory ran out", _FEWER),
    (rf"Errno ({errno.EROFS}|{errno.EACCES}|{errno.EPERM}|{errno.ENOENT})\b[^\n]*: '/(psm_|mp-)",
     f"Lava can not make shared memory in {SHARED_MEMORY}",
     f"Make it a folder that you may write to: mount -t tmpfs -o mode=1777 tmpfs {SHARED_MEMORY}"),
    (rf"SemLock[^\n]*\n(?:[^\n]*\n)*[^\n]*Errno ({errno.EROFS}|{errno.EACCES}|{errno.EPERM}|{errno.ENOENT})\b"
     rf"|Errno {errno.ENOSYS}\b",
     f"Lava can not make a semaphore in {SHARED_MEMORY}",
     f"Make it a folder that you may write to: mount -t tmpfs -o mode=1777 tmpfs {SHARED_MEMORY}"),
    (r"No usable temporary directory", "there is no temporary folder that can be written to",
     "Set TMPDIR to a folder that you may write to"),
)


def of_this_machine(status: int, messages: str, where: Path | str, folder: Path | str) -> Refused | None:
    """The refusal for what a program printed and how it ended; None where the machine is not known to be the reason.

    status: negative for the signal that ended the program. where: the program. folder: its temporary folder.
    """
    if status in (-signal.SIGBUS, -signal.SIGKILL):
        messages += f"\nended by {signal.Signals(-status).name}"
    for pattern, what, fix in _CAUSES:
        if re.search(pattern, messages):
            return refuse(what.format(folder=folder), where=str(where), fix=fix)
    return None


def of_the_system(error: OSError, where: Path | str, folder: Path | str) -> Refused:
    """The refusal for a program that could not be started, or whose data could not be written."""
    found = of_this_machine(0, f"[Errno {error.errno}] {error}", where, folder)
    return found or refuse(f"the Lava program can not be run here ({error.strerror or error}: {error.filename})",
                           where=str(where), fix="Set TMPDIR to a folder that you may write to")
