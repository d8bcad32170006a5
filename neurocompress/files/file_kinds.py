"""What a file is that someone gave by mistake: its first bytes say it, and the sentence names what to do.

Nothing is unpacked or unpickled; at most the first bytes and a zip's list of members are read.
"""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path

#: Bytes of the beginning that are looked at.
HEAD = 4096

HDF5 = b"\x89HDF\r\n\x1a\n"
#: First bytes of formats that are neither a network nor spikes, what they are, and what to do.
SIGNATURES = (
    (b"version https://git-lfs.github.com/spec", "a Git LFS pointer, a few lines of text where the data should be",
     "Fetch the data: git lfs install, then git lfs pull in the repository it came from"),
    (b"/annex/objects/", "a git-annex pointer, one line of text where the data should be",
     "Fetch the data: git annex get FILE in the repository it came from"),
    (b"\x80", "a Python pickle (PyTorch's old format, or pickled objects), which is never opened, because unpickling "
     "runs code", ""),
    (b"\x1f\x8b", "a gzip archive", "Unpack it: gunzip, or tar xzf for a .tar.gz"),
    (b"BZh", "a bzip2 archive", "Unpack it: bunzip2"),
    (b"\xfd7zXZ\0", "an xz archive", "Unpack it: unxz"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "Unpack it"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "Unpack it: unzstd"),
    (b"\x93NUMPY", "a single NumPy array (.npy)", ""),
    (b"#!AER-DAT", "an AEDAT event recording", ""),
    (b"MATLAB ", "a MATLAB file", "Convert it: scipy.io.loadmat, then numpy.savez_compressed"),
)
#: Those whose few bytes of text stand for data that were not fetched.
POINTERS = SIGNATURES[:2]
#: A file that ends where its own header says that more comes.
CUT = "Copy or download it again, and compare the sizes"


def kind_of(path: str | os.PathLike[str], wanted: str) -> tuple[str, str] | None:
    """What the file is ("a Git LFS pointer..."), and what to do about it; None where nothing is known of it.

    wanted: what it was given as, "network" or "spikes".
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            head = stream.read(HEAD)
    except (OSError, ValueError):
        return None
    if not head:
        return "an empty file", "The program that wrote it was stopped, or the disk was full: write it again"
    if not head.strip(b"\0"):
        return f"{size} bytes that begin with zeros only, a file that was never filled", CUT
    for cut in (_cut_zip(path, head, size, wanted), _cut_hdf5(head, size)):
        if cut is not None:
            return cut
    for found in (_zip(path, head, wanted), _hdf5(head, wanted), _signature(head, wanted), _recording(path, wanted),
                  _text(head)):
        if found is not None:
            return f"{found[0]}, not {'a NIR file' if wanted == 'network' else 'a .npz file'}", found[1]
    return None


def _recording(path: Path, wanted: str) -> tuple[str, str] | None:
    if path.suffix not in (".bin", ".bs2", ".aedat", ".aedat4", ".dat", ".es"):
        return None
    return "an event recording by its name", EVENTS if wanted == "spikes" else "Give the .nir file"


EVENTS = "Turn recordings into spikes first: neurocompress events FILE --dt X --steps N --out FILE.npz"
AS_MODEL = "Give the .nir file as MODEL and this file as --data"
AS_DATA = "Give this file as MODEL and spikes as --data FILE.npz"
EXPORT = "Export the network to NIR with its framework (nir.write), and give the .nir file"
SAVE = "Write spikes with numpy.savez_compressed(FILE, spikes=..., labels=...)"


def _cut_zip(path: Path, head: bytes, size: int, wanted: str) -> tuple[str, str] | None:
    if not head.startswith(b"PK\x03\x04") or _members(path) is not None:
        return None
    what = "a .npz or PyTorch file (a zip archive)" if wanted == "network" else "a .npz file"
    return f"only the beginning of {what}: its {size} bytes end before the list of its contents", CUT


def _members(path: Path) -> list[str] | None:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, MemoryError):
        return None


def _zip(path: Path, head: bytes, wanted: str) -> tuple[str, str] | None:
    names = _members(path) if head.startswith((b"PK\x03\x04", b"PK\x05\x06")) else None
    if names is None:
        return None
    if any(name.endswith("data.pkl") for name in names):
        return "a PyTorch file (torch.save), which is never opened, because unpickling runs code", (
            EXPORT if wanted == "network" else SAVE)
    arrays = [name[:-4] for name in names if name.endswith(".npy")]
    if arrays and wanted == "network":
        some = ", ".join(f"'{name[:40]}'" for name in arrays[:6]) + (" and more" if len(arrays) > 6 else "")
        fix = AS_MODEL if "spikes" in arrays else "Give the .nir file; of a bundle, give its folder or its model.nir"
        return f"a .npz file of arrays ({some})", fix
    if arrays or wanted == "spikes":
        return None  # as it should be, or without the array that is wanted, which its reader says
    return "a zip archive", "Unpack it"


def _cut_hdf5(head: bytes, size: int) -> tuple[str, str] | None:
    """An HDF5 file that is cut off: its superblock says where it ends. Format: HDF5 specification 3.0, II.A."""
    if not head.startswith(HDF5):
        return None
    if len(head) >= 48:
        at = {0: 40, 1: 44}.get(head[8], 28)
        end = int.from_bytes(head[at : at + 8], "little")
        if not size < end < 2**62:
            return None
        return f"only the beginning of an HDF5 file: it holds {size} of {end} bytes", CUT
    return f"only the beginning of an HDF5 file, {size} bytes of its header", CUT


def _hdf5(head: bytes, wanted: str) -> tuple[str, str] | None:
    if not head.startswith(HDF5) or wanted == "network":
        return None
    return ("an HDF5 file (a .nir network, or data of another program)",
            f"{AS_DATA}; data in HDF5: {SAVE[0].lower()}{SAVE[1:]}")


def _signature(head: bytes, wanted: str) -> tuple[str, str] | None:
    if head[257:262] == b"ustar":
        return "a tar archive", "Unpack it: tar xf"
    for signature, what, fix in SIGNATURES:
        if not head.startswith(signature):
            continue
        if signature == b"#!AER-DAT":
            fix = "Give the network as MODEL" if wanted == "network" else "Read it with neurocompress.data.aedat"
        elif signature == b"\x93NUMPY":
            fix = AS_MODEL if wanted == "network" else "Write numpy.savez_compressed(FILE, spikes=numpy.load(FILE.npy))"
        return what, fix or (EXPORT if wanted == "network" else SAVE)
    return None


def pointer_of(data: bytes) -> tuple[str, str] | None:
    """What a Git LFS or git-annex pointer is and what to do, for readers of formats that have no signature."""
    return next(((what, fix) for signature, what, fix in POINTERS if data.startswith(signature)), None)


def _text(head: bytes) -> tuple[str, str] | None:
    try:
        text = head.decode("utf-8").lstrip("\ufeff \t\r\n")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4 or len(head) < HEAD:
            return None
        text = head[: error.start].decode("utf-8")
    if re.match(r"(?i)<!doctype html|<html|<head", text):
        return "a web page, not the file that it links to", "Download the file itself, by its raw or download link"
    if text.startswith("<"):
        return "a text file in XML", "Give the file itself"
    if text.startswith(("{", "[")):
        return "a text file in JSON", "Give the .nir or .npz file"
    if all(c.isprintable() or c.isspace() for c in text):
        first = " ".join(text.split())[:60]
        return f"a text file that begins '{first}'", "Give the file itself, not a note about it"
    return None
