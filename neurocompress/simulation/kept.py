"""What nodes sent over all samples, held small: bits where it is spikes, on disk beyond a number of bytes."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..files.whole import unwritable

Indices = slice | NDArray[np.int64]


class Samples(Protocol):
    """A signal (samples, timesteps, *shape), of which some samples can be read."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, samples: Any) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class Chosen:
    """Some samples of a signal, in the order of their indices."""

    signal: Samples
    samples: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self.samples), *self.signal.shape[1:]

    def __getitem__(self, samples: slice) -> np.ndarray:
        return self.signal[self.samples[samples]]


class Room:
    """Bytes that signals may hold in memory; what comes after that goes to a file that nobody else sees.

    Raises `Refused` when the disk is full.
    """

    def __init__(self, memory: int):
        self.left = memory

    def hold(self, array: np.ndarray) -> np.ndarray:
        if array.nbytes <= self.left:
            self.left -= array.nbytes
            return array
        folder = Path(tempfile.gettempdir())
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(np.ascontiguousarray(array).data)
                file.flush()
                return np.memmap(file, array.dtype, "r", shape=array.shape)
        except OSError as error:
            raise unwritable(folder, error) from None

    def free(self, array: np.ndarray) -> None:
        if not isinstance(array, np.memmap):
            self.left += array.nbytes


class Kept:
    """One node's signal, float32 (samples, timesteps, *shape) to the reader.

    Each batch is held in the smallest form that gives the same numbers back: one bit for each 0 or 1, a byte for whole
    numbers up to 255, or float32.
    """

    def __init__(self, room: Room, steps: int, shape: tuple[int, ...]):
        self.room, self.steps, self.node_shape = room, steps, shape
        self._parts: list[np.ndarray] = []
        self._bits: list[bool] = []
        self._starts = [0]

    @property
    def shape(self) -> tuple[int, ...]:
        return self._starts[-1], self.steps, *self.node_shape

    def add(self, batch: np.ndarray) -> None:
        """The next samples, (n, timesteps, *shape)."""
        flat = batch.reshape(len(batch), -1)
        few = flat.astype(np.uint8)
        whole = np.array_equal(few, flat)
        bits = whole and bool((few <= 1).all())
        part = np.packbits(few, axis=1) if bits else few if whole else flat.astype(np.float32)
        self._parts.append(self.room.hold(part))
        self._bits.append(bits)
        self._starts.append(self._starts[-1] + len(batch))

    def __getitem__(self, samples: Indices) -> np.ndarray:
        if isinstance(samples, slice):
            samples = np.arange(*samples.indices(len(self)))
        size = int(np.prod(self.shape[1:]))
        found = np.empty((len(samples), size), dtype=np.float32)
        for part, bits, start, end in zip(self._parts, self._bits, self._starts, self._starts[1:], strict=False):
            here = np.flatnonzero((samples >= start) & (samples < end))
            if len(here):
                rows = part[samples[here] - start]
                found[here] = np.unpackbits(rows, axis=1, count=size) if bits else rows
        return found.reshape(len(samples), *self.shape[1:])

    def __len__(self) -> int:
        return self._starts[-1]

    def free(self) -> None:
        """Gives its room back."""
        for part in self._parts:
            self.room.free(part)
        self._parts.clear()
