"""Spikes in .npz files and event recordings: every packing, header and truncation."""

from __future__ import annotations

import io
import random
import struct
import zipfile
from pathlib import Path

import numpy as np

from tests.attacks import wild

Arrays = dict[str, np.ndarray]


def npy(values: np.ndarray, rng: random.Random) -> bytes:
    """A member's bytes, its header changed now and then."""
    stream, values = io.BytesIO(), np.asarray(values)
    try:
        np.lib.format.write_array(stream, values, allow_pickle=True)
    except (ValueError, TypeError):
        np.lib.format.write_array(stream, np.zeros(3))
    data = stream.getvalue()
    turn = rng.random()
    if turn < 0.12:  # a header of our own
        shape = rng.choice(("(10**9,)", "(3, 5, 64)", "(1000000000000, 5, 64)", "(0, 99999999999999999999)", "(-1,)",
                            "(True,)",
                            "()", "(3L,)", "[3]", "x" * 20000, "(" * 500, "(1e3,)"))
        kind = rng.choice(("'<f4'", "'|O'", "'<U9'", "'|V8'", "[('a', '<f4')]", "'<M8[s]'", "'>f8'", "'x'", "'|b1'",
                           "'<f16'"))
        header = f"{{'descr': {kind}, 'fortran_order': {rng.choice(('False', 'True', '2'))}, 'shape': {shape}, }}\n"
        version = rng.choice((b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00"))
        size = struct.pack("<H" if version == b"\x01\x00" else "<I", len(header) & 0xFFFF)
        data = b"\x93NUMPY" + version + size + header.encode() + data[128:]
    elif turn < 0.2:
        data = data[: rng.randrange(len(data))]
    elif turn < 0.25:
        at = rng.randrange(min(len(data), 100))
        data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
    return data


def pack(path: Path, arrays: Arrays, rng: random.Random) -> None:
    """The arrays as an archive, packed in any way that zip allows."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, values in arrays.items():
            method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2,
                                 zipfile.ZIP_LZMA))
            for _ in range(2 if rng.random() < 0.04 else 1):
                member = zipfile.ZipInfo(name + rng.choice((".npy",) * 9 + (".NPY", ".npy.npy", "")))
                member.compress_type = method
                with __import__("warnings").catch_warnings():
                    __import__("warnings").simplefilter("ignore")
                    archive.writestr(member, npy(values, rng))
    content = bytearray(path.read_bytes())
    turn = rng.random()
    if turn < 0.1:
        del content[rng.randrange(len(content)):]
    elif turn < 0.2:
        for _ in range(rng.randrange(1, 5)):
            content[rng.randrange(len(content))] = rng.randrange(256)
    elif turn < 0.25:  # flags: encrypted, or sizes that are not true
        at = content.rfind(b"PK\x01\x02")
        if at >= 0:
            place, value = rng.choice(((8, 1), (10, 99), (10, 9), (20, 0xFFFF), (24, 0xFFFF), (24, 2**31), (42, 7)))
            struct.pack_into("<I" if place >= 20 else "<H", content, at + place,
                             value & (0xFFFFFFFF if place >= 20 else 0xFFFF))
    path.write_bytes(content)


def spikes(folder: Path, rng: random.Random, shape: tuple[int, ...] = (64,), whole: bool = False) -> Path:
    """Spikes for a network whose input has this shape. whole: as they should be."""
    values: np.ndarray = (np.random.default_rng(rng.randrange(99)).random((3, 5, *shape)) < 0.3).astype(np.uint8)
    arrays = {"spikes": values, "labels": np.arange(3) % 2}
    path = folder / "data.npz"
    if whole:
        np.savez(path, **arrays)
        return path
    for _ in range(rng.choice((0, 1, 1, 2))):
        key = rng.choice(("spikes", "spikes", "labels", "extra"))
        turn = rng.randrange(8)
        if turn == 0:
            arrays.pop(key, None)
        elif turn == 1:
            arrays[key] = wild.array(rng)
        elif turn == 2:
            arrays[key] = np.array([ascii(wild.text(rng))], dtype=rng.choice((object, "U9", "S9")))
        elif turn == 3:
            arrays[key] = np.zeros(3, [("a", "f4"), ("b", "i4")])
        elif turn == 4:
            arrays[key] = np.zeros((3, 10 ** rng.randrange(2, 6), *shape), rng.choice(("u1", "f8", "?")))
        elif key in arrays:
            try:
                arrays[key] = wild.changed(arrays[key], rng)
            except (ValueError, TypeError, OverflowError):
                arrays[key] = wild.array(rng)
    pack(path, arrays, rng)
    return path


def events(folder: Path, rng: random.Random) -> Path:
    """A recording, or several, as `events` reads them."""
    draw = np.random.default_rng(rng.randrange(2**32))
    turn = rng.randrange(3)
    if turn == 0:
        path = folder / rng.choice(("e.bin", "e.bs2"))
        data = draw.integers(0, rng.choice((34, 256)), 5 * 40, dtype=np.uint8).tobytes()
        path.write_bytes(data[: rng.choice((0, 1, 5, 200, 199))])
        return path
    if turn == 1:
        for k in range(rng.randrange(3)):
            place = folder / "set" / rng.choice(("0", "1", "²", "x", "."))
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{k}.{rng.choice(('bin', 'bs2', 'txt'))}").write_bytes(
                draw.integers(0, 34, rng.choice((0, 7, 50)), dtype=np.uint8).tobytes())
        (folder / "set").mkdir(exist_ok=True)
        return folder / "set"
    n = 30
    arrays: Arrays = {"x": draw.integers(0, 34, n), "y": draw.integers(0, 34, n), "p": draw.integers(0, 2, n),
                      "dt_us": draw.integers(0, 999, n), "offsets": np.array([0, 10, 30]), "labels": np.array([0, 1])}
    for _ in range(rng.choice((0, 1, 1, 2))):
        key = rng.choice(list(arrays))
        if rng.random() < 0.2:
            arrays.pop(key)
        else:
            try:
                arrays[key] = wild.changed(arrays[key], rng)
            except (ValueError, TypeError, OverflowError):
                arrays[key] = wild.array(rng)
        if not arrays:
            break
    path = folder / "e.npz"
    pack(path, arrays, rng)
    return path


def aedat(folder: Path, rng: random.Random) -> Path:
    """An AEDAT file of version 2.0 or 3.1, changed."""
    draw = np.random.default_rng(rng.randrange(2**32))
    two = rng.random() < 0.5
    head = b"#!AER-DAT" + rng.choice((b"2.0", b"3.1", b"2.0" if two else b"3.1", b"", b"\x1b[31m",
                                      b"9" * 99)) + b"\r\n# x\r\n"
    if two:
        body = draw.integers(0, 2**15, 20, dtype=np.uint32).astype(">u4").tobytes()
    else:
        body = b"#!END-HEADER\r\n"
        for _ in range(rng.randrange(3)):
            n = rng.choice((0, 3, 9))
            values = [1, 0, 8, 4, 0, n, n, n]
            if rng.random() < 0.4:
                values[rng.randrange(8)] = rng.choice((-1, 0, 1, 7, 32767, -32768))
            body += struct.pack("<hhiiiiii", *values) + draw.integers(0, 2**31, 2 * n, dtype=np.uint32).tobytes()
    data = head + body
    if rng.random() < 0.3:
        data = data[: rng.randrange(len(data) + 1)]
    path = folder / "e.aedat"
    path.write_bytes(data)
    return path
