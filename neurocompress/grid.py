"""The numbers a chip can hold: multiples of a step, from -m_max to m_max."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .network.nodes import Array


@dataclass(frozen=True, eq=False)
class Grid:
    """Weights step * m with integers |m| <= m_max; symmetric, so that a sign costs no accuracy.

    step: float64, broadcasts against a (rows, columns) weight matrix; rows are output neurons or channels.
    """

    step: Array
    m_max: int

    @staticmethod
    def levels(bits: int) -> int:
        """Largest m of a symmetric signed grid of `bits` bits: 127 at 8, 1 at 2 (ternary); 1 bit holds {-1, 0, 1}."""
        return max(1, (1 << (bits - 1)) - 1)

    def nearest(self, weight: Array) -> np.ndarray:
        """The integers m of the grid points nearest to `weight` (ties to even), int64."""
        m: np.ndarray = np.clip(np.rint(weight / self.step), -self.m_max, self.m_max).astype(np.int64)
        return m

    def value(self, m: np.ndarray) -> Array:
        return m * self.step
