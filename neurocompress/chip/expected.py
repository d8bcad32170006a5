"""What compression will leave of a connection, before there is data to compress with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..network.connections import Connection


def pruned(connection: Connection, sparsity: float) -> Connection:
    """The connection with round(sparsity * weights) of its weights zero, the smallest magnitudes first.

    Weights that are zero already count, of equal weights the first go first, and fixed weights (of pools) stay. Of
    those that stay only the signs are kept, int8: counting needs no more, and large networks are pruned many times.
    """
    if not connection.trained or sparsity <= 0.0:
        return connection
    weight = connection.weight
    values = weight if isinstance(weight, np.ndarray) else weight.data
    magnitude = np.abs(values).ravel()
    drop = round(sparsity * magnitude.size)
    if drop == 0:
        return connection
    level = np.partition(magnitude, drop - 1)[drop - 1]
    keep = magnitude > level
    if level > 0 and (missing := magnitude.size - drop - int(np.count_nonzero(keep))):
        keep[np.flatnonzero(magnitude == level)[-missing:]] = True
    signs = keep.view(np.int8).reshape(values.shape)
    signs -= 2 * (signs & (values < 0))
    if isinstance(weight, np.ndarray):
        return replace(connection, weight=signs)
    from scipy import sparse

    return replace(connection, weight=sparse.csr_array((signs, weight.indices, weight.indptr), shape=weight.shape))


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
