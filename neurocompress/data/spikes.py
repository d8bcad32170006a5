"""Spikes to run a network on: FILE.npz with `spikes` (samples, timesteps, *input shape) and optionally `labels`.

Spikes are whole numbers, whatever type holds them. Networks that are given real values (a picture in every step) take
those instead: finite numbers of either sign.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import Problem, Refused, refuse
from ..shown import listed, times
from .arrays import MAX_BYTES, array_names, read_arrays, save_arrays
from .axes import assumed, misread

__all__ = ["MAX_COUNT", "SpikeData", "load_spikes", "poisson", "save_arrays"]

#: Largest spike count (or graded value) of one input in one step: what int16 holds.
MAX_COUNT = 2**15 - 1

#: Largest class label. More classes than this are a mistake in the file, not a classifier.
MAX_LABEL = 2**16 - 1


@dataclass(frozen=True, eq=False)
class SpikeData:
    """Input spikes and what they mean.

    spikes: (samples, timesteps, *input shape), uint8, int16 or float32, whole numbers from 0 to 32767: spikes per
        step (or graded values), or real values as float32; images are (channels, height, width). A static picture may
        be stored once and broadcast along the time steps.
    labels: (samples,) int64 classes, or None.
    name: where the spikes came from, for the report.
    """

    spikes: np.ndarray
    labels: np.ndarray | None
    name: str

    def __repr__(self) -> str:
        labels = "no labels" if self.labels is None else (
            f"labels {self.labels.min()} to {self.labels.max()}" if self.labels.size else "no samples")
        return listed(f"SpikeData {self.name}: {self.samples:,} samples of {self.steps} steps, input "
                      f"{times(self.input_shape)}, {self.spikes.dtype}, {labels}")

    @property
    def samples(self) -> int:
        return int(self.spikes.shape[0])

    @property
    def steps(self) -> int:
        return int(self.spikes.shape[1])

    @property
    def axes_assumed(self) -> tuple[str, ...]:
        """How the axes were read, a sentence where nothing tells; see `axes.assumed`."""
        return assumed(self.samples, self.steps, self.input_shape, self.labels is not None)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return tuple(int(n) for n in self.spikes.shape[2:])

    def first(self, samples: int) -> SpikeData:
        """The first `samples` samples (all, when there are fewer), without a copy."""
        labels = None if self.labels is None else self.labels[:samples]
        return SpikeData(self.spikes[:samples], labels, self.name)

    def chosen(self, which: np.ndarray) -> SpikeData:
        """The samples with these indices."""
        labels = None if self.labels is None else self.labels[which]
        return SpikeData(taken(self.spikes, which), labels, self.name)

    def repeated(self, steps: int | None) -> SpikeData:
        """Samples of one time step repeated to `steps`, without a copy; None leaves them as they are. Raises `Refused`
        for samples of another number of steps."""
        if steps is not None and (not isinstance(steps, int) or isinstance(steps, bool)):
            raise refuse(f"steps is {steps!r}", fix="Give a whole number of time steps")
        if steps is None or steps == self.steps:
            return self
        if steps < 1 or self.steps != 1:
            raise Refused(steps_problem(self.steps, steps, self.name))
        spikes = np.broadcast_to(self.spikes, (self.samples, steps, *self.input_shape))
        return SpikeData(spikes, self.labels, f"{self.name}, the same in each of {steps} steps")

    def save(self, path: str | Path) -> None:
        """Write FILE.npz, whole or not at all. Raises `Refused` when the folder can not be written."""
        arrays = {"spikes": self.spikes}
        if self.labels is not None:
            arrays["labels"] = self.labels
        save_arrays(path, arrays)


def load_spikes(
    path: str | Path,
    input_shape: tuple[int, ...] | None = None,
    need_labels: bool = False,
    max_bytes: int = MAX_BYTES,
    analog: bool = False,
    steps: int | None = None,
) -> SpikeData:
    """Read and check FILE.npz.

    input_shape: shape of the network's input; when given, spikes must be (samples, timesteps, *input_shape).
    analog: real values of either sign are welcome, as input currents; they are kept as float32.
    steps: time steps wanted; a file of one step holds static pictures, which are repeated without a copy.
    uint8, int16 and float32 spikes are kept as stored; other numeric types become uint8 or int16, exactly.
    Raises `Refused` with every problem found: file, keys, shapes, values, labels, size.
    """
    file = str(path)
    arrays = read_arrays(path, names=("spikes", "labels"), max_bytes=max_bytes)
    spikes, labels = arrays.get("spikes"), arrays.get("labels")
    if spikes is None:
        held = ", ".join(f"'{name[:40]}'" for name in array_names(path)[:8]) or "nothing"
        raise Refused([Problem(f"it holds no array 'spikes', but {held}", file=file, fix=(
            "Give the bundle's folder as the model, and spikes as --data" if Path(path).name == "integer.npz" else
            "Store (samples, timesteps, *input shape) as 'spikes', and class numbers as 'labels'"))])
    return checked(spikes, labels, input_shape, file, analog, need_labels).repeated(steps)


def checked(
    spikes: np.ndarray, labels: np.ndarray | None, input_shape: tuple[int, ...] | None, file: str,
    analog: bool = False, need_labels: bool = False,
) -> SpikeData:
    """Arrays as `SpikeData`, held against the same rules wherever they came from. file: what messages call them.

    The rest as `load_spikes`. Raises `Refused`.
    """
    problems: list[Problem] = []
    turned = False
    if spikes.dtype.kind not in "biuf":
        problems.append(Problem(f"it holds {spikes.dtype} values, expected numbers", "array 'spikes'",
                                "Give a plain numeric array", file))
    else:
        count = len(labels) if labels is not None and labels.ndim == 1 else None
        wrong = misread(spikes.shape, None if input_shape is None else tuple(input_shape), count)
        if wrong is not None:
            turned = wrong.turned
            problems.append(Problem(wrong.what, "array 'spikes'", wrong.fix, file))
        elif not spikes.size:
            problems.append(Problem(f"it is empty, shape {spikes.shape}", "array 'spikes'",
                                    "Store at least one sample of one step", file))
        if spikes.size:
            problems += _value_problems(spikes, file, analog)
    if labels is not None:
        samples = None if spikes.ndim == 0 or turned else len(spikes)
        problems += _label_problems(labels, samples, file)
    elif need_labels:
        problems.append(Problem(
            "it holds no array 'labels'", fix="Store one class number per sample as 'labels'", file=file))
    if problems:
        raise Refused(problems)
    return SpikeData(
        _stored(spikes), None if labels is None else labels.astype(np.int64), Path(file).name)


def steps_problem(found: int, steps: int, file: str) -> Problem:
    """The sentence where data of `found` time steps and the steps asked for contradict each other."""
    if steps < 1:
        return Problem(f"--steps is {steps}", fix="Give at least one step")
    return Problem(f"it holds {found} time steps, and --steps asks for {steps}; only a single step is repeated",
                   "array 'spikes'", "Leave --steps out, or store the picture once, with a time axis of 1", file)


def taken(spikes: np.ndarray, which: np.ndarray) -> np.ndarray:
    """The samples with these indices; what a broadcast repeats along the time steps stays one copy."""
    if spikes.ndim > 1 and spikes.shape[1] > 1 and spikes.strides[1] == 0:
        return np.broadcast_to(spikes[which, :1], (len(which), *spikes.shape[1:]))
    return np.asarray(spikes[which])


def fractions(spikes: np.ndarray) -> int:
    """How many values are no whole numbers; counted sample by sample, so that memory stays small."""
    if spikes.dtype.kind != "f":
        return 0
    if spikes.ndim > 1 and spikes.shape[1] > 1 and spikes.strides[1] == 0:
        return fractions(spikes[:, :1]) * int(spikes.shape[1])
    return sum(int(np.count_nonzero(sample != np.rint(sample))) for sample in spikes)


def drawn(samples: int, count: int, seed: int) -> np.ndarray:
    """Which `count` of `samples` samples calibrate, drawn without repetition, in order; all when there are fewer."""
    return np.sort(np.random.default_rng(seed).permutation(samples)[:count])


def poisson(shape: tuple[int, ...], samples: int, steps: int, rate: float, seed: int) -> SpikeData:
    """Synthetic spikes for calibration without data: (samples, steps, *shape) uint8, no labels.

    Every input fires in every step with probability `rate` (0 to 1), independently: a Poisson process
    seen through time steps that hold at most one spike. The same seed gives the same spikes.
    """
    if not 0 <= rate <= 1:
        raise refuse(f"rate is {rate}", fix="Give the probability of a spike per input and step, from 0 to 1")
    if samples < 1 or steps < 1:
        raise refuse(f"{samples} samples of {steps} steps", fix="Ask for at least one sample and one step")
    rng = np.random.default_rng(seed)
    spikes = np.empty((samples, steps, *shape), dtype=np.uint8)
    for sample in spikes:  # one at a time: the random numbers take 4 bytes for each byte of spikes
        sample[...] = rng.random(sample.shape, dtype=np.float32) < rate
    return SpikeData(spikes, None, f"synthetic Poisson spikes, {rate:g} per input and step, seed {seed}")


def _value_problems(spikes: np.ndarray, file: str, analog: bool) -> list[Problem]:
    """Sentences about values that are no spikes."""
    if spikes.dtype in (np.bool_, np.uint8):
        return []
    where = "array 'spikes'"
    nan = negative = fraction = large = 0
    for part in _parts(spikes):
        if spikes.dtype.kind == "f":
            finite = np.isfinite(part)
            nan += part.size - int(np.count_nonzero(finite))
            part = part[finite]
            fraction += 0 if analog else int(np.count_nonzero(part != np.rint(part)))
        negative += 0 if analog else int(np.count_nonzero(part < 0))
        large += int(np.count_nonzero(part > MAX_COUNT)) + (int(np.count_nonzero(part < -MAX_COUNT)) if analog else 0)
    found = (
        (nan, "NaN or infinite values", "Store 0 where there is no spike"),
        (negative, "negative values", "Give positive and negative events a channel each"),
        (fraction, "values that are no whole numbers", "Encode the values as spikes: whole numbers per step"),
        (large, f"values above {MAX_COUNT}" + " in size" * analog,
         "Use shorter time steps, or scale graded values down"),
    )
    return [Problem(f"it holds {count} {what}", where, fix, file) for count, what, fix in found if count]


def _parts(values: np.ndarray) -> Iterator[np.ndarray]:
    """All values, a million at a time, in any order: what is computed of them then takes little memory."""
    return iter(np.nditer(values, ["external_loop", "buffered", "zerosize_ok"], order="K", buffersize=2**20))


def _label_problems(labels: np.ndarray, samples: int | None, file: str) -> list[Problem]:
    where = "array 'labels'"
    if labels.ndim != 1:
        return [Problem(f"it has shape {labels.shape}, expected (samples,)", where,
                        "Store one class number per sample (one-hot labels: take the argmax)", file)]
    problems = []
    if samples is not None and len(labels) != samples:
        problems.append(Problem(f"it holds {len(labels)} labels for {samples} samples", where,
                                "Store one label per sample", file))
    if labels.dtype.kind not in "iu":
        problems.append(Problem(f"it holds {labels.dtype} values, expected integers", where,
                                "Store class numbers as integers", file))
    elif labels.size and (int(labels.min()) < 0 or int(labels.max()) > MAX_LABEL):
        problems.append(Problem(f"labels run from {labels.min()} to {labels.max()}, expected 0 to {MAX_LABEL}", where,
                                "Number the classes from 0", file))
    return problems


def _stored(spikes: np.ndarray) -> np.ndarray:
    """uint8, int16 or float32 in native byte order and C order; values are known to be in range. What a broadcast
    repeats along the time steps stays one copy."""
    if spikes.ndim > 2 and spikes.shape[1] > 1 and spikes.strides[1] == 0:
        return np.broadcast_to(_stored(spikes[:, :1]), spikes.shape)
    native = spikes.dtype.newbyteorder("=")
    if spikes.dtype.kind == "f" and any(np.any(part != np.rint(part)) for part in _parts(spikes)):
        native = np.dtype(np.float32)
    elif native not in (np.uint8, np.int16, np.float32):
        small = spikes.dtype == np.bool_ or (spikes.min() >= 0 and spikes.max() < 256)
        native = np.dtype(np.uint8 if small else np.int16)
    return np.ascontiguousarray(spikes, dtype=native)


def refuse_labels(data: SpikeData, outputs: int) -> None:
    """Raises `Refused` where labels name classes that a network of so many outputs does not have."""
    if data.labels is None or not data.labels.size:
        return
    low, high = int(data.labels.min()), int(data.labels.max())
    if low < 0 or high >= outputs:
        raise refuse(f"its labels go from {low} to {high}, and the network has {outputs} outputs, which are "
                     f"classes 0 to {outputs - 1}", file=data.name,
                     fix="Give labels that count from 0, or the model that was trained for these classes")
