"""The numbers a chip can hold: integers m times a step, the step shared by a row (channel) or by a layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from .nodes import Array

Levels = Literal["symmetric", "twos-complement", "pairs", "even"]
Scale = Literal["per-channel", "per-layer"]

LEVELS: tuple[str, ...] = get_args(Levels)
SCALES: tuple[str, ...] = get_args(Scale)


@dataclass(frozen=True, eq=False)
class Grid:
    """Weights step * m with integers m_min <= m <= m_max that are multiples of `stride`.

    Every field broadcasts against a (rows, columns) weight matrix, whose rows are output neurons or channels: limits
    and stride are arrays where layers of different bits lie side by side.
    """

    #: Weight units per integer, float64, not 0. A negative one mirrors an unsymmetric range.
    step: Array
    #: Largest integer.
    m_max: int | np.ndarray
    #: Smallest integer; -m_max when None.
    m_min: int | np.ndarray | None = None
    #: What all integers are multiples of.
    stride: int | np.ndarray = 1

    @staticmethod
    def levels(bits: int) -> int:
        """Largest m of a symmetric signed grid of `bits` bits: 127 at 8, 1 at 2 (ternary); 1 bit holds {-1, 0, 1}."""
        return max(1, (1 << (bits - 1)) - 1)

    @property
    def low(self) -> int | np.ndarray:
        return -self.m_max if self.m_min is None else self.m_min

    def nearest(self, weight: Array) -> np.ndarray:
        """The integers m of the grid points nearest to `weight` (ties to even), int64."""
        m = np.rint(weight / (self.step * self.stride)) * self.stride
        found: np.ndarray = np.clip(m, self.low, self.m_max).astype(np.int64)
        return found

    def value(self, m: np.ndarray) -> Array:
        return m * self.step

    def of_rows(self, rows: slice) -> Grid:
        """The grid of some rows only."""

        def part(a: Any) -> Any:
            return a[rows] if np.ndim(a) == 2 and len(a) > 1 else a

        return Grid(part(self.step), part(self.m_max), part(self.low), part(self.stride))


@dataclass(frozen=True)
class Scheme:
    """A kind of grid, before its steps are known."""

    #: Stored bits per weight, 2 to 16 (at 1 bit a symmetric grid is ternary).
    bits: int
    #: "symmetric": |m| <= 2^(bits-1) - 1 (ternary at 2 bits).
    #: "twos-complement": -2^(bits-1) <= m <= 2^(bits-1) - 1 (GPTQ's and the paper's grid).
    #: "pairs": |m| <= 2^bits - 1, an excitatory and an inhibitory unsigned weight for each input, one of them 0.
    #: "even": even |m| <= 2^bits - 2, the sign costs the lowest bit, where one connection mixes signs.
    levels: Levels = "symmetric"
    #: One step for each row ("per-channel"), or one for the layer ("per-layer").
    scale: Scale = "per-channel"
    #: Steps are powers of two (a shared exponent).
    power_of_two: bool = False

    @property
    def m_max(self) -> int:
        if self.levels == "pairs":
            return (1 << self.bits) - 1
        return (1 << self.bits) - 2 if self.levels == "even" else Grid.levels(self.bits)

    @property
    def m_min(self) -> int:
        return -self.m_max - 1 if self.levels == "twos-complement" else -self.m_max

    @property
    def stride(self) -> int:
        return 2 if self.levels == "even" else 1

    def grid(self, step: Array) -> Grid:
        return Grid(step, self.m_max, self.m_min, self.stride)

    def steps(self, end: Array) -> Array:
        """Steps with which the grid reaches to `end` > 0 (as far as to -end where the range is unsymmetric): float64.

        A two's complement grid spreads 2 end over its 2^bits - 1 intervals, as GPTQ's quantizer does. A power of two
        is the smallest that still reaches.
        """
        reach = (self.m_max - self.m_min) / 2
        step = np.asarray(end, dtype=np.float64) / reach
        if not self.power_of_two:
            return step
        found: Array = np.exp2(np.ceil(np.log2(step) - 1e-12))
        return found
