"""The coarsest cut of one population into pieces that a core can hold.

A population is cut along the axes of its shape into boxes of nearly equal size. What no cut can relieve (the fan-in
of a single neuron, say) does not make it finer: the rules report it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from ...chip.profile.schema import Profile
from ...network.connections import Connection
from ...network.nodes import Shape
from .counts_of_kernel import DENSE, KernelFan
from .counts_of_matrix import MatrixFan
from .counts_of_sparse_kernel import ThinFan
from .synapse_counts import Cut, Fan, Format, Ints, sizes

SAMPLE = 16  # of many pieces every 16th is counted first: most cuts that do not fit show it there
MOST_SYNAPSES = 1 << 26  # of a convolution that is counted as a matrix
SLACK = 64  # a search over many pieces stops within 1/64 of the fewest


@dataclass(frozen=True)
class Incoming:
    """One connection into a layer: its counter, and how its weights are stored."""

    fan: Fan
    form: Format

    @property
    def connection(self) -> Connection:
        return self.fan.connection


@dataclass(frozen=True)
class Limits:
    """What one piece may take; None where the chip has no such limit or it is unknown."""

    compartments: int | None
    memory: int | None
    longest: int | None
    axons_in: int | None
    axons_out: int | None
    delay_slots: int | None

    @staticmethod
    def of(profile: Profile) -> Limits:
        core = profile.core
        known = profile.memory.formula.value is not None
        return Limits(
            core.neurons.value, core.memory_bits if known else None,
            core.memory_per_axon.bits if core.memory_per_axon else None,
            *(entry.value if entry else None for entry in (core.axons_in, core.axons_out, core.delay_slots)),
        )


@cache
def even(size: int, parts: int) -> tuple[int, ...]:
    """Boundaries of `parts` ranges of nearly equal size: (0, ..., size)."""
    return tuple(round(i * size / parts) for i in range(parts + 1))


class Cutter:
    """Searches the coarsest cut of one population whose pieces keep every limit that a cut can keep."""

    def __init__(self, shape: Shape, incoming: tuple[Incoming, ...], per_neuron: int, neuron_bits: int,
                 delay_bits: int, limits: Limits):
        kernels = [i.fan.grid for i in incoming if isinstance(i.fan, KernelFan)]
        self.grid: Shape = kernels[0] if kernels else grid_of(shape)
        self.incoming = tuple(replace(i, fan=recast(i.fan, self.grid)) for i in incoming)
        self.per_neuron, self.neuron_bits, self.delay_bits = per_neuron, neuron_bits, delay_bits
        self.fan_in = int(sum((i.fan.fan_in() for i in self.incoming), np.zeros(1, dtype=np.int64)).max())
        self.sources = sum(i.fan.sources() for i in self.incoming)
        self.axons_out = limits.axons_out
        #: What `best` depends on beside its arguments.
        self.key = (self.grid, *((id(i.fan), i.form) for i in incoming), per_neuron, neuron_bits, delay_bits, limits)
        self.limits = self._reachable(limits)

    def _reachable(self, limits: Limits) -> Limits:
        """The limits that pieces of a single neuron keep; cutting on for the others would help nobody."""
        alone = max((int(min(f.max() for f in i.form.formula(1, 1, 1, 1, i.form.bits, i.form.delay_bits)))
                     for i in self.incoming), default=0)
        takes = {"compartments": self.per_neuron, "memory": self.sources * alone + self.neuron_bits, "longest": alone,
                 "axons_in": self.sources, "delay_slots": self.per_neuron << self.delay_bits}
        beyond: dict[str, None] = {
            name: None for name, least in takes.items()
            if getattr(limits, name) is not None and getattr(limits, name) < least
        }
        return replace(limits, **beyond)

    def loads(self, cut: Cut, leaving: Ints | None, told_apart: int = 1) -> dict[str, Ints]:
        """Every resource of every piece. leaving: (neurons,) out entries of each neuron, when known. told_apart: at
        least so many neurons of a core have numbers."""
        return {**self._neurons(cut, leaving), **self._synapses(cut, told_apart=told_apart)}

    def _neurons(self, cut: Cut, leaving: Ints | None) -> dict[str, Ints]:
        neurons = sizes(cut)
        compartments = neurons * self.per_neuron
        return {
            "neurons": neurons, "compartments": compartments, "delay_slots": compartments << self.delay_bits,
            "axons_out": np.zeros_like(neurons) if leaving is None else per_piece(leaving, self.grid, cut),
        }

    def _synapses(self, cut: Cut, every: int = 1, told_apart: int = 1) -> dict[str, Ints]:
        neurons = sizes(cut)[::every]
        found = [i.fan.load(cut, replace(i.form, neurons=told_apart), every) for i in self.incoming]
        zero = np.zeros_like(neurons)
        return {
            "axons_in": sum((f.axons for f in found), zero), "synapses": sum((f.synapses for f in found), zero),
            "memory": sum((f.memory for f in found), zero) + neurons * self.neuron_bits,
            "longest": np.max([f.longest for f in found], axis=0) if found else zero,
        }

    def excess(self, cut: Cut, leaving: Ints | None) -> float:
        """How many times over the worst piece is (1 or less: fits); of a cut that does not fit, a lower bound."""
        over = self._excess_but_memory(cut, leaving)
        if self.limits.memory is None and self.limits.longest is None:  # then axons alone are to be counted
            for every in (SAMPLE, 1) if sizes(cut).size >= 4 * SAMPLE else (1,):
                if over <= 1 and self.limits.axons_in is not None:
                    heard = np.sum([i.fan.heard(cut, every) for i in self.incoming], axis=0, dtype=np.int64)
                    over = max(over, self._worst({"axons_in": np.atleast_1d(heard)}))
            return over
        if over <= 1 and sizes(cut).size >= 4 * SAMPLE:
            over = max(over, self._worst(self._synapses(cut, SAMPLE)))
        return over if over > 1 else max(over, self._worst(self._synapses(cut)))

    def _excess_but_memory(self, cut: Cut, leaving: Ints | None) -> float:
        axons = sum((i.fan.axons(cut) for i in self.incoming), np.zeros(1, dtype=np.int64))
        return self._worst({**self._neurons(cut, leaving), "axons_in": axons})

    def _worst(self, found: dict[str, Ints]) -> float:
        limits = ((int(amounts.max(initial=0)), getattr(self.limits, name, None)) for name, amounts in found.items())
        return max((_share(most, limit) for most, limit in limits if limit is not None), default=0.0)

    def best(self, leaving: Ints | None, enough: float = math.inf, alike: Cut | None = None) -> Cut:
        """The cheapest cut: cores, and the share of a core that the axons into them take from the layers before.

        leaving: as in `loads`. enough: where more pieces are needed than this, any cut into more will do. alike: of a
        population that takes the same sources and places, taken where it fits. Ties go to the fewest tiles.
        """
        if alike is not None and sizes(alike).size <= enough and self.excess(alike, leaving) <= 1:
            return alike
        if leaving is not None and self.limits.axons_out is not None and leaving.max(initial=0) > self.limits.axons_out:
            leaving = None  # one neuron alone has too many: a rule reports it
        best: tuple[float, Cut] | None = None
        for tiles in _tilings(self.grid):
            rest = tuple(even(n, t) for n, t in zip(self.grid[1:], tiles, strict=True))
            most = math.ceil(best[0] / math.prod(tiles)) - 1 if best else min(self.grid[0], enough // math.prod(tiles))
            parts = self._search(rest, self._fewest(rest), leaving, int(most))
            if parts is not None:
                cut = (even(self.grid[0], parts), *rest)
                cost = self._cost(cut)
                if best is None or cost < best[0]:
                    best = cost, cut
        return best[1] if best is not None else tuple(tuple(range(n + 1)) for n in self.grid)

    def _cost(self, cut: Cut) -> float:
        axons = sum(int(i.fan.axons(cut).sum()) for i in self.incoming)
        return sizes(cut).size + (axons / self.axons_out if self.axons_out else 0.0)

    def _fewest(self, rest: Cut) -> int:
        """The least parts of the first axis that the neurons of a piece allow."""
        area = math.prod(int(np.diff(axis).max()) for axis in rest) * self.per_neuron
        caps = [self.limits.compartments, self.limits.delay_slots and self.limits.delay_slots >> self.delay_bits]
        each = [cap // area for cap in caps if cap]  # channels to a piece
        return max((math.ceil(self.grid[0] / n) if n else self.grid[0] + 1 for n in each), default=1)

    def _search(self, rest: Cut, low: int, leaving: Ints | None, most: int) -> int | None:
        """Fewest parts of the first axis that fit, not above `most`; None when none does."""
        top = min(self.grid[0], most)
        if low > top:
            return None
        finest = (even(self.grid[0], top), *rest)
        if (self.excess if top < self.grid[0] else self._excess_but_memory)(finest, leaving) > 1:
            return None
        tried, high = low - 1, low
        while (over := self.excess((even(self.grid[0], high), *rest), leaving)) > 1:
            if high == top:
                return None
            tried, high = high, min(top, math.ceil(high * min(max(over, 1.25), 4.0)))
        while high - tried > 1 + high // SLACK:
            middle = (tried + high) // 2
            if self.excess((even(self.grid[0], middle), *rest), leaving) <= 1:
                high = middle
            else:
                tried = middle
        return high


def fan(connection: Connection, shared: bool = True) -> Fan:
    """The counter for a connection. shared: kernels are stored once, zeros or not; where each synapse is stored for
    itself, a kernel with many zeros is counted as the matrix it stands for (if that is not too large)."""
    kernel = connection.kernel
    if kernel is None:
        return MatrixFan(connection, grid_of(connection.target_shape))
    found = KernelFan(connection, kernel)
    thin = not shared and np.count_nonzero(found.weight) < DENSE * found.weight.size
    if thin and int(found.fan_out().sum()) <= MOST_SYNAPSES:
        if kernel.groups == 1 and found.grid == grid_of(connection.target_shape):
            return ThinFan(connection, kernel, channels=slice(None))
        return MatrixFan(connection, grid_of(connection.target_shape))
    return found


def grid_of(shape: Shape) -> Shape:
    """The axes along which a population without a kernel is cut: those of an image, or one."""
    return shape if len(shape) == 3 else (int(np.prod(shape)),)


def recast(found: Fan, grid: Shape) -> Fan:
    """The same connection, cut along another grid; a convolution of another shape becomes its matrix."""
    return found if found.grid == grid else MatrixFan(found.connection, grid)


def _share(used: int, limit: int) -> float:
    return used / limit if limit else (math.inf if used else 0.0)


def _tilings(grid: Shape) -> Iterator[tuple[int, ...]]:
    """Numbers of tiles along the axes behind the first, few tiles first; tiles at most twice as long as wide."""
    if len(grid) == 1:
        yield ()
        return
    h, w = grid[1:]

    def steps(n: int) -> list[int]:
        return sorted({math.ceil(n / 2**k) for k in range(n.bit_length() + 1)})

    found = [
        (a, b) for a in steps(h) for b in steps(w)
        if 1 in (h, w) or (a, b) == (1, 1) or max(h / a, w / b) <= 2 * min(h / a, w / b) + 1
    ]
    yield from sorted(found, key=lambda ab: (ab[0] * ab[1], ab))


def per_piece(values: Ints, grid: Shape, cut: Cut) -> Ints:
    """(pieces,) sums of one value per neuron."""
    total = values.reshape(grid)
    for axis, bounds in enumerate(cut):
        total = np.add.reduceat(total, np.asarray(bounds[:-1]), axis=axis)
    return total.ravel()
