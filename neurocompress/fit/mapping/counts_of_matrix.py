"""A matrix of synapses, dense or sparse, counted for the pieces of its targets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby, islice
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...network.connections import Connection
from ...network.nodes import Shape
from .synapse_counts import Cut, Format, Ints, Load, pieces, sizes

if TYPE_CHECKING:
    from scipy import sparse

ROWS = 64  # of a matrix that are counted at once; a byte holds their number


@dataclass(frozen=True, eq=False)
class MatrixFan:
    """A matrix, dense or csr: every source with a synapse in a piece takes an axon and a list of its own there."""

    connection: Connection
    grid: Shape
    _loads: dict[tuple[Cut, Format], Load] = field(default_factory=dict)  # cuts are tried again and again
    _heard: dict[tuple[Cut, int], Ints] = field(default_factory=dict)

    @cached_property
    def weight(self) -> np.ndarray | sparse.csr_array:
        return self.connection.weight if self.connection.kernel is None else self.connection.matrix()

    @cached_property
    def _full(self) -> bool:
        w = self.weight
        return isinstance(w, np.ndarray) and bool(np.count_nonzero(w) == w.size)

    @cached_property
    def _csr(self) -> sparse.csr_array:
        from scipy import sparse  # slow to import, and most networks need none of it

        found = sparse.csr_array(self.weight, copy=True)
        found.eliminate_zeros()
        return found

    def _counts(self, cut: Cut, every: int = 1) -> Iterator[tuple[int, Ints]]:
        """(neurons, (sources,) synapses of each source) for each piece."""
        targets = np.arange(int(np.prod(self.grid))).reshape(self.grid)
        n_sources = self.weight.shape[1]
        for cell in islice(pieces(cut), 0, None, every):
            rows = targets[cell].ravel()
            if self._full:
                yield rows.size, np.full(n_sources, rows.size, dtype=np.int64)
                continue
            span = slice(int(rows[0]), int(rows[-1]) + 1)
            together = span.stop - span.start == rows.size
            if not isinstance(self.weight, np.ndarray):
                csr = self._csr
                taken = csr.indices[csr.indptr[span.start] : csr.indptr[span.stop]] if together else csr[rows].indices
                yield rows.size, np.bincount(taken, minlength=n_sources)
            else:
                yield rows.size, self._per_source(span if together else rows)

    def _per_source(self, rows: slice | Ints) -> Ints:
        """(sources,) synapses of each source in some rows of a dense matrix."""
        return per_column(np.asarray(self.weight)[rows])

    def axons(self, cut: Cut) -> Ints:
        return np.full(1, self.weight.shape[1] if self._full else 0, dtype=np.int64)

    def heard(self, cut: Cut, every: int = 1) -> Ints:
        if self._full:
            return np.full(sizes(cut)[::every].size, self.weight.shape[1], dtype=np.int64)
        if (cut, every) not in self._heard:
            self._heard[cut, every] = np.fromiter(
                (np.count_nonzero(counts) for _, counts in self._counts(cut, every)), np.int64)
        return self._heard[cut, every]

    def load(self, cut: Cut, form: Format, every: int = 1) -> Load:
        if self._full:
            return self._full_load(sizes(cut)[::every], form)
        return remembered(self._loads, self._lists, cut, form, every)

    def _lists(self, cut: Cut, every: int) -> Iterator[tuple[int, Ints]]:
        for neurons, alike in groupby(self._counts(cut, every), key=itemgetter(0)):
            yield neurons, np.stack([np.bincount(counts, minlength=neurons + 1) for _, counts in alike])

    def _full_load(self, neurons: Ints, form: Format) -> Load:
        sources = np.int64(self.weight.shape[1])
        told_apart = np.maximum(neurons, form.neurons)
        dense, thin = form.formula(1, neurons, neurons, told_apart, form.bits, form.delay_bits)
        each = np.minimum(dense, thin)
        return Load(np.full_like(neurons, sources), neurons * sources, each * sources, each)

    def reach(self, cut: Cut) -> Ints:
        if self._full:
            return np.full(self.weight.shape[1], sizes(cut).size, dtype=np.int64)
        found = np.zeros(self.weight.shape[1], dtype=np.int64)
        for _, counts in self._counts(cut):
            found += counts > 0
        return found

    def touched(self, cut: Cut) -> Iterator[NDArray[np.bool_]]:
        for _, counts in self._counts(cut):
            yield counts > 0

    def fan_in(self) -> Ints:
        return self._per_target

    @cached_property
    def _per_target(self) -> Ints:
        if self._full:
            return np.full(self.weight.shape[0], self.weight.shape[1], dtype=np.int64)
        if not isinstance(self.weight, np.ndarray):
            return np.asarray(np.diff(self._csr.indptr), dtype=np.int64)
        return np.fromiter(map(np.count_nonzero, self.weight), np.int64)  # faster than along an axis

    def sources(self) -> int:
        return int(self.fan_in().max(initial=0))

    def fan_out(self) -> Ints:
        """(sources,) synapses of each source."""
        return next(self._counts(tuple((0, n) for n in self.grid)))[1]

    def stored_weights(self) -> int:
        return int(self._csr.nnz if not isinstance(self.weight, np.ndarray) else np.count_nonzero(self.weight))


def per_column(weight: np.ndarray) -> Ints:
    """(columns,) weights that are not zero: a few rows at a time, which stay in the cache, counted in bytes."""
    found = np.zeros(weight.shape[1], dtype=np.int64)
    for row in range(0, len(weight), ROWS):
        found += (weight[row : row + ROWS] != 0).sum(axis=0, dtype=np.uint8)
    return found


def remembered(
    loads: dict[tuple[Cut, Format], Load], lists: Callable[[Cut, int], Iterable[tuple[int, Ints]]], cut: Cut,
    form: Format, every: int,
) -> Load:
    """`load_of` the lists of a cut, counted once; those of every nth piece are counted anew."""
    if every > 1:
        return load_of(lists(cut, every), form)
    if (cut, form) not in loads:
        loads[cut, form] = load_of(lists(cut, 1), form)
    return loads[cut, form]


def load_of(found: Iterable[tuple[int, Ints]], form: Format) -> Load:
    """What pieces take where every source has a list of its own. found: for pieces of so many neurons each, how many
    sources have a list of 0, 1, 2... synapses there, (pieces, neurons + 1)."""
    loads: list[Ints] = []
    costs: dict[int, tuple[Ints, Ints]] = {}  # by neurons of the piece: bits of a list of 0, 1, 2... synapses
    for neurons, lists in found:
        lengths = np.arange(neurons + 1)
        if neurons not in costs:
            dense, thin = form.formula(1, neurons, lengths, max(neurons, form.neurons), form.bits, form.delay_bits)
            costs[neurons] = np.where(lengths > 0, dense, 0), thin
        lists[:, 0] = 0
        dense, thin = (lists @ cost for cost in costs[neurons])
        best = np.where((dense <= thin)[:, None], *costs[neurons])
        loads.append(np.stack([lists.sum(axis=1), lists @ lengths, np.minimum(dense, thin),
                               np.where(lists > 0, best, 0).max(axis=1)]))
    return Load(*np.concatenate(loads, axis=1))
