"""What compression will leave of a connection, before there is data to compress with."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...network.connections import Connection, connections
from ...network.graph import Network
from ...network.grid import Grid
from ...network.nodes import WEIGHTED, Node

#: Weights that are looked at together: they stay in the cache.
BLOCK = 1 << 15
#: Every so many weights one is looked at first. A prime, so that no rhythm of the rows shows in it.
EVERY = 61


class Pruner:
    """Prunes one connection to many sparsities, the smallest magnitudes first, without large arrays beside the result.

    Weights that are zero already count, of equal weights the first go first, and fixed weights (of pools) stay. Of
    those that stay only the signs are kept, int8: counting needs no more.
    """

    def __init__(self, connection: Connection):
        self.connection = connection
        weight = connection.weight
        self._values = (weight if isinstance(weight, np.ndarray) else weight.data).ravel()

    def _blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        for start in range(0, self._values.size, BLOCK):
            where = slice(start, start + BLOCK)
            yield where, self._values[where]

    @cached_property
    def _sample(self) -> np.ndarray:
        return np.sort(np.abs(self._values[::EVERY]))

    def _magnitude(self, rank: int) -> Any:
        """The magnitude with `rank` weights before it, in ascending order: sought among those between two magnitudes of
        a sample that are near it on either side, and among all should it not be there."""
        sample, at = self._sample, rank // EVERY
        margin = 4 + 3 * math.isqrt(min(at, max(0, self._sample.size - at)))  # six standard deviations or more
        ends = [sample[k] if 0 <= k < sample.size else end for k, end in ((at - margin, 0), (at + margin, np.inf))]
        for low, high in (ends, (0, np.inf)):
            below, near = 0, []
            for _, values in self._blocks():
                magnitude = np.abs(values)
                below += int(np.count_nonzero(magnitude < low))
                near.append(magnitude[(magnitude >= low) & (magnitude <= high)])
            found = np.concatenate(near)
            if below <= rank < below + found.size:
                break
        found.partition(rank - below)
        return found[rank - below]

    def to(self, sparsity: float) -> Connection:
        """The connection with round(sparsity * weights) of its weights zero."""
        drop = round(sparsity * self._values.size) if self.connection.trained else 0
        if drop == 0:
            return self.connection
        level = self._magnitude(drop - 1)
        signs: NDArray[np.int8] = np.empty(self._values.size, dtype=np.int8)
        for where, values in self._blocks():
            np.subtract((values > level).view(np.int8), (values < -level).view(np.int8), out=signs[where])
        if level > 0 and (missing := signs.size - drop - int(np.count_nonzero(signs))):
            last = np.flatnonzero((self._values == level) | (self._values == -level))[-missing:]
            signs[last] = np.sign(self._values[last])
        weight = self.connection.weight
        if isinstance(weight, np.ndarray):
            return replace(self.connection, weight=signs.reshape(weight.shape))
        from scipy import sparse

        less = sparse.csr_array((signs, weight.indices, weight.indptr), shape=weight.shape)
        return replace(self.connection, weight=less)


def below_a_step(connection: Connection, bits: int) -> float:
    """The share of a connection's weights that are smaller than a step of its grid, which rounding may make 0."""
    weight = connection.weight
    values = (weight if isinstance(weight, np.ndarray) else weight.data).ravel()
    blocks = [values[start : start + BLOCK] for start in range(0, values.size, BLOCK)]
    step = max((float(np.abs(block).max()) for block in blocks), default=0.0) / Grid.levels(bits)
    return sum(int(np.count_nonzero(np.abs(block) < step)) for block in blocks) / max(1, values.size)


def filled(network: Network, found: tuple[Connection, ...]) -> tuple[Connection, ...]:
    """The connections of a network, had none of its weights been zero; themselves where none is."""
    full: dict[str, Node] = {n: replace(node, weight=np.where(node.weight == 0, node.weight.dtype.type(1), node.weight))
            for n, node in network.nodes.items()
            if isinstance(node, WEIGHTED) and np.count_nonzero(node.weight) < node.weight.size}
    if not full:
        return found
    made = {(c.name, c.source, c.target): c for c in connections(network.with_nodes(full))}
    return tuple(made.get((c.name, c.source, c.target), c) for c in found)


def limited(connection: Connection, fan_in: int) -> Connection:
    """The connection with at most `fan_in` weights that are not zero in each row (neuron, or channel of a kernel), the
    largest magnitudes; of equal ones the first stay."""
    from scipy import sparse

    weight = connection.weight
    if isinstance(weight, np.ndarray):
        rows = weight.reshape(len(weight), -1)
        if not connection.trained or np.count_nonzero(rows, axis=1).max(initial=0) <= fan_in:
            return connection
        order = np.argsort(-np.abs(rows), axis=1, kind="stable")[:, :fan_in]
        kept = np.zeros_like(rows)
        np.put_along_axis(kept, order, np.take_along_axis(rows, order, axis=1), axis=1)
        return replace(connection, weight=kept.reshape(weight.shape))
    if not connection.trained or np.diff(weight.indptr).max(initial=0) <= fan_in:
        return connection
    row = np.repeat(np.arange(weight.shape[0]), np.diff(weight.indptr))
    order = np.lexsort((np.arange(weight.nnz), -np.abs(weight.data), row))
    rank = np.empty(weight.nnz, dtype=np.int64)
    rank[order] = np.arange(weight.nnz) - weight.indptr[row[order]]
    values = np.where(rank < fan_in, weight.data, weight.data.dtype.type(0))
    return replace(connection, weight=sparse.csr_array((values, weight.indices, weight.indptr), shape=weight.shape))
