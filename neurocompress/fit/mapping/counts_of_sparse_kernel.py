"""A convolution of which every synapse is stored for itself, zeros left out: its matrix is counted, never built."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise, product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...network.connections import Connection
from .counts_of_kernel import KernelFan
from .counts_of_matrix import remembered
from .synapse_counts import Cut, Format, Ints, Load, sizes

if TYPE_CHECKING:
    from scipy import sparse


@dataclass(frozen=True, eq=False)
class ChannelPart(Connection):
    """Some source channels of a convolution. weight: of the whole convolution."""

    whole: Connection = field(kw_only=True)
    channels: slice = field(kw_only=True)

    def matrix(self) -> sparse.csr_array:
        assert self.whole.kernel is not None
        weight = np.zeros_like(self.whole.weight)
        weight[:, self.channels] = self.whole.weight[:, self.channels]
        return self.whole.kernel.matrix(weight)


@dataclass(frozen=True, eq=False)
class ThinFan(KernelFan):
    """A convolution without groups, or some of its source channels."""

    channels: slice = field(kw_only=True)

    @property
    def weight(self) -> np.ndarray:
        return np.asarray(self.connection.weight)[:, self.channels]

    def axons(self, cut: Cut) -> Ints:
        return super().axons(cut) if self.solid else np.zeros(1, dtype=np.int64)

    @cached_property
    def solid(self) -> bool:
        """Whether no weight is zero: then all parts of so many channels are alike."""
        return bool(np.count_nonzero(self.weight) == self.weight.size)

    def heard(self, cut: Cut, every: int = 1) -> Ints:
        if self.solid:
            return super().axons(cut)[::every]
        (rows, uses_r), (cols, uses_c) = self._patterns(0, cut[1]), self._patterns(1, cut[2])
        through = np.kron(rows, cols).T.astype(np.float32)  # (taps, patterns); counts stay below 2^24, so exact
        before = self._kept_before
        kept = before[np.asarray(cut[0][1:])] - before[np.asarray(cut[0][:-1])]  # (cells, source channels, taps)
        alive = np.count_nonzero(kept @ through, axis=1).reshape(len(kept), len(rows), len(cols))
        found: Ints = np.einsum("npq,hp,wq->nhw", alive, uses_r, uses_c, optimize=True).ravel()[::every]
        return found

    def load(self, cut: Cut, form: Format, every: int = 1) -> Load:
        return remembered(self._loads, self._lists, cut, form, every)

    def _lists(self, cut: Cut, every: int) -> Iterator[tuple[int, Ints]]:
        """(neurons, sources with 0, 1, 2... synapses) of runs of alike pieces. Sources of a channel that reach a piece
        through the same taps have lists of one length: patterns of taps are counted once for all places."""
        rows, uses_r = self._patterns(0, cut[1])
        cols, uses_c = self._patterns(1, cut[2])
        through = np.kron(rows, cols).T.astype(np.float32)  # (taps, patterns); all counts stay below 2^24, so exact
        n_places, n_patterns = len(uses_r) * len(uses_c), through.shape[1]
        uses = np.einsum("hp,wq->hwpq", uses_r, uses_c).reshape(n_places, n_patterns).astype(np.float64)
        neurons = sizes(cut).reshape(-1, n_places)
        for k, ((a, b), each) in enumerate(zip(pairwise(cut[0]), neurons, strict=True)):
            chosen = slice(-k * n_places % every, None, every)
            each = each[chosen]
            if not each.size:
                continue
            lengths = ((self._kept_before[b] - self._kept_before[a]) @ through).astype(np.int64)  # (channels, patterns)
            most = max(int(lengths.max(initial=0)), int(each.max())) + 1
            alike = np.bincount((lengths + most * np.arange(n_patterns)).ravel(), minlength=most * n_patterns)
            found = (uses[chosen] @ alike.reshape(n_patterns, most).astype(np.float64)).astype(np.int64)
            ends = [0, *(np.flatnonzero(np.diff(each)) + 1).tolist(), each.size]
            for first, last in pairwise(ends):
                n = int(each[first])
                yield n, found[first:last, : n + 1]

    def _sent(self, cut: Cut) -> Iterator[NDArray[np.float32]]:
        """(sources,) synapses of each source in each piece."""
        within = [[((out >= a) & (out < b)).astype(np.float32) for a, b in pairwise(bounds)]
                  for out, bounds in zip(self._taps, cut[1:], strict=True)]
        for a, b in pairwise(cut[0]):
            kept = self._kept_before[b] - self._kept_before[a]
            kept = kept.reshape(len(kept), within[0][0].shape[1], within[1][0].shape[1])
            for rows, cols in product(*within):
                found = np.zeros((self.kernel.input_shape[0], len(rows), len(cols)), dtype=np.float32)
                found[self.channels] = rows @ (kept @ cols.T)
                yield found.ravel()

    def reach(self, cut: Cut) -> Ints:
        found = np.zeros(self.connection.n_sources, dtype=np.int64)
        for heard in self.touched(cut):
            found += heard
        return found

    def touched(self, cut: Cut) -> Iterator[NDArray[np.bool_]]:
        for sent in self._sent(cut):
            yield sent > 0

    def sources(self) -> int:
        return int(self.fan_in().max(initial=0))

    def fan_out(self) -> Ints:
        return next(self._sent(tuple((0, n) for n in self.grid))).astype(np.int64)

    def stored_weights(self) -> int:
        return int(self.fan_in().sum())


def channel_parts(c: Connection, parts: int, limit: int) -> list[ThinFan]:
    """A convolution without groups in parts of at most `limit` synapses for each neuron, by source channels; none where
    that does not keep the limit."""
    assert c.kernel is not None
    n, found = c.source_shape[0], []
    bounds = np.searchsorted(np.arange(n) * parts // n, np.arange(parts + 1)).tolist()
    for channels in (slice(a, b) for a, b in pairwise(bounds)):
        part = ChannelPart(c.name, c.source, c.target, c.weight, None, None, c.source_shape, c.target_shape, c.delay,
                           c.feedback, c.trained, c.repeats, c.node, whole=c, channels=channels)
        found.append(ThinFan(part, c.kernel, channels=channels))
        if found[-1].sources() > limit:
            return []
    return found
