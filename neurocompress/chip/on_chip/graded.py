"""Real values as the whole numbers of graded spikes: one step for all of them, and the ends of the message."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Shares of the largest value that the end of the message may stand for; the one of least squared error is taken.
ENDS = np.linspace(1.0, 0.3, 71)
#: Values that choose the step, at most: every k-th of more.
MOST_VALUES = 2**20


@dataclass(frozen=True)
class Graded:
    """A value x is sent as rint(x / scale), clipped to low..high.

    bits: of one message, its sign included. low: 0 where no value that chose the scale was negative.
    """

    scale: float
    low: int
    high: int
    bits: int

    def __post_init__(self) -> None:
        """ValueError where these are no step and no ends of a message, as in a file that was tampered with."""
        whole = all(type(n) is int and abs(n) < 2**31 for n in (self.low, self.high, self.bits))
        if not whole or not self.low <= 0 < self.high or not 0 < float(self.scale) < np.inf:
            raise ValueError(f"graded input {self.scale!r}, {self.low!r} to {self.high!r}")

    @property
    def message_bits(self) -> int:
        """Bits of the magnitude."""
        return max(abs(self.low), self.high).bit_length()

    def sent(self, values: np.ndarray) -> np.ndarray:
        """Whole numbers in the shape of `values`, in the smallest of uint8, int16 and int32 that holds low..high. What
        a broadcast repeats along time is rounded once, and repeated in the same way."""
        if values.ndim > 1 and values.shape[1] > 1 and values.strides[1] == 0:
            return np.broadcast_to(self.sent(values[:, :1]), values.shape)
        kind = np.uint8 if self.low == 0 and self.high < 256 else np.int16 if self.high < 2**15 else np.int32
        found = np.empty(values.shape, dtype=kind)
        for whole, real in zip(found, values, strict=True):  # a sample at a time: float64 takes eight bytes a value
            whole[...] = np.clip(np.rint(np.asarray(real, dtype=np.float64) / self.scale), self.low, self.high)
        return found

    def clipped(self, values: np.ndarray) -> int:
        """How many values lie beyond the ends of the message (by more than half a step)."""
        if values.ndim > 1 and values.shape[1] > 1 and values.strides[1] == 0:
            return self.clipped(values[:, :1]) * int(values.shape[1])
        total = 0
        for real in values:
            whole = np.rint(np.asarray(real, dtype=np.float64) / self.scale)
            total += int(np.count_nonzero((whole < self.low) | (whole > self.high)))
        return total

    def rms_error(self, values: np.ndarray) -> float:
        """Root of the mean squared difference between the values and what is sent, in the values' units."""
        flat = some(values)
        return float(np.sqrt(np.mean((_rounded(flat, self.scale, self.low, self.high) - flat) ** 2)))

    @staticmethod
    def rms(values: np.ndarray) -> float:
        """Root mean square of the values."""
        return float(np.sqrt(np.mean(some(values) ** 2)))


def graded_for(values: np.ndarray, bits: int) -> Graded:
    """The step of least squared error for these values (samples, timesteps, ...) in messages of `bits` bits.

    Negative values cost one bit for the sign. Whole numbers that fit are sent as they are.
    """
    flat = some(values)
    signed = float(values.min(initial=0)) < 0
    high = 2 ** (bits - signed) - 1
    low = -high if signed else 0
    largest = max(abs(float(values.min(initial=0))), float(values.max(initial=0)))
    if largest == 0 or (largest <= high and np.array_equal(flat, np.rint(flat))):
        return Graded(1.0, low, high, bits)
    steps = largest * ENDS / high
    errors = [float(np.mean((_rounded(flat, step, low, high) - flat) ** 2)) for step in steps]
    return Graded(float(steps[int(np.argmin(errors))]), low, high, bits)


def some(values: np.ndarray) -> np.ndarray:
    """At most about MOST_VALUES of the values, evenly spread, flat float64; one step where time repeats them."""
    if values.ndim > 1 and values.shape[1] > 1 and values.strides[1] == 0:
        values = values[:, :1]
    flat = values.reshape(-1)
    return np.asarray(flat[:: -(-flat.size // MOST_VALUES) or 1], dtype=np.float64)


def _rounded(values: np.ndarray, scale: float, low: int, high: int) -> np.ndarray:
    return np.asarray(np.clip(np.rint(values / scale), low, high) * scale)
