"""The bundle: the folder that `deploy` writes and `simulate` and `compare` read.

report.json      everything that was found and assumed
model.nir        the compressed network, weights on the chip's grid
integer.npz      the same in the chip's integers, for the emulator
profile.yaml     the chip's profile as it was used
host.nir         what the host computes before the chip, where it does (deploy --input host)
<back end>/      what each back end emitted, e.g. lava/
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import refuse

REPORT = "report.json"
MODEL = "model.nir"
INTEGER = "integer.npz"
PROFILE = "profile.yaml"
HOST = "host.nir"


def is_bundle(path: Path) -> bool:
    return path.is_dir() and (path / REPORT).is_file()


def require(path: Path, part: str) -> Path:
    """A part of a bundle. Raises `Refused` when `path` is no bundle or lacks it."""
    if not is_bundle(path):
        raise refuse("it is no bundle", file=str(path), fix="Give a folder that `neurocompress deploy` wrote")
    _report(path / REPORT)  # a report that is damaged says that the rest may be
    if not (path / part).exists():
        raise refuse(f"the bundle has no {part}", file=str(path), fix="Deploy the model again")
    return path / part


@contextmanager
def written(folder: Path) -> Iterator[Path]:
    """A folder to fill, moved to `folder` whole when the block ends well; a bundle that was there is replaced.

    Raises `Refused` when the place can not be written, or holds something that is no bundle.
    """
    if folder.exists() and not is_bundle(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise refuse("it exists and is no bundle", file=str(folder), fix="Give another --out, or remove it")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise refuse(f"it can not be written ({error.strerror})", file=str(folder),
                     fix="Give another --out, or change the folder's permissions") from None
    try:
        made, old = scratch / "new", scratch / "old"
        made.mkdir()
        yield made
        if folder.exists():
            os.replace(folder, old)
        try:
            os.replace(made, folder)
        except BaseException:  # a signal between the two as well: what was there goes back
            if old.exists() and not folder.exists():
                os.replace(old, folder)
            raise
    except OSError as error:
        raise refuse(f"it can not be written ({error.strerror})", file=str(folder),
                     fix="Free space, or give another --out") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def writable(folder: Path) -> None:
    """Raises `Refused` at once, before any work, when `folder` can not become a bundle."""
    if folder.exists() and not is_bundle(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise refuse("it exists and is no bundle", file=str(folder), fix="Give another --out, or remove it")
    place = folder.parent
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise refuse(f"'{place}' can not be written to", file=str(folder),
                     fix="Give another --out, or change the folder's permissions")


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
