"""A NIR file's HDF5 content as a tree of plain values, read as if a stranger wrote it.

Links, virtual datasets and external storage reach outside the file, and a small file can declare any amount of
data: all are refused before a byte of them is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import Problem, Refused, refuse

Value = str | np.ndarray
Tree = dict[str, Any]  # of Value and Tree

MAX_BYTES = 4 * 2**30
MAX_OBJECTS = 200_000
MAX_DEPTH = 48
#: deflate reaches 1032:1 at best, so data beyond that ratio was never written by an exporter.
MAX_RATIO = 1100

_EXPORT = "Export the model again with nir.write"


def load(path: Path) -> Tree:
    """Everything in the file: groups as dicts, text as str (or object arrays of str), numbers as arrays.

    Scalars are 0-d arrays. Raises `Refused` when the file is missing, damaged, not HDF5, larger than
    4 GiB unpacked, or reaches outside itself.
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
            head = stream.read(8)
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        raise refuse(f"can not be read: {error}", file=file, fix="Check its permissions") from None
    if not head:
        raise refuse("is empty", file=file, fix=_EXPORT)
    if head[:2] == b"PK" or head[:1] == b"\x80":
        raise refuse("is a PyTorch archive or a pickle, not a NIR file: it is never opened, because "
                     "unpickling runs code", file=file, fix="Export the model with nir.write")
    if head != b"\x89HDF\r\n\x1a\n":
        raise refuse("is not an HDF5 file, so it is not a NIR file", file=file, fix=_EXPORT)
    try:
        with h5py.File(path, "r") as root:
            return _Reader(file, path.stat().st_size).group(root, "", 0, ())
    except Refused:
        raise
    except Exception as error:  # h5py answers damage with almost every exception there is
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise refuse(f"is truncated or damaged ({first})", file=file,
                     fix="Copy the file again, or export the model again") from None


class _Reader:
    """Reads groups recursively within budgets of bytes, objects and depth."""

    def __init__(self, file: str, file_bytes: int) -> None:
        self.file = file
        self.file_bytes = file_bytes
        self.bytes = 0
        self.objects = 0

    def refuse(self, what: str, where: str, fix: str = _EXPORT) -> Refused:
        return Refused(Problem(what, f"'{where}'" if where else "", fix, self.file))

    def group(self, group: Any, where: str, depth: int, above: tuple[Any, ...]) -> Tree:
        import h5py

        if depth > MAX_DEPTH or group.id in above:
            raise self.refuse("its groups contain each other or nest too deeply", where)
        tree: Tree = {}
        for key in group:
            here = f"{where}/{key}"
            self.objects += 1
            if self.objects > MAX_OBJECTS:
                raise self.refuse(f"holds more than {MAX_OBJECTS} objects", "")
            if not str(key).isprintable():
                raise self.refuse(f"the name {key!a} can not be printed", where, "Rename the node and export again")
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise self.refuse("is a link, and NIR files hold none", here, "Store the data itself")
            item = group[key]
            if isinstance(item, h5py.Group):
                tree[key] = self.group(item, here, depth + 1, (*above, group.id))
            elif isinstance(item, h5py.Dataset):
                tree[key] = self.dataset(item, here)
            else:
                raise self.refuse("is neither a group nor a dataset", here)
        return tree

    def dataset(self, item: Any, where: str) -> Value:
        import h5py

        if item.is_virtual or item.external:
            raise self.refuse("keeps its data in another file", where, "Store the data itself")
        if item.shape is None:
            raise self.refuse("is an empty dataset", where)
        size = int(item.size) * int(item.dtype.itemsize)
        self.bytes += size
        if self.bytes > MAX_BYTES or (size > 2**24 and size > MAX_RATIO * self.file_bytes):
            raise self.refuse(
                f"declares {size} bytes of data in a file of {self.file_bytes} bytes (at most {MAX_BYTES} in "
                f"total, packed at most {MAX_RATIO}:1)", where)
        if h5py.check_string_dtype(item.dtype) is not None:
            text = item.asstr()[()]
            return text if isinstance(text, str) else np.asarray(text, dtype=object)
        if item.dtype.kind not in "fiub":
            raise self.refuse(f"holds {item.dtype} values, expected numbers or text", where)
        values = np.asarray(item[()])
        return values.astype(values.dtype.newbyteorder("="), copy=False)
