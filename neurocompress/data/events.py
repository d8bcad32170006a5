"""Event recordings (x, y, polarity, microseconds) and the formats they are stored in.

Formats: N-MNIST and N-Caltech101 `.bin`, SLAYER's `.bs2`, a flat `.npz` of many recordings, and every dataset
of tonic (`from_tonic`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import Problem, Refused, refuse
from ..files.file_kinds import pointer_of
from .arrays import read_arrays

#: A recording of more bytes than this is not read: 200 million events of 5 bytes.
MAX_RECORDING = 10**9

#: In a .bin file an event in this row is no event: the sensor's clock ran over (the images have fewer rows).
OVERFLOW_ROW, OVERFLOW_US = 240, 2**13


@dataclass(frozen=True, eq=False)
class Events:
    """One recording: arrays (events,) of integers.

    x, y: pixels from the upper left. p: 0 (OFF) or 1 (ON). t_us: microseconds from the start of the recording.
    """

    x: np.ndarray
    y: np.ndarray
    p: np.ndarray
    t_us: np.ndarray


@dataclass(frozen=True, eq=False)
class Recordings:
    """Many recordings, read one at a time. labels: (count,) int64 or None. read(i) gives recording i."""

    count: int
    labels: np.ndarray | None
    name: str
    read: Callable[[int], Events]

    def __iter__(self) -> Iterator[Events]:
        return (self.read(i) for i in range(self.count))

    def chosen(self, indices: Sequence[int]) -> Recordings:
        """These recordings alone, in this order."""
        labels = None if self.labels is None else self.labels[np.asarray(indices, dtype=np.int64)]
        return Recordings(len(indices), labels, self.name, lambda i: self.read(int(indices[i])))


def read_bits40(data: bytes, overflow: bool = False) -> Events:
    """Events of 40 bits each, big endian: x 8, y 8, polarity 1, microseconds 23.

    overflow: an event with y = 240 adds 2^13 microseconds to all that follow and is no event itself (the clock
    of the ATIS sensor that recorded N-MNIST and N-Caltech101). Raises ValueError when bytes are left over.
    Source: garrickorchard.com/datasets/n-mnist and its Matlab reader; SLAYER's read2Dspikes has the same layout.
    """
    if len(data) % 5:
        raise ValueError(f"{len(data)} bytes are no whole number of events of 5 bytes")
    raw = np.frombuffer(data, dtype=np.uint8).reshape(-1, 5)
    x, y, p = raw[:, 0].astype(np.uint16), raw[:, 1].astype(np.uint16), raw[:, 2] >> 7
    t_us = (raw[:, 2] & 127).astype(np.int64) << 16 | raw[:, 3].astype(np.int64) << 8 | raw[:, 4]
    if not overflow:
        return Events(x, y, p, t_us)
    marks = y == OVERFLOW_ROW
    t_us += OVERFLOW_US * np.cumsum(marks)
    return Events(x[~marks], y[~marks], p[~marks], t_us[~marks])


def read_recording(path: str | Path) -> Events:
    """One recording from a .bin (N-MNIST, N-Caltech101) or .bs2 (SLAYER) file. Raises `Refused`."""
    path = Path(path)
    if path.suffix not in (".bin", ".bs2"):
        raise refuse(f"'{path.suffix or path.name}' is no known event format", file=str(path),
                     fix="Known: .bin, .bs2, .npz, a folder of .bin or .bs2 files; others through tonic (from_tonic)")
    try:
        if path.stat().st_size > MAX_RECORDING:
            raise refuse(f"it holds {path.stat().st_size} bytes, at most {MAX_RECORDING} are read", file=str(path),
                         fix="Split the recording")
        data = path.read_bytes()
        if (pointer := pointer_of(data)) is not None:  # its text could be read as events
            raise refuse(f"is {pointer[0]}", file=str(path), fix=pointer[1])
        return read_bits40(data, overflow=path.suffix == ".bin")
    except ValueError as error:
        raise refuse(str(error), file=str(path), fix="The file is cut off: fetch it again") from error
    except OSError as error:
        raise refuse(f"it can not be read ({error.strerror})", file=str(path), fix="Check the path") from error


def load_events(source: str | Path, limit: int | None = None) -> Recordings:
    """Recordings of a .bin, .bs2 or flat .npz file, or of a folder; the first `limit` of them.

    Folder: subfolders named by digits hold the recordings of that class (as N-MNIST's Train and Test), or the
    files lie in the folder itself, without labels. The order is that of the file names, so that the first
    recordings are of all classes.
    Flat .npz: x, y, p, dt_us (events of all recordings in a row; dt_us since the previous event of the same
    recording, the first since 0), offsets (recordings + 1) and optionally labels (recordings).
    Raises `Refused`.
    """
    path = Path(source)
    if limit is not None and limit < 1:
        raise refuse(f"limit is {limit}", fix="Ask for at least one recording")
    if path.is_dir():
        return _folder(path, limit)
    if not path.is_file():
        raise refuse("there is no such file or folder", file=str(path), fix="Check the path")
    if path.suffix == ".npz":
        return _flat(path, limit)
    events = read_recording(path)
    return Recordings(1, None, path.name, lambda i: events)


def from_tonic(dataset: Sequence[tuple[Any, Any]], name: str = "tonic", limit: int | None = None) -> Recordings:
    """Recordings of a tonic dataset: pairs of a structured array (x, y, p, t in microseconds) and a class number.

    Needs nothing of tonic but the dataset. Its frames need the sensor's shape: tonic's sensor_size
    (width, height, 2) as (2, height, width).
    """
    count = len(dataset) if limit is None else min(limit, len(dataset))

    def read(i: int) -> Events:
        events = dataset[i][0]
        return Events(events["x"], events["y"], events["p"].astype(np.uint8), events["t"].astype(np.int64))

    # tonic datasets carry all labels as `targets`; without it every recording would be read twice
    targets = getattr(dataset, "targets", None)
    labels = np.asarray([dataset[i][1] for i in range(count)] if targets is None else targets[:count])
    return Recordings(count, labels.astype(np.int64), name, read)


def _folder(path: Path, limit: int | None) -> Recordings:
    found = [(f.name, -1, f) for f in path.iterdir() if f.suffix in (".bin", ".bs2")]
    classes = [d for d in path.iterdir() if d.name.isdecimal() and d.is_dir()]
    found += [(f.name, int(d.name), f) for d in classes for f in d.iterdir() if f.suffix in (".bin", ".bs2")]
    if not found:
        raise refuse("it holds no .bin or .bs2 recordings", file=str(path),
                     fix="Point to a folder of recordings, or of one subfolder per class named 0, 1, 2 ...")
    if len({label < 0 for _, label, _ in found}) == 2:
        raise refuse("recordings lie beside the subfolders of the classes", file=str(path),
                     fix="Move every recording into the subfolder of its class")
    found = sorted(found)[:limit]
    labels = None if found[0][1] < 0 else np.array([label for _, label, _ in found], dtype=np.int64)
    return Recordings(len(found), labels, path.name, lambda i: read_recording(found[i][2]))


def _flat(path: Path, limit: int | None) -> Recordings:
    names = ("x", "y", "p", "dt_us", "offsets")
    arrays = read_arrays(path, (*names, "labels"))
    missing = [name for name in names if name not in arrays]
    if missing:
        raise Refused(Problem(
            f"it holds no array '{name}'", fix=f"Store {', '.join(names)}, and labels if there are any", file=str(path)
        ) for name in missing)
    problems = [
        Problem(f"it holds {a.dtype} values of shape {a.shape}, expected a row of integers", f"array '{name}'",
                "Store the events of all recordings in a row", str(path))
        for name, a in arrays.items() if a.ndim != 1 or a.dtype.kind not in "biu"
    ]
    if problems:
        raise Refused(problems)
    x, y, p, dt_us, offsets = (arrays[name] for name in names)
    offsets = offsets.astype(np.int64)
    labels = arrays.get("labels")
    if len({len(x), len(y), len(p), len(dt_us)}) > 1:
        problems.append(Problem("x, y, p and dt_us have different lengths: "
                                f"{len(x)}, {len(y)}, {len(p)}, {len(dt_us)}", fix="Store one of each per event",
                                file=str(path)))
    if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != len(x) or (np.diff(offsets) < 0).any():
        problems.append(Problem(f"it must rise from 0 to the number of events, {len(x)}", "array 'offsets'",
                                "Store the first event of every recording, and the number of events at the end",
                                str(path)))
    if labels is not None and len(labels) != len(offsets) - 1:
        problems.append(Problem(f"it holds {len(labels)} labels for {len(offsets) - 1} recordings", "array 'labels'",
                                "Store one class number per recording", str(path)))
    if problems:
        raise Refused(problems)

    def read(i: int) -> Events:
        at = slice(offsets[i], offsets[i + 1])
        return Events(x[at], y[at], p[at], np.cumsum(dt_us[at].astype(np.int64)))

    count = len(offsets) - 1 if limit is None else min(limit, len(offsets) - 1)
    return Recordings(count, None if labels is None else labels[:count].astype(np.int64), path.name, read)
