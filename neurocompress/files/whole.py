"""Files and folders that stand whole under their name or not at all, at whatever instant the process is killed.

Work is done in a draft: a hidden folder beside the result. A file in it stays locked while its process lives, and the
kernel unlocks it when the process ends, however it ends: the next run removes the drafts of the dead, never a live
one's. A finished file takes its place by one rename, a folder by one exchange of two names where the system can do
that (Linux), and otherwise by two renames that the next run, or the next reader, completes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ..errors import Refused, refuse
from ..stopping import on_stop
from .exchange import exchange

PREFIX = ".neurocompress-"
_DRAFT = re.compile(re.escape(PREFIX) + "[0-9a-f]{16}")
#: In a draft: the lock, what is being written, what was there, and the place of both during two renames.
LOCK, NEW, OLD, PLACE = "lock", "new", "old", "place"


@contextmanager
def draft(place: Path) -> Iterator[Path]:
    """A folder for work in progress inside the folder `place`; it is removed when the block ends. Raises OSError."""
    tidy(place)
    folder, lock = place / PREFIX, None
    with on_stop(lambda: shutil.rmtree(folder, ignore_errors=True)):
        try:
            while lock is None:  # once, unless another run took it for a dead one's before it was locked
                folder = place / f"{PREFIX}{secrets.token_hex(8)}"
                folder.mkdir(mode=0o700)
                lock = _lock(folder, wait=True)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            if lock is not None:
                os.close(lock)


def probe(path: str | Path, place: Path) -> None:
    """Raises `Refused` for the output `path` when nothing can be written in the folder `place`."""
    with _sentences(path), draft(place):
        pass


def tidy(place: Path) -> None:
    """Removes drafts in `place` whose process died; completes the exchange that one of them was in the middle of."""
    with contextlib.suppress(OSError):
        names = [entry.name for entry in os.scandir(place) if _DRAFT.fullmatch(entry.name)]
        for folder in (place / name for name in names):
            if folder.is_symlink() or not folder.is_dir() or folder.stat().st_uid != os.geteuid():
                continue
            with contextlib.suppress(OSError):
                lock = _lock(folder, wait=False)
                if lock is not None:
                    _complete(folder)
                    shutil.rmtree(folder, ignore_errors=True)
                    os.close(lock)


def heal(path: Path) -> None:
    """Before reading `path`: completes the exchange during which a run was killed, where nothing stands there."""
    if not os.path.exists(path):
        tidy(Path(os.path.realpath(path)).parent)


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A place to write a file; when the block ends well the file takes the place of `path`, and of what was there.

    A symbolic link stays one: what it points to is replaced. Raises `Refused` when it can not be written.
    """
    target = Path(os.path.realpath(path))
    with _sentences(path), draft(target.parent) as scratch:
        yield scratch / NEW
        _sync(scratch / NEW)
        os.replace(scratch / NEW, target)


@contextmanager
def whole_folder(path: str | Path, again: Callable[[], object]) -> Iterator[Path]:
    """A folder to fill; when the block ends well it takes the place of `path`, and what was there is removed.

    again: called when the new folder is complete, to refuse what may have come to lie at `path` meanwhile.
    A symbolic link stays one, and folders above that are missing are made. Raises `Refused` when it can not be written.
    """
    target = Path(os.path.realpath(path))
    place = next(folder for folder in target.parents if folder.exists())
    with _sentences(path), draft(place) as scratch:
        (scratch / NEW).mkdir()
        try:
            yield scratch / NEW
        except Refused as refused:  # of a part, which is named as the user will know it
            raise Refused(replace(p, file=p.file.replace(str(scratch / NEW), str(path))) for p in refused.problems) \
                from None
        _sync(scratch / NEW)
        again()
        target.parent.mkdir(parents=True, exist_ok=True)
        _put(scratch, target)


def _put(scratch: Path, target: Path) -> None:
    """The draft's new folder under its name; what stood there stays in the draft."""
    try:
        os.rename(scratch / NEW, target)  # one step where nothing or an empty folder is there
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
    if exchange(scratch / NEW, target):
        return
    (scratch / PLACE).write_text(os.path.relpath(target, scratch.parent), encoding="utf-8", errors="surrogateescape")
    try:
        os.rename(target, scratch / OLD)
        os.rename(scratch / NEW, target)
    except BaseException:
        if not os.path.lexists(target):
            os.rename(scratch / OLD, target)
        raise


def _complete(scratch: Path) -> None:
    """The second of two renames, which a killed run could not do any more: the new folder was complete."""
    if not (scratch / PLACE).is_file():
        return
    name = Path((scratch / PLACE).read_text(encoding="utf-8", errors="surrogateescape"))
    target = scratch.parent / name
    if not name.parts or name.is_absolute() or ".." in name.parts or os.path.lexists(target):
        return
    for part in (NEW, OLD):
        if os.path.lexists(scratch / part):
            os.rename(scratch / part, target)
            return


def _lock(folder: Path, wait: bool) -> int | None:
    """The locked file of a draft; None when it is another run's (or that run removed it just now)."""
    import fcntl

    try:
        lock = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:  # held; or a file system without locks, where a draft of ours is used and never tidied up
        if wait:
            return lock
        os.close(lock)
        return None
    if os.fstat(lock).st_nlink == 0:
        os.close(lock)
        return None
    return lock


def _sync(path: Path) -> None:
    """On the disk before it gets its name: after a power cut, too, there is the old result or the whole new one."""
    for below in sorted(path.iterdir()) if path.is_dir() else ():
        _sync(below)
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


_FIXES = {
    errno.ENOSPC: "Free some space, or choose a folder on another disk",
    errno.EDQUOT: "Free some space, or choose a folder on another disk",
    errno.EFBIG: "Raise the limit on the size of files (ulimit -f), or choose another disk",
    errno.EBUSY: "Choose a folder that is no mount point, such as one inside it",
}


@contextmanager
def _sentences(path: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from None


def unwritable(path: str | Path, error: OSError) -> Refused:
    """The refusal of an output that the system refuses."""
    fix = _FIXES.get(error.errno or 0, "Choose a folder that exists and that you may write to")
    return refuse(f"it can not be written ({error.strerror or error})", file=str(path), fix=fix)
