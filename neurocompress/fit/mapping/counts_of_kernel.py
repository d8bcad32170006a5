"""A convolution, counted from its geometry for the pieces of its targets: its matrix is never built."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray

from ...network.connections import Connection
from ...network.kernel import Kernel
from ...network.nodes import Shape
from .synapse_counts import Cut, Format, Ints, Load, sizes

DENSE = 0.8  # share of weights that are not zero from which on an index on each never pays


@lru_cache(maxsize=64)
def taps_of(kernel: Kernel, spans: Shape) -> tuple[Ints, Ints]:
    """Per spatial axis: (inputs, kernel) output that a tap leads to, or -1. spans: of the kernel."""
    found = []
    axes = list(zip(kernel.input_shape[1:], kernel.output_shape[1:], spans, kernel.stride,
                    (before for before, _ in kernel.padding), kernel.dilation, strict=True))
    for n_in, n_out, size, stride, before, dilation in [(1, 1, 1, 1, 0, 1)] * (2 - len(axes)) + axes:
        at = np.arange(n_in)[:, None] + before - np.arange(size)[None, :] * dilation
        out = np.floor_divide(at, stride)
        found.append(np.where((at % stride == 0) & (out >= 0) & (out < n_out), out, -1))
    return found[0], found[1]


@lru_cache(maxsize=1024)
def patterns_of(
    kernel: Kernel, spans: Shape, axis: int, bounds: tuple[int, ...]
) -> tuple[NDArray[np.bool_], Ints]:
    """Distinct sets of taps, (patterns, kernel), and how many inputs of each cell use each: (cells, patterns)."""
    out = taps_of(kernel, spans)[axis]
    hits = np.stack([(out >= a) & (out < b) for a, b in pairwise(bounds)])  # (cells, inputs, kernel)
    found, which = np.unique(hits.reshape(-1, hits.shape[2]), axis=0, return_inverse=True)
    which = which.reshape(hits.shape[:2])
    uses = np.stack([np.bincount(row, minlength=len(found)) for row in which]).astype(np.int64)
    some = found.any(axis=1)
    return found[some], uses[:, some]


@dataclass(frozen=True, eq=False)
class KernelFan:
    """A convolution.

    A source takes an axon in every piece that one of its taps reaches. Sources of one channel that reach a piece
    through the same taps of the kernel share one list of weights, stored once per core (as NxTF and nengo-loihi
    do); without sharing every source has its own. Neurons of a core are numbered channel last, so that the taps of
    one kernel row are one run when stored dense. All channels of a source location take the space of its longest
    list (NxTF). Where a kernel has groups, or few zeros, its zeros are stored.
    """

    connection: Connection
    kernel: Kernel
    _loads: dict[tuple[Cut, Format], Load] = field(default_factory=dict)  # cuts are tried again and again

    @property
    def weight(self) -> np.ndarray:
        return np.asarray(self.connection.weight)

    @property
    def grid(self) -> Shape:
        c, *rest = self.kernel.output_shape
        return (c, *(1,) * (2 - len(rest)), *rest)

    @property
    def _taps(self) -> tuple[Ints, Ints]:
        return taps_of(self.kernel, self.weight.shape[2:])

    @cached_property
    def _row_is_one_run(self) -> bool:
        stride, dilation = self.kernel.stride[-1], self.kernel.dilation[-1]
        return dilation == 1 or stride % dilation == 0

    @cached_property
    def _thinned(self) -> bool:
        """Whether enough weights are zero that storing the others with an index may take less."""
        return self.kernel.groups == 1 and bool(np.count_nonzero(self.weight) < DENSE * self.weight.size)

    @cached_property
    def _kept_before(self) -> NDArray[np.float32]:
        """(target channels + 1, source channels, taps): weights not zero in the channels before, exact as float32."""
        channels, sources = self.weight.shape[:2]
        found = np.zeros((channels + 1, sources, int(np.prod(self.weight.shape[2:]))), dtype=np.float32)
        np.cumsum(self.weight.reshape(found[1:].shape) != 0, axis=0, out=found[1:])
        return found

    @cached_property
    def _held_before(self) -> Ints:
        """(target channels + 1, taps): weights not zero in the channels before."""
        each = (self.weight != 0).sum(axis=1).reshape(len(self.weight), -1)
        return np.concatenate([np.zeros((1, each.shape[1]), dtype=np.int64), each.cumsum(axis=0)])

    def _patterns(self, axis: int, bounds: tuple[int, ...]) -> tuple[NDArray[np.bool_], Ints]:
        return patterns_of(self.kernel, self.weight.shape[2:], axis, bounds)

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

    def axons(self, cut: Cut) -> Ints:
        places = [self._patterns(axis, cut[axis + 1])[1].sum(axis=1) for axis in (0, 1)]
        found: Ints = np.multiply.outer(np.multiply.outer(self._channels(cut[0])[0], places[0]), places[1]).ravel()
        return found

    def heard(self, cut: Cut, every: int = 1) -> Ints:
        return self.axons(cut)[::every]

    def load(self, cut: Cut, form: Format, every: int = 1) -> Load:
        if (cut, form) not in self._loads:
            self._loads[cut, form] = self._load(cut, form)
        found = self._loads[cut, form]
        return Load(found.axons[::every], found.synapses[::every], found.memory[::every], found.longest[::every])

    def _load(self, cut: Cut, form: Format) -> Load:
        rows, uses_r = self._patterns(0, cut[1])
        cols, uses_c = self._patterns(1, cut[2])
        sources, inner = self._channels(cut[0])
        taps_r, taps_c = rows.sum(axis=1), cols.sum(axis=1)
        taps = np.multiply.outer(taps_r, taps_c)
        runs = np.broadcast_to(taps_r[:, None], taps.shape) if self._row_is_one_run else taps
        length = inner[:, None, None] * (taps // np.maximum(runs, 1))  # (channel cells, row patterns, column patterns)
        nonzero = inner[:, None, None] * taps
        if self._thinned:
            nonzero = self._longest_lists(cut[0], rows, cols)
        held = np.diff(self._held_before[np.asarray(cut[0])], axis=0) @ np.kron(rows, cols).T.astype(np.int64)
        held = held.reshape(nonzero.shape)

        synapses = np.einsum("npq,hp,wq->nhw", held, uses_r, uses_c, optimize=True)
        stored = ((uses_r > 0).astype(np.int64), (uses_c > 0).astype(np.int64)) if form.shared else (uses_r, uses_c)
        totals, longest = [], []
        most = max(int(sizes(cut).max()), form.neurons)  # the widest index of the layer: all its cores share one format
        for bits in form.formula(runs, length, nonzero, most, form.bits, form.delay_bits):
            bits = np.broadcast_to(bits, nonzero.shape)
            totals.append(sources[:, None, None] * np.einsum("npq,hp,wq->nhw", bits, *stored, optimize=True))
            top = np.zeros(synapses.shape, dtype=np.int64)
            for p, q in product(range(len(rows)), range(len(cols))):
                here = (uses_r[:, p] > 0)[:, None] & (uses_c[:, q] > 0)[None, :]
                np.maximum(top, np.where(here, bits[:, p, q][:, None, None], 0), out=top)
            longest.append(top)
        dense = totals[0] <= totals[1]
        memory, most_of_one = np.where(dense, *totals), np.where(dense, *longest)
        return Load(self.axons(cut), synapses.ravel(), memory.ravel(), most_of_one.ravel())

    def _longest_lists(self, bounds: tuple[int, ...], rows: NDArray[np.bool_], cols: NDArray[np.bool_]) -> Ints:
        """Weights not zero in the longest list of a source channel: (channel cells, row patterns, column patterns)."""
        before = self._kept_before
        kept = before[np.asarray(bounds[1:])] - before[np.asarray(bounds[:-1])]  # (cells, source channels, taps)
        through = np.kron(rows, cols).T.astype(np.float32)  # (taps, patterns); counts stay below 2^24, so exact
        longest: Ints = (kept @ through).max(axis=1).astype(np.int64)
        return longest.reshape(len(bounds) - 1, len(rows), len(cols))

    def reach(self, cut: Cut) -> Ints:
        found = self._reached(cut[0])
        for axis in (0, 1):
            out, bounds = self._taps[axis], np.asarray(cut[axis + 1])
            cell = np.where(out >= 0, np.searchsorted(bounds, out, side="right") - 1, -1)
            hit = np.zeros((len(out), len(bounds)), dtype=bool)
            np.put_along_axis(hit, np.where(cell < 0, len(bounds) - 1, cell), True, axis=1)
            found = np.multiply.outer(found, hit[:, :-1].sum(axis=1))
        return found.ravel()

    def touched(self, cut: Cut) -> Iterator[NDArray[np.bool_]]:
        groups, per_group = self.kernel.groups, self.weight.shape[0] // self.kernel.groups
        channel = np.repeat(np.arange(groups), self.weight.shape[1])  # the group of each source channel
        near = [[((out >= a) & (out < b)).any(axis=1) for a, b in pairwise(bounds)]
                for out, bounds in zip(self._taps, cut[1:], strict=True)]
        for a, b in pairwise(cut[0]):
            sent = (channel >= a // per_group) & (channel <= (b - 1) // per_group)
            for rows, cols in product(*near):
                yield np.logical_and.outer(np.logical_and.outer(sent, rows), cols).ravel()

    @cached_property
    def _open(self) -> list[NDArray[np.bool_]]:
        """Per spatial axis: (outputs, kernel) whether a tap ends inside the input, and not in its padding."""
        found = []
        for out, size in zip(self._taps, self.grid[1:], strict=True):
            hit = np.zeros((size + 1, out.shape[1]), dtype=bool)
            hit[out, np.arange(out.shape[1])] = True  # -1, which leads nowhere, is the last row
            found.append(hit[:-1])
        return found

    def fan_in(self) -> Ints:
        return self._per_target

    @cached_property
    def _per_target(self) -> Ints:
        rows, cols = self._open
        kept = np.count_nonzero(self.weight, axis=1).reshape(len(self.weight), rows.shape[1], cols.shape[1])
        counts: Ints = np.einsum("oij,hi,wj->ohw", kept, rows.astype(np.int64), cols.astype(np.int64), optimize=True)
        return counts.ravel()

    def sources(self) -> int:
        taps = [int(hit.sum(axis=1).max(initial=0)) for hit in self._open]
        return int(self.weight.shape[1]) * taps[0] * taps[1]

    def fan_out(self) -> Ints:
        """(sources,) synapses of each source, zeros of the kernel included."""
        rows, cols = ((out >= 0).sum(axis=1) for out in self._taps)
        channels = np.full(self.kernel.input_shape[0], self.weight.shape[0] // self.kernel.groups)
        counts: Ints = np.multiply.outer(np.multiply.outer(channels, rows), cols).ravel()
        return counts

    def stored_weights(self) -> int:
        return int(np.count_nonzero(self.weight))
