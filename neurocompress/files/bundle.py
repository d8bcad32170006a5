"""The bundle: the folder that `deploy` writes and `simulate` and `compare` read.

report.json      everything that was found and assumed, and a digest of every other file
model.nir        the compressed network, weights on the chip's grid
integer.npz      the same in the chip's integers, for the emulator
profile.yaml     the chip's profile as it was used
host.nir         what the host computes before the chip, where it does (deploy --input host)
<back end>/      what each back end emitted, e.g. lava/
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import Refused, refuse
from .bundle_files import digests, others
from .whole import heal, probe, unwritable, whole_folder

REPORT = "report.json"
MODEL = "model.nir"
INTEGER = "integer.npz"
PROFILE = "profile.yaml"
HOST = "host.nir"

#: Key of report.json: SHA-256 by path of every other file of the bundle.
FILES = "files"


def is_bundle(path: Path) -> bool:
    heal(path)
    return path.is_dir() and (path / REPORT).is_file()


def require(path: Path, part: str) -> Path:
    """A part of a bundle. Raises `Refused` when `path` is no bundle or lacks it."""
    if not is_bundle(path):
        raise refuse("it is no bundle", file=str(path), fix="Give a folder that `neurocompress deploy` wrote")
    _report(path / REPORT)  # a report that is damaged says that the rest may be
    if not (path / part).exists():
        raise refuse(f"the bundle has no {part}", file=str(path), fix="Deploy the model again")
    return path / part


def is_part(file: Path) -> bool:
    """Whether a file belongs to a bundle."""
    file = Path(os.path.realpath(file))
    return any(file == folder / REPORT or file.relative_to(folder).as_posix() in _listed(folder)
               for folder in file.parents if (folder / REPORT).is_file())


@contextmanager
def written(folder: Path, force: bool = False) -> Iterator[Path]:
    """A folder to fill, moved to `folder` whole when the block ends well; what may be replaced there is.

    Raises `Refused` as `writable`, which is asked again when all is complete, and when it can not be written.
    """
    with whole_folder(folder, lambda: _refuse_others(folder, force)) as made:
        yield made


def seal(made: Path, report: dict[str, Any]) -> str:
    """The text of report.json for a folder whose other files are complete."""
    from ..serialize import to_json

    return to_json(report | {FILES: digests(made)}, indent=1)


def writable(folder: Path, force: bool = False, inputs: Iterable[object] = ()) -> tuple[str, ...]:
    """Raises `Refused` at once, before any work, when `folder` can not become a bundle.

    A bundle with nothing beside it is replaced; with `force` whatever is there, unless it is the folder of an input,
    of this process, or of a mounted disk. Returns what `force` will remove: every file that no bundle wrote.
    """
    heal(folder)
    real = Path(os.path.realpath(folder))
    place = next(above for above in real.parents if above.exists())
    try:
        os.lstat(real)  # a name that is too long, say
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise unwritable(folder, error) from None
    why = ""
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        why = f"'{place}' is no folder that you may write to"
    elif os.path.ismount(real):
        why = "it is a mount point, which can not be replaced"
    elif real.is_dir() and not os.access(real, os.W_OK | os.X_OK):
        why = "it is write-protected"
    elif real.exists() and any(here.is_relative_to(real) for here in (Path(os.path.realpath(os.curdir)), Path.home())):
        why = "it is the folder that this runs in, your home, or one above them"
    if why:
        raise refuse(f"it can not be written: {why}", file=str(folder),
                     fix="Give another --out, such as a folder inside it" if "mount" in why or "runs" in why else
                     "Give another --out, or change the folder's permissions")
    removed = _refuse_others(folder, force)
    for given in inputs:
        named = isinstance(given, (str, os.PathLike)) and real.exists()
        if named and Path(os.path.realpath(given)).is_relative_to(real):  # type: ignore[call-overload]
            raise refuse(f"it holds an input of this run ('{given}'), which would be removed", file=str(folder),
                         fix="Give another --out")
    probe(folder, place)
    return removed


def _refuse_others(folder: Path, force: bool) -> tuple[str, ...]:
    """Files at `folder` that no bundle wrote. Raises `Refused` for them without `force`."""
    real = Path(os.path.realpath(folder))
    if not os.path.lexists(real):
        return ()
    if not real.is_dir():
        if force and real.is_file():
            return (str(folder),)
        raise refuse("it exists and is no bundle", file=str(folder), fix="Give another --out, or remove it")
    listed = _listed(real)
    found = tuple(others(real, listed, REPORT if listed else ""))
    if force or not found:
        return found
    some = ", ".join(f"'{name}'" for name in found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
    if not listed:
        raise refuse(f"it exists and is no bundle (it holds {some})", file=str(folder),
                     fix="Give another --out, or --force to remove all that is in it")
    raise refuse(f"it is a bundle, and it holds what `deploy` did not write so: {some}", file=str(folder),
                 fix="Move that, or give another --out, or --force to remove it")


def _listed(folder: Path) -> dict[str, str]:
    """Digests by path as the report of a bundle has them; empty where there is none, or none of ours."""
    try:
        found = _report(folder / REPORT).get(FILES)
    except Refused:
        return {}
    return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}


def read_report(path: Path) -> dict[str, Any]:
    """report.json of a bundle. Raises `Refused` when it is damaged."""
    return _report(require(path, REPORT))


def _report(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise refuse(f"can not be read ({error})", file=str(file), fix="Deploy the model again") from None
    if not isinstance(found, dict):
        raise refuse("holds no report", file=str(file), fix="Deploy the model again")
    return found
