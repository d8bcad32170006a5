"""The coarsest cut of one population into pieces that a core can hold.

A population is cut along the axes of its shape into boxes of nearly equal size. What no cut can relieve (the fan-in
of a single neuron, say) does not make it finer: the rules report it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..network.connections import Connection
from ..network.nodes import Shape
from .fan import Cut, Fan, Format, Ints, KernelFan, recast, sizes
from .schema import Profile


@dataclass(frozen=True)
class Incoming:
    """One connection into a layer: its counter, and how its weights are stored."""

    connection: Connection
    fan: Fan
    form: Format


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
        return Limits(
            core.neurons.value, core.memory_bits, core.memory_per_axon.bits if core.memory_per_axon else None,
            *(entry.value if entry else None for entry in (core.axons_in, core.axons_out, core.delay_slots)),
        )


def even(size: int, parts: int) -> tuple[int, ...]:
    """Boundaries of `parts` ranges of nearly equal size: (0, ..., size)."""
    return tuple(round(i * size / parts) for i in range(parts + 1))


class Cutter:
    """Searches the coarsest cut of one population whose pieces keep every limit that a cut can keep."""

    def __init__(self, shape: Shape, incoming: tuple[Incoming, ...], per_neuron: int, neuron_bits: int,
                 delay_bits: int, limits: Limits):
        kernels = [i.fan.grid for i in incoming if isinstance(i.fan, KernelFan)]
        self.grid: Shape = kernels[0] if kernels else (int(np.prod(shape)),)
        self.incoming = tuple(replace(i, fan=recast(i.fan, i.connection, self.grid)) for i in incoming)
        self.per_neuron, self.neuron_bits, self.delay_bits = per_neuron, neuron_bits, delay_bits
        self.fan_in = sum(i.fan.fan_in() for i in self.incoming)
        self.limits = self._reachable(limits)

    def _reachable(self, limits: Limits) -> Limits:
        """The limits that pieces of a single neuron keep; cutting on for the others would help nobody."""
        alone = max((int(min(f.max() for f in i.form.formula(1, 1, 1, 1, i.form.bits, i.form.delay_bits)))
                     for i in self.incoming), default=0)
        takes = {"compartments": self.per_neuron, "memory": self.fan_in * alone + self.neuron_bits, "longest": alone,
                 "axons_in": self.fan_in, "delay_slots": self.per_neuron << self.delay_bits}
        beyond: dict[str, None] = {
            name: None for name, least in takes.items()
            if getattr(limits, name) is not None and getattr(limits, name) < least
        }
        return replace(limits, **beyond)

    def loads(self, cut: Cut, leaving: Ints | None) -> dict[str, Ints]:
        """Every resource of every piece. leaving: (neurons,) out entries of each neuron, when known."""
        neurons = sizes(cut)
        found = [i.fan.load(cut, i.form) for i in self.incoming]
        zero = np.zeros(neurons.size, dtype=np.int64)
        compartments = neurons * self.per_neuron
        return {
            "neurons": neurons, "compartments": compartments, "delay_slots": compartments << self.delay_bits,
            "axons_in": sum((f.axons for f in found), zero), "synapses": sum((f.synapses for f in found), zero),
            "memory": sum((f.memory for f in found), zero) + neurons * self.neuron_bits,
            "longest": np.max([f.longest for f in found], axis=0) if found else zero,
            "axons_out": zero if leaving is None else per_piece(leaving, self.grid, cut),
        }

    def excess(self, cut: Cut, leaving: Ints | None) -> float:
        """How many times over the worst piece is (1 or less: fits)."""
        found = self.loads(cut, leaving)
        worst = 0.0
        for name in ("compartments", "memory", "longest", "axons_in", "axons_out", "delay_slots"):
            limit = getattr(self.limits, name)
            if limit is not None:
                most = int(found[name].max(initial=0))
                worst = max(worst, most / limit if limit else (math.inf if most else 0.0))
        return worst

    def best(self, leaving: Ints | None) -> Cut:
        """The cut with the fewest pieces; of equal ones the first with the fewest tiles. leaving: as in `loads`."""
        if leaving is not None and self.limits.axons_out is not None and leaving.max(initial=0) > self.limits.axons_out:
            leaving = None  # one neuron alone has too many: a rule reports it
        best: Cut | None = None
        for tiles in _tilings(self.grid):
            rest = tuple(even(n, t) for n, t in zip(self.grid[1:], tiles, strict=True))
            least = self._fewest(rest)
            if best is not None and least * math.prod(tiles) >= sizes(best).size:
                continue
            parts = self._search(rest, least, leaving, None if best is None else sizes(best).size // math.prod(tiles))
            if parts is not None:
                cut = (even(self.grid[0], parts), *rest)
                if best is None or sizes(cut).size < sizes(best).size:
                    best = cut
        return best if best is not None else tuple(tuple(range(n + 1)) for n in self.grid)

    def _fewest(self, rest: Cut) -> int:
        """The least parts of the first axis that the neurons of a piece allow."""
        area = math.prod(int(np.diff(axis).max()) for axis in rest) * self.per_neuron
        caps = [self.limits.compartments, self.limits.delay_slots and self.limits.delay_slots >> self.delay_bits]
        each = [cap // area for cap in caps if cap]  # channels to a piece
        return max((math.ceil(self.grid[0] / n) if n else self.grid[0] + 1 for n in each), default=1)

    def _search(self, rest: Cut, low: int, leaving: Ints | None, most: int | None) -> int | None:
        """Fewest parts of the first axis that fit, not above `most`; None when none does."""
        top = self.grid[0] if most is None else min(self.grid[0], most)
        if low > top or (low < top and self.excess((even(self.grid[0], top), *rest), leaving) > 1):
            return None
        tried, high = low - 1, low
        while (over := self.excess((even(self.grid[0], high), *rest), leaving)) > 1:
            if high == top:
                return None
            tried, high = high, min(top, max(high + 1, math.ceil(high * min(over, 4.0))))
        while high - tried > 1:
            middle = (tried + high) // 2
            if self.excess((even(self.grid[0], middle), *rest), leaving) <= 1:
                high = middle
            else:
                tried = middle
        return high


def _tilings(grid: Shape) -> Iterator[tuple[int, ...]]:
    """Numbers of tiles along the axes behind the first, few tiles first; tiles at most twice as long as wide."""
    if len(grid) == 1:
        yield ()
        return
    h, w = grid[1:]

    def steps(n: int) -> list[int]:
        return sorted({math.ceil(n / size) for size in range(1, n + 1)})

    found = [
        (a, b) for a in steps(h) for b in steps(w)
        if (a, b) == (1, 1) or max(h / a, w / b) <= 2 * min(h / a, w / b) + 1
    ]
    yield from sorted(found, key=lambda ab: (ab[0] * ab[1], ab))


def per_piece(values: Ints, grid: Shape, cut: Cut) -> Ints:
    """(pieces,) sums of one value per neuron."""
    total = values.reshape(grid)
    for axis, bounds in enumerate(cut):
        total = np.add.reduceat(total, np.asarray(bounds[:-1]), axis=axis)
    return total.ravel()
