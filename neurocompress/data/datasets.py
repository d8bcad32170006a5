"""Event datasets as their authors published them: N-MNIST, CIFAR10-DVS, DVS128-Gesture, ASL-DVS.

Each function gives the training or the test recordings of a folder, with labels; frames come from `events_to_spikes`
with the sensor's shape below. Orientation, time ranges and class numbers are SpikingJelly's. `tonic_recordings` gives
tonic's versions of the same datasets. Where the files come from: docs/datasets.md.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import Problem, Refused, refuse
from .aedat import read_aedat2, read_aedat3
from .events import MAX_RECORDING, Events, Recordings, from_tonic, load_events

#: (channels, height, width) of each sensor; NMNIST is in frames.py.
CIFAR10_DVS, DVS128_GESTURE, ASL_DVS = (2, 128, 128), (2, 128, 128), (2, 180, 240)

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

#: The letters signed in ASL-DVS: j and z are movements.
ASL_CLASSES = tuple("abcdefghiklmnopqrstuvwxy")

#: Of the datasets without a split of their own: the share of each class that is for training.
CIFAR10_DVS_TRAIN, ASL_DVS_TRAIN = 0.9, 0.8


def nmnist(folder: str | Path, train: bool) -> Recordings:
    """N-MNIST: subfolder Train or Test with one folder of .bin files per digit. Raises `Refused`."""
    part = Path(folder) / ("Train" if train else "Test")
    if not part.is_dir():
        raise refuse(f"it holds no folder '{part.name}'", file=str(folder),
                     fix="Point to the folder with N-MNIST's Train and Test, both unpacked")
    return load_events(part)


def cifar10_dvs(folder: str | Path, train: bool) -> Recordings:
    """CIFAR10-DVS: one folder of .aedat files (AEDAT 2.0) per class, airplane to truck.

    It has no split of its own: the first 90 % of the files of each class, in the order of their names, are for
    training, as in SpikingJelly. Raises `Refused`.
    """
    found = _class_files(Path(folder), CIFAR10_CLASSES, ".aedat", "CIFAR10-DVS")
    chosen = _interleaved(
        [files[: _first(files, CIFAR10_DVS_TRAIN)] if train else files[_first(files, CIFAR10_DVS_TRAIN) :]
         for files in found])
    return _files(chosen, f"CIFAR10-DVS {_part(train)}", lambda file: _from_start(read_aedat2(file)))


def asl_dvs(folder: str | Path, train: bool) -> Recordings:
    """ASL-DVS: one folder of .mat files (ts, x, y, pol) per letter.

    It has no split of its own: 80 % of the files of each class, drawn once with seed 0, are for training, so that
    every subject is in both. Raises `Refused`.
    """
    found = _class_files(Path(folder), ASL_CLASSES, ".mat", "ASL-DVS")
    rng = np.random.default_rng(0)
    shuffled = [[files[i] for i in rng.permutation(len(files))] for files in found]
    chosen = _interleaved(
        [files[: _first(files, ASL_DVS_TRAIN)] if train else files[_first(files, ASL_DVS_TRAIN) :]
         for files in shuffled])
    return _files(chosen, f"ASL-DVS {_part(train)}", read_asl)


class Gesture(NamedTuple):
    """One gesture of a DVS128-Gesture recording: microseconds of the recording's clock, the end not included."""

    file: Path
    label: int
    start_us: int
    end_us: int


def dvs128_gesture(folder: str | Path, train: bool) -> Recordings:
    """DVS128-Gesture: trials_to_train.txt and trials_to_test.txt name .aedat files (AEDAT 3.1); beside each lies
    NAME_labels.csv with class (1 to 11), first and last microsecond of every gesture. Labels are from 0.

    Raises `Refused`; each recording is read when one of its gestures is, and the last one is kept.
    """
    root = next((d for d in (Path(folder), Path(folder) / "DvsGesture") if (d / "trials_to_train.txt").is_file()), None)
    if root is None:
        raise refuse("it holds no trials_to_train.txt", file=str(folder),
                     fix="Point to the folder DvsGesture of the unpacked DvsGesture.tar.gz")
    trials = root / f"trials_to_{_part(train)}.txt"
    names = [line.strip() for line in _text(trials) if line.strip()]
    gestures: list[Gesture] = []
    problems: list[Problem] = []
    for name in names:
        try:
            gestures += _gestures(root / Path(name).name)
        except Refused as refused:
            problems += refused.problems
    if not (gestures or problems):
        problems.append(Problem("it names no recordings", fix="Unpack the dataset again", file=str(trials)))
    if problems:
        raise Refused(problems)
    recording = lru_cache(maxsize=1)(read_aedat3)

    def read(i: int) -> Events:
        file, _, start, end = gestures[i]
        events = recording(file)
        at = (events.t_us >= start) & (events.t_us < end)
        return Events(events.x[at], events.y[at], events.p[at], events.t_us[at] - start)

    labels = np.array([g.label for g in gestures], dtype=np.int64)
    return Recordings(len(gestures), labels, f"DVS128-Gesture {_part(train)}", read)


def tonic_recordings(dataset: str, folder: str | Path, train: bool | None = None) -> Recordings:
    """A dataset of tonic by its class name ("NMNIST", "CIFAR10DVS", "DVSGesture", "ASLDVS"), fetched into `folder`
    when it is not there. train: for those that have a split of their own; None for the others.

    Needs `pip install neurocompress[tonic]`, and CIFAR10DVS the package `aedat`. Raises `Refused`.
    """
    try:
        from tonic import datasets
    except ImportError as error:
        raise refuse(f"tonic can not be imported ({error})", fix="Install it: pip install 'neurocompress[tonic]'"
                     ) from error
    kind = getattr(datasets, dataset, None)
    if not isinstance(kind, type):
        raise refuse(f"tonic has no dataset '{dataset}'", fix="Known here: NMNIST, CIFAR10DVS, DVSGesture, ASLDVS")
    options = {} if train is None else {"train": train}
    return from_tonic(kind(save_to=str(folder), **options), f"tonic {dataset}")


def downsized(recordings: Recordings, factor: int) -> Recordings:
    """Each square of factor x factor pixels becomes one pixel that has all its events."""
    def read(i: int) -> Events:
        events = recordings.read(i)
        return Events(events.x // factor, events.y // factor, events.p, events.t_us)

    return Recordings(recordings.count, recordings.labels, f"{recordings.name}, 1/{factor} size", read)


def read_asl(path: str | Path) -> Events:
    """One ASL-DVS recording: a MATLAB 5 file with ts, x, y, pol, counted from the lower right; upright as in
    SpikingJelly. Raises `Refused` for files without these, of other sizes, or damaged."""
    from scipy.io import loadmat, whosmat
    from scipy.io.matlab import MatReadError

    file, names = str(path), ("ts", "x", "y", "pol")
    broken = (MatReadError, zlib.error, ValueError, TypeError, KeyError, IndexError, EOFError, OSError,
              NotImplementedError, OverflowError)
    try:
        shapes = {name: shape for name, shape, _ in whosmat(file)}
        if any(np.prod(shapes[name], dtype=float) * 8 > MAX_RECORDING for name in names if name in shapes):
            raise refuse(f"its arrays have shapes {shapes}, at most {MAX_RECORDING // 8} events are read", file=file,
                         fix="Split the recording")
        arrays = {name: a for name, a in loadmat(file, variable_names=list(names)).items() if name in names}
    except broken as error:
        raise refuse(f"it can not be read as a MATLAB 5 file ({error})", file=file,
                     fix="Fetch the recording again") from error
    missing = [name for name in names if name not in arrays]
    if missing:
        raise refuse(f"it holds no array {', '.join(missing)}", file=file,
                     fix="Give an ASL-DVS recording: ts, x, y, pol")
    rows = [np.asarray(arrays[name]).reshape(-1) for name in names]
    if len({len(row) for row in rows}) > 1 or any(row.dtype.kind not in "biuf" for row in rows):
        raise refuse("ts, x, y and pol are no rows of numbers of one length", file=file,
                     fix="Fetch the recording again")
    t_us, x, y, p = (row.astype(np.int64) for row in rows)
    _, height, width = ASL_DVS
    return _from_start(Events(width - 1 - x, height - 1 - y, p, t_us))


def _from_start(events: Events) -> Events:
    start = events.t_us.min() if len(events.t_us) else 0
    return Events(events.x, events.y, events.p, events.t_us - start)


def _part(train: bool) -> str:
    return "train" if train else "test"


def _first(files: Sequence[Path], share: float) -> int:
    """How many files are the first share, rounded up as SpikingJelly does."""
    return int(np.ceil(len(files) * share - 1e-9))


def _class_files(folder: Path, classes: Sequence[str], suffix: str, name: str) -> list[list[Path]]:
    """Files of each class by name. Raises `Refused` for all classes that are not there."""
    found = [sorted((folder / c).glob(f"*{suffix}")) for c in classes]
    missing = [c for c, files in zip(classes, found, strict=True) if not files]
    if missing:
        raise refuse(f"it holds no {suffix} files of {', '.join(missing)}", file=str(folder),
                     fix=f"Point to the folder with {name}'s {len(classes)} folders, {classes[0]} to {classes[-1]}, "
                     "all unpacked")
    return found


def _interleaved(classes: Sequence[Sequence[Path]]) -> list[tuple[Path, int]]:
    """One file of each class in turn, so that the first recordings are of all classes."""
    return [(files[i], label) for i in range(max(map(len, classes)))
            for label, files in enumerate(classes) if i < len(files)]


def _files(chosen: Sequence[tuple[Path, int]], name: str, read: Callable[[Path], Events]) -> Recordings:
    labels = np.array([label for _, label in chosen], dtype=np.int64)
    return Recordings(len(chosen), labels, name, lambda i: read(chosen[i][0]))


def _text(path: Path) -> list[str]:
    try:
        if path.stat().st_size > 2**20:
            raise refuse("it is larger than 1 MiB", file=str(path), fix="Unpack the dataset again")
        return path.read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise refuse("it is no text", file=str(path), fix="Unpack the dataset again") from error
    except OSError as error:
        raise refuse(f"it can not be read ({error.strerror})", file=str(path),
                     fix="Unpack the dataset again") from error


def _gestures(recording: Path) -> list[Gesture]:
    if not recording.is_file():
        raise refuse("there is no such file", file=str(recording), fix="Unpack the dataset again")
    labels = recording.with_name(f"{recording.stem}_labels.csv")
    problems, gestures = [], []
    for number, line in enumerate(_text(labels)[1:], 2):
        row = [cell.strip() for cell in line.split(",")]
        if len(row) == 3 and all(cell.isdecimal() and len(cell) < 16 for cell in row) and 1 <= int(row[0]) <= 11:
            gestures.append(Gesture(recording, int(row[0]) - 1, int(row[1]), int(row[2])))
        elif line.strip():
            problems.append(Problem(f"it says {line[:60]!r}", f"line {number}",
                                    "Expected class (1 to 11), first and last microsecond", str(labels)))
    if problems:
        raise Refused(problems)
    return gestures
