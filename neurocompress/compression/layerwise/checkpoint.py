"""Finished populations of a run on disk, so that a killed run goes on where it stopped, with the same result."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import refuse
from ...files.whole import unwritable
from ..compressed_layer import CompressedLayer

KEY = "key"
#: What a run writes there.
_OURS = re.compile(KEY + r"|[0-9a-f]{16}\.(npz|partial)")
_ARRAYS = ("weight", "m", "step", "mask", "bias")


class Checkpoint:
    """A folder beside the output: one .npz for each finished population, and the key of the run that wrote it.

    What another run wrote (other weights, data, recipe or version) is removed first. Raises `Refused` for a folder
    that holds something else.
    """

    def __init__(self, folder: Path, key: str):
        free(folder)
        self.folder, self.key = folder, key
        self._locked: int | None = None
        self._mine = True
        stamp = folder / KEY
        if stamp.is_file() and stamp.read_text(encoding="ascii", errors="replace") != key and not _at_work(folder):
            _empty(folder)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Meanwhile no other run takes the folder. Raises `Refused` when one has it."""
        try:
            if self.folder.exists() and not self._lock():
                raise refuse("another run is at work on this output", file=str(self.folder),
                             fix="Wait for it, or choose another --out")
            self._mine = self._locked is not None
            yield
        finally:
            self._mine = True
            if self._locked is not None:
                os.close(self._locked)
                self._locked = None

    def _lock(self) -> bool:
        self._locked = _locked(self.folder)
        return self._locked is not None

    def _file(self, population: str) -> Path:
        return self.folder / (hashlib.sha256(population.encode()).hexdigest()[:16] + ".npz")

    def get(self, population: str) -> dict[str, CompressedLayer] | None:
        """A population's layers, or None when they are not finished (or the file is damaged)."""
        try:
            with np.load(self._file(population), allow_pickle=False) as found:
                facts = json.loads(str(found["facts"]))
                return {name: _layer(k, fact, found) for k, (name, fact) in enumerate(facts.items())}
        except (OSError, KeyError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile):
            return None

    def put(self, population: str, layers: dict[str, CompressedLayer]) -> None:
        arrays: dict[str, np.ndarray] = {}
        facts: dict[str, dict[str, object]] = {}
        for k, (name, layer) in enumerate(layers.items()):
            held = [a for a in _ARRAYS if getattr(layer, a) is not None]
            facts[name] = {f.name: getattr(layer, f.name) for f in fields(layer) if f.name not in _ARRAYS}
            facts[name]["held"] = held
            arrays |= {f"{k}.{a}": getattr(layer, a) for a in held}
        target = self._file(population)
        partial = target.with_suffix(".partial")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not self._mine and not self._lock():
                return  # another run began meanwhile: this one goes on without
            self._mine = True
            self._stamp()
            with partial.open("wb") as file:
                np.savez(file, **(arrays | {"facts": np.array(json.dumps(facts))}))  # type: ignore[arg-type]
            partial.replace(target)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise unwritable(self.folder, error) from None

    def _stamp(self) -> None:
        """The key of this run, and nothing of another one."""
        stamp = self.folder / KEY
        if not stamp.exists() or stamp.read_text(encoding="ascii", errors="replace") != self.key:
            _clear(self.folder)
            stamp.write_text(self.key, encoding="ascii")

    def remove(self) -> None:
        """The run is complete."""
        if self._mine:
            _empty(self.folder)


def free(folder: Path) -> None:
    """Raises `Refused` when `folder` is there and holds anything but an unfinished run."""
    names = [p.name for p in folder.iterdir()] if folder.is_dir() and not folder.is_symlink() else []
    if (os.path.lexists(folder) and not folder.is_dir()) or any(not _OURS.fullmatch(name) for name in names) or (
            names and KEY not in names):
        raise refuse("it exists and holds no unfinished run alone", file=str(folder),
                     fix="Move it, or choose another --out")


def discard(folder: Path) -> None:
    """Removes what an unfinished run left, unless another run is at work there."""
    if not _at_work(folder):
        _empty(folder)


def _empty(folder: Path) -> None:
    """The key goes last: what a kill leaves is still known as an unfinished run."""
    with contextlib.suppress(OSError):
        _clear(folder)
        folder.rmdir()


def _clear(folder: Path) -> None:
    for file in sorted(folder.iterdir(), key=lambda p: p.name == KEY):
        if _OURS.fullmatch(file.name):
            file.unlink()


def _locked(folder: Path) -> int | None:
    """An open descriptor of the folder that no other process has locked; None when one has."""
    import fcntl

    opened = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(opened)
        return None
    except OSError:  # a file system without locks
        pass
    return opened


def _at_work(folder: Path) -> bool:
    try:
        opened = _locked(folder)
    except OSError:
        return False
    if opened is None:
        return True
    os.close(opened)
    return False


def _layer(k: int, fact, found) -> CompressedLayer:  # type: ignore[no-untyped-def]
    held = fact.pop("held")
    arrays: dict[str, Any] = {a: found[f"{k}.{a}"] if a in held else None for a in _ARRAYS}
    span = fact.pop("grid_range")
    return CompressedLayer(**arrays, grid_range=None if span is None else tuple(span), **fact)
