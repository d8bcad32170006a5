"""What compression will leave of a connection, before there is data to compress with."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..network.connections import Connection


class Pruner:
    """Prunes one connection to many sparsities, the smallest magnitudes first, without new large arrays each time.

    Weights that are zero already count, of equal weights the first go first, and fixed weights (of pools) stay. Of
    those that stay only the signs are kept, int8: counting needs no more.
    """

    def __init__(self, connection: Connection):
        self.connection = connection
        weight = connection.weight
        self._values = (weight if isinstance(weight, np.ndarray) else weight.data).ravel()

    @cached_property
    def _shuffled(self) -> np.ndarray:
        """The magnitudes in any order: every search for a level partitions them further."""
        return np.asarray(np.abs(self._values))

    def to(self, sparsity: float) -> Connection:
        """The connection with round(sparsity * weights) of its weights zero."""
        drop = round(sparsity * self._values.size) if self.connection.trained else 0
        if drop == 0:
            return self.connection
        self._shuffled.partition(drop - 1)
        level = self._shuffled[drop - 1]
        signs: NDArray[np.int8] = (self._values > level).view(np.int8)
        signs -= (self._values < -level).view(np.int8)
        if level > 0 and (missing := signs.size - drop - int(np.count_nonzero(signs))):
            last = np.flatnonzero((self._values == level) | (self._values == -level))[-missing:]
            signs[last] = np.sign(self._values[last])
        weight = self.connection.weight
        if isinstance(weight, np.ndarray):
            return replace(self.connection, weight=signs.reshape(weight.shape))
        from scipy import sparse

        less = sparse.csr_array((signs, weight.indices, weight.indptr), shape=weight.shape)
        return replace(self.connection, weight=less)


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
