"""Partial sums: the parts of a matrix, and the synapses that gather what they send."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...network.connections import Connection
from ...network.nodes import Shape
from .counts_of_matrix import ROWS, MatrixFan, per_column
from .synapse_counts import Cut, Format, Ints, Load, pieces, sizes

if TYPE_CHECKING:
    from scipy import sparse


@dataclass(frozen=True, eq=False)
class Part(Connection):
    """Of each row of a dense matrix the columns from `first` up to `last`, both (targets,): nothing is copied.

    weight: of the whole matrix. kept: (targets,) weights of the part that are not zero.
    """

    first: NDArray[np.int32] = field(kw_only=True)
    last: NDArray[np.int32] = field(kw_only=True)
    kept: Ints = field(kw_only=True)

    def matrix(self) -> sparse.csr_array:
        from scipy import sparse

        column = np.arange(self.n_sources)
        inside = (column >= self.first[:, None]) & (column < self.last[:, None])
        return sparse.csr_array(np.where(inside, self.weight, 0))


@dataclass(frozen=True, eq=False)
class PartFan(MatrixFan):
    """A part of a dense matrix."""

    connection: Part

    @cached_property
    def _full(self) -> bool:
        return False

    @cached_property
    def _per_target(self) -> Ints:
        return self.connection.kept

    @cached_property
    def solid(self) -> bool:
        """Whether every neuron hears the same sources, all in one piece: no weight is zero, no end differs."""
        part = self.connection
        return bool((part.first == part.first[0]).all() and (part.last == part.last[0]).all()
                    and (part.kept == part.last - part.first).all())

    def _per_source(self, rows: slice | Ints) -> Ints:
        part, weight = self.connection, np.asarray(self.weight)
        first, last = part.first[rows], part.last[rows]
        low, high = int(first.min()), int(last.max())
        found = np.zeros(weight.shape[1], dtype=np.int64)
        if self.solid:
            found[low:high] = len(first)
            return found
        weight = weight[rows, low:high]
        if (first == low).all() and (last == high).all():
            found[low:high] = per_column(weight)
            return found
        column = np.arange(low, high, dtype=np.int32)
        for row in range(0, len(weight), ROWS):
            here = slice(row, row + ROWS)
            kept = (weight[here] != 0) & (column >= first[here, None]) & (column < last[here, None])
            found[low:high] += kept.sum(axis=0, dtype=np.uint8)
        return found

    def stored_weights(self) -> int:
        return int(self.connection.kept.sum())


@dataclass(frozen=True, eq=False)
class GatherFan:
    """One synapse from every source to the target of its number."""

    connection: Connection
    grid: Shape

    def axons(self, cut: Cut) -> Ints:
        return np.zeros(1, dtype=np.int64)

    def heard(self, cut: Cut, every: int = 1) -> Ints:
        return sizes(cut)[::every]

    def load(self, cut: Cut, form: Format, every: int = 1) -> Load:
        neurons = sizes(cut)[::every]
        told_apart = np.maximum(neurons, form.neurons)
        each = np.minimum(*form.formula(1, neurons, 1, told_apart, form.bits, form.delay_bits))
        each = np.broadcast_to(each, neurons.shape)
        return Load(neurons, neurons, neurons * each, each)

    def reach(self, cut: Cut) -> Ints:
        return self.fan_out()

    def touched(self, cut: Cut) -> Iterator[NDArray[np.bool_]]:
        for cell in pieces(cut):
            found = np.zeros(self.grid, dtype=bool)
            found[cell] = True
            yield found.ravel()

    def fan_in(self) -> Ints:
        return self.fan_out()

    def sources(self) -> int:
        return 1

    def fan_out(self) -> Ints:
        return np.ones(self.connection.n_sources, dtype=np.int64)

    def stored_weights(self) -> int:
        return self.connection.n_sources


def parts_of(
    matrix: Connection, grid: Shape, parts: int, limit: int, whole: Connection | None = None
) -> list[PartFan]:
    """A dense matrix in parts of at most `limit` synapses for each neuron, sources in order: by channels of an image
    where that keeps the limit, so that neighbours share their sources; else of equal numbers of synapses.

    whole: the same matrix with all its synapses, whose parts these shall be; itself without.
    """
    full, weight, channels = np.asarray((whole or matrix).weight), np.asarray(matrix.weight), matrix.source_shape[0]
    n_targets, n_sources = weight.shape
    of_source = np.arange(n_sources) * channels // n_sources * parts // channels
    bounds = np.searchsorted(of_source, np.arange(parts + 1))
    ends = np.tile(bounds.astype(np.int32), (n_targets, 1))
    before = _before(full, ends)
    if np.diff(before).max(initial=0) > limit:
        before = -(-before[:, -1:] * np.arange(parts + 1) // parts)
        for row, synapses, end in zip(full, before, ends, strict=True):
            end[:] = np.append(np.flatnonzero(row != 0), n_sources)[synapses]
    if whole is not None:
        before = _before(weight, ends)
    every = {f.name: getattr(matrix, f.name) for f in fields(matrix)}
    return [
        PartFan(Part(**every, first=ends[:, k], last=ends[:, k + 1], kept=before[:, k + 1] - before[:, k]), grid)
        for k in range(parts)
    ]


def _before(weight: np.ndarray, ends: NDArray[np.int32]) -> Ints:
    """(rows, ends) synapses of each row before each of its ends."""
    return np.stack([np.searchsorted(np.flatnonzero(row != 0), end) for row, end in zip(weight, ends, strict=True)])
