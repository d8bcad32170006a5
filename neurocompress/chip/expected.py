"""What compression will leave of a connection, before there is data to compress with."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..network.connections import Connection

if TYPE_CHECKING:
    pass


def pruned(connection: Connection, sparsity: float) -> Connection:
    """The connection with round(sparsity * weights) of its weights zero, the smallest magnitudes first.

    Weights that are zero already count, of equal weights the first go first, and fixed weights (of pools) stay.
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
    ties = np.flatnonzero(magnitude == level)
    keep[ties[drop - int(np.count_nonzero(magnitude < level)) :]] = True
    kept = np.where(keep.reshape(values.shape), values, values.dtype.type(0))
    if not isinstance(weight, np.ndarray):
        from scipy import sparse

        kept = sparse.csr_array((kept, weight.indices, weight.indptr), shape=weight.shape)
    return replace(connection, weight=kept)
