"""Named arrays in .npz files: read with bounds and without pickle, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO

import numpy as np

from ..errors import Problem, Refused, refuse

#: Arrays of one file may take this many bytes in memory. A compressed file can declare a thousand times its own size.
MAX_BYTES = 8 * 2**30

#: What zipfile, zlib and NumPy raise for files that are truncated, encrypted or made up.
_BROKEN = (
    zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError,
    ValueError, SyntaxError, TypeError, EOFError, OSError, RuntimeError, NotImplementedError, OverflowError,
)


def read_arrays(
    path: str | Path, names: Collection[str] | None = None, max_bytes: int = MAX_BYTES
) -> dict[str, np.ndarray]:
    """Arrays of a .npz file by name: those of `names` that are there, or all of them.

    Sizes are read from the headers first, and nothing is loaded when together they exceed `max_bytes`.
    Raises `Refused` for a file that is missing, not a .npz, damaged, too large or holds Python objects.
    """
    file = str(path)
    if not Path(path).is_file():
        raise refuse("there is no such file", file=file, fix="Check the path")
    if not zipfile.is_zipfile(path):
        raise refuse("this is not a .npz file, or only the beginning of one", file=file,
                     fix="Copy it again, or write it with numpy.savez_compressed(FILE, spikes=...)")
    try:
        with zipfile.ZipFile(path) as archive:
            wanted = [
                m for m in archive.infolist()
                if m.filename.endswith(".npy") and (names is None or m.filename[:-4] in names)
            ]
            _check_sizes(archive, wanted, file, max_bytes)
            return {m.filename[:-4]: _read(archive, m, file) for m in wanted}
    except _BROKEN as error:
        raise refuse(f"it can not be opened as a .npz file ({error})", file=file, fix="Write the file again") from error


def _check_sizes(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], file: str, max_bytes: int) -> None:
    """Refuse before loading: headers that can't be read, Python objects, and more bytes than allowed."""
    problems: list[Problem] = []
    total = 0
    for member in members:
        where = f"array '{member.filename[:-4]}'"
        try:
            with archive.open(member) as stream:
                shape, dtype = _header(stream)
        except _BROKEN as error:
            problems.append(Problem(f"its header can not be read ({error})", where, "Write the file again", file))
            continue
        if dtype.hasobject or dtype.kind not in "biuf":
            problems.append(Problem(
                f"it holds {dtype} values, expected numbers", where, "Store a plain numeric array", file))
            continue
        size = dtype.itemsize
        for n in shape:  # Python integers: no overflow
            size *= n
        total += size
        if size > member.file_size:
            problems.append(Problem(
                f"shape {shape} of {dtype} takes {size} bytes, the file holds {member.file_size}", where,
                "The file is damaged: write it again", file))
    if total > max_bytes:
        problems.append(Problem(
            f"its arrays take {total / 2**30:.1f} GiB in memory, at most {max_bytes / 2**30:g} GiB are read",
            fix="Store fewer samples or steps, or uint8 instead of a wider type", file=file))
    if problems:
        raise Refused(problems)


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
    if any(n < 0 for n in shape):
        raise ValueError(f"shape {shape}")
    return shape, dtype


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, file: str) -> np.ndarray:
    where = f"array '{member.filename[:-4]}'"
    try:
        with archive.open(member) as stream:
            return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))
    except MemoryError as error:
        raise refuse("it does not fit into memory", where=where, file=file, fix="Store fewer samples") from error
    except _BROKEN as error:
        raise refuse(f"it is damaged ({error})", where=where, file=file, fix="Write the file again") from error


def writable(path: str | Path) -> None:
    """Raises `Refused` at once, before any work, when no file can be written at `path`."""
    folder = Path(path).parent
    if Path(path).is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise refuse("it can not be written", file=str(path),
                     fix="Name a file in a folder that exists and that you may write")


def save_arrays(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a compressed .npz in one step: the file appears whole under its name, or not at all.

    Raises `Refused` when the folder can not be written.
    """
    path = Path(path)
    temporary = path.parent / f".{path.name}.{os.getpid()}.part"
    try:
        with open(temporary, "wb") as stream:
            # Not savez_compressed: it takes a name 'file' for its own argument, and writes the time into the file.
            with zipfile.ZipFile(stream, "w") as archive:
                for name, values in arrays.items():
                    member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))  # same arrays, same bytes
                    member.compress_type = zipfile.ZIP_DEFLATED
                    with archive.open(member, "w", force_zip64=True) as target:
                        np.lib.format.write_array(target, np.asanyarray(values), allow_pickle=False)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise refuse(f"it can not be written ({error.strerror or error})", file=str(path),
                     fix="Choose a folder that exists and that you may write") from error
    finally:
        with contextlib.suppress(OSError):  # already renamed, or never there
            temporary.unlink()
