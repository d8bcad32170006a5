"""What one connection asks of the cores that its target population is cut into: counted, never built.

A cut is one tuple of boundaries for each axis of a population, first 0, last the size: ((0, 8, 16), (0, 34), (0, 34))
makes two pieces of 8 channels each. Pieces are numbered in row-major order of the cut's cells.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise, product
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ..network.connections import Connection, Kernel
from ..network.nodes import Shape
from .memory import Formula

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
    """How synapses are stored: a formula of chip/memory.py at a width; shared: a kernel's lists are stored once."""

    formula: Formula
    bits: int
    delay_bits: int = 0
    shared: bool = True


class Fan(Protocol):
    """Counts of one connection. grid: the shape in which its targets may be cut."""

    @property
    def grid(self) -> Shape: ...
    def load(self, cut: Cut, form: Format) -> Load: ...
    def reach(self, cut: Cut) -> Ints: ...
    def fan_in(self) -> int: ...
    def fan_out(self) -> Ints: ...


def pieces(cut: Cut) -> Iterator[tuple[slice, ...]]:
    """The cells of a cut, one slice per axis, in row-major order."""
    yield from product(*([slice(a, b) for a, b in pairwise(axis)] for axis in cut))


def sizes(cut: Cut) -> Ints:
    """(pieces,) neurons in each piece."""
    total = np.ones(1, dtype=np.int64)
    for axis in cut:
        total = np.multiply.outer(total, np.diff(axis))
    return total.ravel()


@dataclass(frozen=True, eq=False)
class MatrixFan:
    """A matrix, dense or csr: every source with a synapse in a piece takes an axon and a list of its own there."""

    weight: np.ndarray | sparse.csr_array
    grid: Shape

    @cached_property
    def _full(self) -> bool:
        w = self.weight
        return not isinstance(w, sparse.csr_array) and bool(np.count_nonzero(w) == w.size)

    @cached_property
    def _mask(self) -> NDArray[np.bool_]:
        mask: NDArray[np.bool_] = np.asarray(self.weight) != 0
        return mask

    @cached_property
    def _csr(self) -> sparse.csr_array:
        found = sparse.csr_array(self.weight, copy=True)
        found.eliminate_zeros()
        return found

    def _counts(self, cut: Cut) -> Iterator[tuple[int, Ints]]:
        """(neurons, (sources,) synapses of each source) for each piece."""
        targets = np.arange(int(np.prod(self.grid))).reshape(self.grid)
        n_sources = self.weight.shape[1]
        for cell in pieces(cut):
            rows = targets[cell].ravel()
            if self._full:
                yield rows.size, np.full(n_sources, rows.size, dtype=np.int64)
                continue
            span = slice(int(rows[0]), int(rows[-1]) + 1)
            together = span.stop - span.start == rows.size
            if isinstance(self.weight, sparse.csr_array):
                csr = self._csr
                taken = csr.indices[csr.indptr[span.start] : csr.indptr[span.stop]] if together else csr[rows].indices
                yield rows.size, np.bincount(taken, minlength=n_sources).astype(np.int64)
            else:
                yield rows.size, np.count_nonzero(self._mask[span if together else rows], axis=0).astype(np.int64)

    def load(self, cut: Cut, form: Format) -> Load:
        rows: list[tuple[int, int, int, int]] = []
        cached: dict[int, tuple[int, int, int, int]] = {}  # pieces of one size are alike when no weight is zero
        for neurons, counts in self._counts(cut):
            if neurons in cached:
                rows.append(cached[neurons])
                continue
            present = counts[counts > 0] if not self._full else counts[:1]
            dense, thin = form.formula(1, np.full(present.shape, neurons), present, neurons, form.bits, form.delay_bits)
            best = dense if dense.sum() <= thin.sum() else thin
            times = counts.size if self._full else 1
            row = (
                present.size * times, int(present.sum()) * times, int(best.sum()) * times,
                int(best.max(initial=0)),
            )
            if self._full:
                cached[neurons] = row
            rows.append(row)
        return Load(*np.asarray(rows, dtype=np.int64).T)

    def reach(self, cut: Cut) -> Ints:
        if self._full:
            return np.full(self.weight.shape[1], sizes(cut).size, dtype=np.int64)
        found = np.zeros(self.weight.shape[1], dtype=np.int64)
        for _, counts in self._counts(cut):
            found += counts > 0
        return found

    def fan_in(self) -> int:
        if self._full:
            return int(self.weight.shape[1])
        if isinstance(self.weight, sparse.csr_array):
            return int(np.diff(self._csr.indptr).max(initial=0))
        return int(np.count_nonzero(self._mask, axis=1).max(initial=0))

    def fan_out(self) -> Ints:
        """(sources,) synapses of each source."""
        return next(self._counts(tuple((0, n) for n in self.grid)))[1]


@dataclass(frozen=True, eq=False)
class KernelFan:
    """A convolution, counted from its geometry.

    A source takes an axon in every piece that one of its taps reaches. Sources of one channel that reach a piece
    through the same taps of the kernel share one list of weights, stored once per core (as NxTF and nengo-loihi
    do); without sharing every source has its own. Neurons of a core are numbered channel last, so that the taps of
    one kernel row are one run when stored dense. All channels of a source location take the space of its longest
    list (NxTF). Zeros of a kernel with groups are counted as stored.
    """

    weight: np.ndarray
    kernel: Kernel

    @property
    def grid(self) -> Shape:
        c, *rest = self.kernel.output_shape
        return (c, *(1,) * (2 - len(rest)), *rest)

    @cached_property
    def _taps(self) -> list[Ints]:
        """Per spatial axis: (inputs, kernel) output that a tap leads to, or -1."""
        found = []
        k = self.kernel
        axes = list(zip(k.input_shape[1:], k.output_shape[1:], self.weight.shape[2:], k.stride,
                        (before for before, _ in k.padding), k.dilation, strict=True))
        for n_in, n_out, size, stride, before, dilation in [(1, 1, 1, 1, 0, 1)] * (2 - len(axes)) + axes:
            at = np.arange(n_in)[:, None] + before - np.arange(size)[None, :] * dilation
            out = np.floor_divide(at, stride)
            found.append(np.where((at % stride == 0) & (out >= 0) & (out < n_out), out, -1))
        return found

    @cached_property
    def _row_is_one_run(self) -> bool:
        stride, dilation = self.kernel.stride[-1], self.kernel.dilation[-1]
        return dilation == 1 or stride % dilation == 0

    @cached_property
    def _thinned(self) -> bool:
        return self.kernel.groups == 1 and bool(np.count_nonzero(self.weight) < self.weight.size)

    @cached_property
    def _kept_before(self) -> Ints:
        """(target channels + 1, source channels, rows, columns): weights not zero in the channels before."""
        shape = (*self.weight.shape[:2], *(taps.shape[1] for taps in self._taps))
        found = np.zeros((shape[0] + 1, *shape[1:]), dtype=np.int64)
        np.cumsum(self.weight.reshape(shape) != 0, axis=0, out=found[1:])
        return found

    def _patterns(self, axis: int, bounds: tuple[int, ...]) -> tuple[NDArray[np.bool_], Ints]:
        """Distinct sets of taps, (patterns, kernel), and how many inputs of each cell use each: (cells, patterns)."""
        out = self._taps[axis]
        hits = np.stack([(out >= a) & (out < b) for a, b in pairwise(bounds)])  # (cells, inputs, kernel)
        found, which = np.unique(hits.reshape(-1, hits.shape[2]), axis=0, return_inverse=True)
        which = which.reshape(hits.shape[:2])
        uses = np.stack([np.bincount(row, minlength=len(found)) for row in which]).astype(np.int64)
        some = found.any(axis=1)
        return found[some], uses[:, some]

    def _channels(self, bounds: tuple[int, ...]) -> tuple[Ints, Ints]:
        """Per cell of channels: source channels that reach it, and target channels that one of them reaches (most)."""
        groups, per_group = self.kernel.groups, self.weight.shape[0] // self.kernel.groups
        first, last = np.asarray(bounds[:-1]), np.asarray(bounds[1:])
        touched = (last - 1) // per_group - first // per_group + 1
        inner = np.minimum(last - first, per_group)
        if groups > 1:  # a cell that only straddles two groups holds a part of each
            inner = np.where(touched == 2, np.maximum(per_group - first % per_group, (last - 1) % per_group + 1), inner)
        return touched * self.weight.shape[1], inner

    def _reached(self, bounds: tuple[int, ...]) -> Ints:
        """(source channels,) cells of target channels that each source channel reaches."""
        groups, cg = self.kernel.groups, self.weight.shape[1]
        per_group = self.weight.shape[0] // groups
        count = np.zeros(groups, dtype=np.int64)
        for a, b in pairwise(bounds):
            count[a // per_group : (b - 1) // per_group + 1] += 1
        return np.repeat(count, cg)

    def load(self, cut: Cut, form: Format) -> Load:
        rows, uses_r = self._patterns(0, cut[1])
        cols, uses_c = self._patterns(1, cut[2])
        sources, inner = self._channels(cut[0])
        used = uses_r.sum(axis=1)[:, None] * uses_c.sum(axis=1)[None, :]  # (rows, cols) source places per cell
        axons = sources[:, None, None] * used

        taps_r, taps_c = rows.sum(axis=1), cols.sum(axis=1)
        runs = np.multiply.outer(taps_r, np.ones_like(taps_c) if self._row_is_one_run else taps_c)
        per_run = np.multiply.outer(np.ones_like(taps_r), taps_c if self._row_is_one_run else np.ones_like(taps_c))
        length = inner[:, None, None] * per_run  # (channel cells, row patterns, column patterns)
        nonzero = inner[:, None, None] * np.multiply.outer(taps_r, taps_c)
        held = (np.diff(cut[0]) * self.weight.shape[1])[:, None, None] * np.multiply.outer(taps_r, taps_c)
        if self._thinned:
            kept = self._kept_before[np.asarray(cut[0][1:])] - self._kept_before[np.asarray(cut[0][:-1])]
            lists = np.einsum("ncij,pi,qj->ncpq", kept, rows.astype(np.int64), cols.astype(np.int64), optimize=True)
            nonzero, held = lists.max(axis=1), lists.sum(axis=1)

        synapses = np.einsum("npq,hp,wq->nhw", held, uses_r, uses_c, optimize=True)
        neurons = sizes(cut).reshape(axons.shape)
        stored = ((uses_r > 0).astype(np.int64), (uses_c > 0).astype(np.int64)) if form.shared else (uses_r, uses_c)
        totals, longest = [], []
        most = int(neurons.max())  # the widest index of the layer, so that all its cores share one format
        for bits in form.formula(runs, length, nonzero, most, form.bits, form.delay_bits):
            bits = np.broadcast_to(bits, nonzero.shape)
            totals.append(sources[:, None, None] * np.einsum("npq,hp,wq->nhw", bits, *stored, optimize=True))
            top = np.zeros(axons.shape, dtype=np.int64)
            for p, q in product(range(len(rows)), range(len(cols))):
                here = (uses_r[:, p] > 0)[:, None] & (uses_c[:, q] > 0)[None, :]
                np.maximum(top, np.where(here, bits[:, p, q][:, None, None], 0), out=top)
            longest.append(top)
        dense = totals[0] <= totals[1]
        memory, most_of_one = np.where(dense, *totals), np.where(dense, *longest)
        return Load(axons.ravel(), synapses.ravel(), memory.ravel(), most_of_one.ravel())

    def reach(self, cut: Cut) -> Ints:
        found = self._reached(cut[0])
        for axis in (0, 1):
            out, bounds = self._taps[axis], np.asarray(cut[axis + 1])
            cell = np.where(out >= 0, np.searchsorted(bounds, out, side="right") - 1, -1)
            hit = np.zeros((len(out), len(bounds)), dtype=bool)
            np.put_along_axis(hit, np.where(cell < 0, len(bounds) - 1, cell), True, axis=1)
            found = np.multiply.outer(found, hit[:, :-1].sum(axis=1))
        return found.ravel()

    def fan_in(self) -> int:
        taps = [int(max((((out == o).any(axis=0)).sum() for o in range(int(out.max()) + 1)), default=0))
                for out in self._taps]
        return int(self.weight.shape[1]) * taps[0] * taps[1]

    def fan_out(self) -> Ints:
        """(sources,) synapses of each source, zeros of the kernel included."""
        rows, cols = ((out >= 0).sum(axis=1) for out in self._taps)
        channels = np.full(self.kernel.input_shape[0], self.weight.shape[0] // self.kernel.groups)
        counts: Ints = np.multiply.outer(np.multiply.outer(channels, rows), cols).ravel()
        return counts


def fan(connection: Connection) -> Fan:
    """The counter for a connection."""
    if connection.kernel is not None:
        return KernelFan(np.asarray(connection.weight), connection.kernel)
    return MatrixFan(connection.weight, (connection.n_targets,))


def recast(found: Fan, connection: Connection, grid: Shape) -> Fan:
    """The same connection, cut along another grid; a convolution of another shape becomes its matrix."""
    if found.grid == grid:
        return found
    return replace(found, grid=grid) if isinstance(found, MatrixFan) else MatrixFan(connection.matrix(), grid)
