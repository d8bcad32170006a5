"""A NIR file's HDF5 content as a tree of plain values, read as if a stranger wrote it.

Links, virtual datasets and external storage reach outside the file, and a small file can declare any amount of
data: all are refused before a byte of them is read.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..errors import Problem, Refused, refuse
from ..files.file_kinds import kind_of
from ..free_memory import free_memory

Value = str | np.ndarray
Tree = dict[str, Any]  # of Value and Tree

MAX_OBJECTS = 25_000
MAX_DEPTH = 48
#: Longest name of a node or field.
MAX_NAME = 255
#: All datasets together may take this many bytes in memory, where a value takes 4 bytes at least (a reader makes it a
#: float); in a file below SMALL only SMALL_BYTES: deflate reaches 1032:1 on zeros alone, and a dataset of nothing takes
#: no space. Larger files may be networks of which next to nothing is left.
MAX_BYTES = 4 * 2**30
SMALL, SMALL_BYTES = 4 * 2**20, 2**28
#: What a text costs in memory beside its characters, and what a stored chunk takes of a file at least.
TEXT_BYTES, CHUNK_BYTES = 64, 64

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_HEAP = b"GCOL\x01\0\0\0"
_AGAIN = "Copy the file again, or export the model again"
_EXPORT = "Export the model again with nir.write"
_UNPACKED = "Write the data without compression, and leave out what is no part of the network"


def load(path: Path) -> Tree:
    """Everything in the file: groups as dicts, text as str (or object arrays of str), numbers as arrays.

    Scalars are 0-d arrays. Raises `Refused` when the file is missing, damaged, not HDF5, reaches outside itself, or
    unpacks to more than `memory_limit` bytes.
    """
    import h5py

    file = str(path)
    try:
        if path.is_dir():
            raise refuse("is a folder", file=file, fix="Name the .nir file inside it")
        if not path.exists():
            raise refuse("does not exist", file=file, fix="Check the path")
        if not path.is_file():
            raise refuse("is not a regular file", file=file, fix="Name a .nir file")
        with path.open("rb") as stream:
            head = stream.read(16)
            sound = head[:8] != _SIGNATURE or _sound(stream, head)
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        raise refuse(f"can not be read: {error}", file=file, fix="Check its permissions") from None
    if (kind := kind_of(path, "network")) is not None:
        raise refuse(f"is {kind[0]}", file=file, fix=kind[1])
    if head[:8] != _SIGNATURE:
        raise refuse("is not an HDF5 file, so it is not a NIR file", file=file, fix=_EXPORT)
    if not sound:
        raise refuse("is damaged: its text does not add up", file=file, fix=_AGAIN)
    try:
        with h5py.File(path, "r") as root:
            return _Reader(file, path.stat().st_size).group(root, "", 0)
    except Refused:
        raise
    except Exception as error:  # h5py answers damage with almost every exception there is
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise refuse(f"is truncated or damaged ({first})", file=file, fix=_AGAIN) from None


def memory_of(dataset: Any) -> int:
    """Bytes that a reader holds of an HDF5 dataset."""
    import h5py

    each = int(dataset.dtype.itemsize)
    text = h5py.check_string_dtype(dataset.dtype) is not None
    return int(dataset.size) * (each + TEXT_BYTES if text else max(each, 4))


def memory_limit(file_bytes: int) -> int:
    """Bytes that all datasets of a file of this size, and what is spread from them, may take in memory, on a machine
    that has as much."""
    return SMALL_BYTES if file_bytes < SMALL else MAX_BYTES


def _sound(stream: BinaryIO, head: bytes) -> bool:
    """False when a global heap, where HDF5 keeps text, would send libhdf5 around in circles.

    libhdf5 (1.14 and 2.0) steps through a heap by the sizes found in it, without end when one is 0 or wraps.
    Format: HDF5 specification 3.0, III.E: 'GCOL', version, size; then objects of a 16-byte header and padded data.
    """
    if len(head) < 16:
        return False
    sizes = head[13:15] if head[8] in (0, 1) else head[9:11]
    if sizes != b"\x08\x08":  # every file in use has 8-byte offsets and lengths
        return False
    with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = data.find(_HEAP)
        left = len(data) // 16  # heaps do not overlap, so a sound file has no more objects
        while start >= 0:
            end = start + int.from_bytes(data[start + 8 : start + 16], "little")
            if end > len(data):
                return False
            at = start + 16
            while at + 16 <= end:
                size = int.from_bytes(data[at + 8 : at + 16], "little")
                step = size if data[at : at + 2] == b"\0\0" else 16 + (size + 7) // 8 * 8
                left -= 1
                if step < 16 or at + step > end or left < 0:
                    return False
                at += step
            start = data.find(_HEAP, start + 8)
    return True


class _Reader:
    """Reads groups recursively within budgets of bytes, objects and depth."""

    def __init__(self, file: str, file_bytes: int) -> None:
        self.file = file
        self.file_bytes = file_bytes
        self.limit = memory_limit(file_bytes)
        self.free = free_memory()
        self.bytes = 0
        self.seen: set[int] = set()

    def refuse(self, what: str, where: str, fix: str = _EXPORT) -> Refused:
        return Refused(Problem(what, f"'{where}'" if where else "", fix, self.file))

    def group(self, group: Any, where: str, depth: int) -> Tree:
        import h5py

        if depth > MAX_DEPTH:
            raise self.refuse(f"its groups nest deeper than {MAX_DEPTH} levels", where)
        tree: Tree = {}
        for key in group:
            here = f"{where}/{key}"
            if len(self.seen) >= MAX_OBJECTS:
                raise self.refuse(f"holds more than {MAX_OBJECTS} objects", "", "Merge layers, or split the model")
            if len(str(key)) > MAX_NAME:
                raise self.refuse(f"the name {str(key)[:40]!a}... has {len(str(key))} characters, at most {MAX_NAME} "
                                  "are read", where, "Rename the node and export again")
            if not str(key).isprintable():
                raise self.refuse(f"the name {key!a} can not be printed", where, "Rename the node and export again")
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise self.refuse("is a link, and NIR files hold none", here, "Store the data itself")
            item = group[key]
            address = h5py.h5o.get_info(item.id).addr
            if address in self.seen:  # a cycle, or a small file that unfolds into a huge one
                raise self.refuse("is the same object under a second name", here, "Store it once")
            self.seen.add(address)
            if isinstance(item, h5py.Group):
                tree[key] = self.group(item, here, depth + 1)
            elif isinstance(item, h5py.Dataset):
                tree[key] = self.dataset(item, here)
            else:
                raise self.refuse("is neither a group nor a dataset", here)
        return tree

    def bounded(self, item: Any) -> bool:
        """Whether every text of a dataset claims to fit into the file: libhdf5 allocates what is claimed.

        A text is stored as its length (4 bytes), the address of its heap (8) and its index in the heap (4).
        """
        start = item.id.get_offset()
        if start is None:
            return False
        with open(self.file, "rb") as stream:
            stream.seek(start)
            raw = stream.read(16 * int(item.size))
        lengths = np.frombuffer(raw[: len(raw) // 16 * 16], "<u4")[::4]
        return lengths.size == item.size and int(lengths.sum(dtype=np.int64)) <= self.file_bytes

    def dataset(self, item: Any, where: str) -> Value:
        import h5py

        if item.is_virtual or item.external:
            raise self.refuse("keeps its data in another file", where, "Store the data itself")
        if item.shape is None:
            raise self.refuse("is an empty dataset", where)
        text_type, size = h5py.check_string_dtype(item.dtype), memory_of(item)
        self.bytes += size
        if self.bytes > self.limit:
            total = "" if self.bytes == size else f", with the datasets before it {self.bytes}"
            raise self.refuse(
                f"declares {item.size} values, {size} bytes of memory{total}, in a file of {self.file_bytes} bytes "
                f"(at most {self.limit})", where, _UNPACKED)
        if self.free is not None and self.bytes > self.free:
            raise self.refuse(f"takes {self.bytes} bytes of memory with the datasets before it, and {self.free} are "
                              "free", where, "Use a machine with more memory, or split the model")
        if item.chunks:
            chunks = int(np.prod([-(-n // c) for n, c in zip(item.shape, item.chunks, strict=True)], dtype=object))
            if chunks > max(1000, self.file_bytes // CHUNK_BYTES):
                raise self.refuse(f"is cut into {chunks} chunks, more than a file of {self.file_bytes} bytes holds",
                                  where, _UNPACKED)
        if text_type is not None:
            if text_type.length is None and item.size and not self.bounded(item):
                raise self.refuse("declares text longer than the file, or stores it in chunks", where)
            text = item.asstr()[()]
            return text if isinstance(text, str) else np.asarray(text, dtype=object)
        if item.dtype.kind not in "fiub":
            raise self.refuse(f"holds {item.dtype} values, expected numbers or text", where)
        values = np.asarray(item[()])
        return values.astype(values.dtype.newbyteorder("="), copy=False)
