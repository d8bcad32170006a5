"""Which files of a folder a run wrote there, and which came from somebody else."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

#: Python's own copies of modules that were imported from the folder; they come back by themselves.
CACHE, CACHED = "__pycache__", ".pyc"


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 in hexadecimal of every file below `folder`, by path with '/'."""
    return {name: _digest(folder / name) for name in sorted(_below(folder)) if (folder / name).is_file()}


def others(folder: Path, written: Mapping[str, str], report: str) -> Iterator[str]:
    """Paths below `folder` that are not as written: added, changed, or of another kind (a link, a folder, a pipe).

    written: digests by path. report: a file that belongs there with any content, "" for none.
    """
    folders = {str(above) for name in (*written, report) for above in Path(name).parents}
    for name in sorted(_below(folder)):
        path = folder / name
        if path.is_symlink() or not path.is_file():
            if path.is_symlink() or not path.is_dir() or (name not in folders and not _is_cache(name, folders)):
                yield name
        elif name == report or (_is_cache(str(Path(name).parent), folders) and name.endswith(CACHED)):
            continue
        elif written.get(name) != _digest(path):
            yield name


def _is_cache(name: str, folders: set[str]) -> bool:
    return Path(name).name == CACHE and str(Path(name).parent) in folders


def _below(folder: Path) -> Iterator[str]:
    """Paths of all files, links and folders below `folder`; links are not followed."""
    for where, inside, files in os.walk(folder):
        for name in (*inside, *files):
            yield (Path(where) / name).relative_to(folder).as_posix()


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
