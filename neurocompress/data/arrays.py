"""Named arrays in .npz files: read with bounds and without pickle, written whole or not at all."""

from __future__ import annotations

import struct
import tokenize
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO

import numpy as np

from ..errors import Problem, Refused, refuse
from ..files.file_kinds import kind_of
from ..files.whole import whole_file
from ..free_memory import free_memory

#: Arrays of one file may take this many bytes in memory.
MAX_BYTES = 8 * 2**30

#: But those of a file below SMALL only SMALL_BYTES: deflate packs zeros a thousandfold. A larger file may be
#: spikes, which are next to nothing but zeros (N-MNIST in frames of 1 ms, float32: 245 to 1).
SMALL, SMALL_BYTES = 4 * 2**20, 2**29

#: Members of one archive; a bundle of 1000 layers has about as many times ten.
MAX_MEMBERS = 20_000

#: What zipfile, zlib and NumPy raise for files that are truncated, encrypted or made up.
_BROKEN = (
    zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError,
    ValueError, SyntaxError, TypeError, EOFError, OSError, RuntimeError, NotImplementedError, OverflowError,
)


def read_arrays(
    path: str | Path, names: Collection[str] | None = None, max_bytes: int = MAX_BYTES
) -> dict[str, np.ndarray]:
    """Arrays of a .npz file by name: those of `names` that are there, or all of them.

    Sizes are read from the headers first, and nothing is loaded when together they exceed `max_bytes`, the memory that
    is free, or, for a file below SMALL, SMALL_BYTES.
    Raises `Refused` for a file that is missing, not a .npz, damaged, too large or holds Python objects.
    """
    file = str(path)
    if Path(path).is_dir():
        raise refuse("is a folder, and a .npz file is expected", file=file,
                     fix="Name the file in it")
    if not Path(path).is_file():
        raise refuse("there is no such file", file=file, fix="Check the path")
    if (kind := kind_of(path, "spikes")) is not None:
        raise refuse(f"is {kind[0]}", file=file, fix=kind[1])
    if not zipfile.is_zipfile(path):
        raise refuse("is not a .npz file", file=file, fix="Write it with numpy.savez_compressed(FILE, spikes=...)")
    try:
        with zipfile.ZipFile(path) as archive:
            wanted = [
                m for m in archive.infolist()
                if m.filename.endswith(".npy") and (names is None or m.filename[:-4] in names)
            ]
            _check_packing(archive, wanted, file)
            _check_sizes(archive, wanted, file, min(max_bytes, memory_limit(Path(path).stat().st_size)))
            return {m.filename[:-4]: _read(archive, m, file) for m in wanted}
    except _BROKEN as error:
        raise refuse(f"it can not be opened as a .npz file ({error})", file=file, fix="Write the file again") from error


def memory_limit(file_bytes: int) -> int:
    """Bytes that the arrays of a file of this size may take in memory, on a machine that has as much."""
    return SMALL_BYTES if file_bytes < SMALL else MAX_BYTES


def array_names(path: str | Path) -> list[str]:
    """Names of the arrays in a .npz file that `read_arrays` could read."""
    with zipfile.ZipFile(path) as archive:
        return [name[:-4] for name in archive.namelist() if name.endswith(".npy")]


def _check_packing(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], file: str) -> None:
    """Refuse archives that NumPy does not write: names that stand twice, other packings than deflate."""
    if len(archive.infolist()) > MAX_MEMBERS:
        raise refuse(f"it holds {len(archive.infolist())} arrays, at most {MAX_MEMBERS} are read", file=file,
                     fix="Write one array for all samples")
    twice = [name for name, n in Counter(m.filename for m in members).items() if n > 1]
    packed = [m for m in members if m.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)]
    problems = [
        Problem("it stands in the file twice", f"array '{name[:-4]}'", "Write the file again", file) for name in twice
    ] + [
        Problem(f"it is packed by method {m.compress_type}, and only 'stored' (0) and 'deflate' (8) are read",
                f"array '{m.filename[:-4]}'", "Write the file with numpy.savez or savez_compressed", file)
        for m in packed
    ]
    if problems:
        raise Refused(problems)


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
            f"its arrays take {total / 2**30:.1f} GiB in memory, at most {max_bytes / 2**30:.3g} GiB are read",
            fix="Store fewer samples or steps, uint8 instead of a wider type, or write without compression "
                f"(numpy.savez): a file below {SMALL / 2**20:.0f} MiB may not unpack to more, a larger one to "
                f"{MAX_BYTES / 2**30:.0f} GiB", file=file))
    elif (free := free_memory()) is not None and total > free:
        problems.append(Problem(
            f"its arrays take {total / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB of memory are free",
            fix="Store fewer samples or steps, or uint8 instead of a wider type", file=file))
    if problems:
        raise Refused(problems)


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(stream)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # on headers that Python 2 wrote
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
        with archive.open(member) as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            values = np.asarray(np.lib.format.read_array(stream, allow_pickle=False))
            if values.dtype.isnative:
                return values
            return values.byteswap(inplace=True).view(values.dtype.newbyteorder("="))
    except MemoryError as error:
        raise refuse("it does not fit into memory", where=where, file=file, fix="Store fewer samples") from error
    except _BROKEN as error:
        raise refuse(f"it is damaged ({error})", where=where, file=file, fix="Write the file again") from error


def save_arrays(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a .npz in one step: the file appears whole under its name, or not at all.

    It is compressed, unless it held so many zeros that `read_arrays` would refuse it. Raises `Refused` when it can not
    be written.
    """
    held = {name: np.asanyarray(values) for name, values in arrays.items()}
    with whole_file(path) as new:
        _write(new, held, zipfile.ZIP_DEFLATED)
        if sum(values.nbytes for values in held.values()) > memory_limit(new.stat().st_size):
            _write(new, held, zipfile.ZIP_STORED)


def _write(path: Path, arrays: Mapping[str, np.ndarray], packing: int) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        # Not savez_compressed: it takes a name 'file' for its own argument, and writes the time into the file.
        for name, values in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))  # same arrays, same bytes
            member.compress_type = packing
            with archive.open(member, "w", force_zip64=True) as target:
                np.lib.format.write_array(target, values, allow_pickle=False)
