"""Where a verb may write: refused before any work when something of the user's lies there, or nothing can be written.

A verb overwrites what it wrote itself, and nothing else: neither its own inputs, by whatever path or link they are
named, nor a file of another kind, nor a part of a bundle.
"""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

from ..errors import Refused, refuse
from . import bundle
from .whole import probe, unwritable

#: Whether a file is of the kind that a verb writes, so that the verb may replace it.
Kind = Callable[[Path], bool]


def compressed_network(path: Path) -> bool:
    """A NIR file that `compress` wrote: the recipe is in its metadata."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return "recipe" in file["node/metadata"]
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, AttributeError):
        return False


def arrays_with(name: str) -> Kind:
    """A .npz that holds the array of this name."""

    def found(path: Path) -> bool:
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
            return False
        return f"{name}.npy" in names and all(member.endswith(".npy") for member in names)

    return found


def free_file(out: str | Path, verb: str, kind: Kind, inputs: Iterable[object]) -> None:
    """Raises `Refused` where `verb` may not write the file `out`.

    kind: what may be replaced there (an empty file may always). inputs: of this run; what is no path is passed over.
    """
    path = Path(out)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return room(path)
    except OSError as error:
        raise unwritable(path, error) from None
    room(path)
    if not stat.S_ISREG(mode):
        raise _never(path, "it is no file")
    for given in inputs:
        if isinstance(given, (str, os.PathLike)) and _same(path, Path(given)):
            raise refuse(f"it is an input of this run ('{given}'), which would be overwritten", file=str(path),
                         fix="Give another --out")
    if bundle.is_part(path):
        raise refuse("it is a part of a bundle", file=str(path), fix="Give another --out")
    if path.stat().st_size and not kind(path):
        raise refuse(f"it exists, and `{verb}` did not write it", file=str(path),
                     fix="Give another --out, or remove it")
    if not os.access(path, os.W_OK):
        raise _never(path, "it is write-protected")


def room(out: str | Path) -> None:
    """Raises `Refused` where no file can be written at `out`: its folder is missing, is none, or may not be written."""
    path = Path(out)
    folder = Path(os.path.realpath(path)).parent
    if path.is_dir():
        raise _never(path, "it is a folder")
    if not folder.is_dir():
        raise _never(path, f"'{folder}' is no folder" if folder.exists() else f"there is no folder '{folder}'")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _never(path, f"you may not write to '{folder}'")
    try:
        os.lstat(path)  # a name that is too long, say
    except FileNotFoundError:
        pass
    except OSError as error:
        raise unwritable(path, error) from None
    probe(path, folder)


def _never(path: Path, why: str) -> Refused:
    return refuse(f"it can not be written: {why}", file=str(path),
                  fix="Name a file in a folder that exists and that you may write")


def _same(a: Path, b: Path) -> bool:
    try:
        return os.path.samefile(a, b)
    except OSError:
        return False
