"""What one connection asks of the cores that its target population is cut into: counted, never built.

A cut is one tuple of boundaries for each axis of a population, first 0, last the size: ((0, 8, 16), (0, 34), (0, 34))
makes two pieces of 8 channels each. Pieces are numbered in row-major order of the cut's cells.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ...chip.profile.memory_formulas import Formula
from ...network.connections import Connection
from ...network.nodes import Shape

Ints = NDArray[np.int64]
Cut = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class Load:
    """Per piece, (pieces,) int64: axons that end in it, synapses that are not zero, bits of memory, bits of the
    longest list of one axon."""

    axons: Ints
    synapses: Ints
    memory: Ints
    longest: Ints


@dataclass(frozen=True)
class Format:
    """How synapses are stored: a formula of chip/profile/memory_formulas.py at a width; shared: a kernel's lists are
    stored once. neurons: at least so many must be told apart, for a core that other layers share."""

    formula: Formula
    bits: int
    delay_bits: int = 0
    shared: bool = True
    neurons: int = 1


class Fan(Protocol):
    """Counts of one connection. grid: the shape in which its targets may be cut.

    load: per piece (of every nth piece); axons: a lower bound per piece that costs nothing; heard: its axons exactly;
    reach: (sources,) pieces that each source has synapses in; touched: per piece, (sources,) whether it has;
    fan_in: (targets,) synapses that are not zero; sources: the most axons that end in one neuron; fan_out: (sources,);
    stored_weights: the fewest that must be stored, zeros left out.
    """

    @property
    def connection(self) -> Connection: ...
    @property
    def grid(self) -> Shape: ...
    def axons(self, cut: Cut) -> Ints: ...
    def heard(self, cut: Cut, every: int = 1) -> Ints: ...
    def load(self, cut: Cut, form: Format, every: int = 1) -> Load: ...
    def reach(self, cut: Cut) -> Ints: ...
    def touched(self, cut: Cut) -> Iterator[NDArray[np.bool_]]: ...
    def fan_in(self) -> Ints: ...
    def sources(self) -> int: ...
    def fan_out(self) -> Ints: ...
    def stored_weights(self) -> int: ...


def pieces(cut: Cut) -> Iterator[tuple[slice, ...]]:
    """The cells of a cut, one slice per axis, in row-major order."""
    yield from product(*([slice(a, b) for a, b in pairwise(axis)] for axis in cut))


def sizes(cut: Cut) -> Ints:
    """(pieces,) neurons in each piece."""
    total = np.ones(1, dtype=np.int64)
    for axis in cut:
        total = np.multiply.outer(total, np.diff(axis))
    return total.ravel()
