"""Firing as often as before: how much stronger each row must be for its neurons to send as many spikes as they did.

Least squares shrinks: what pruning took away is missing from a potential's variance, and so is what can not be told
from the compressed spikes that a layer follows. Weaker potentials reach the threshold more rarely, layer after layer
(signal collapse: Saikumar and Varghese 2025, arXiv 2502.15790, who restore the statistics of batch norms; here are
none). One number for each row, found on the calibration data, restores the firing rate.
"""

from __future__ import annotations

import numpy as np

from ...network.nodes import Array

#: Gains that are tried; between them the number of spikes is interpolated.
GAINS = tuple(np.geomspace(0.7, 3.0, 12).tolist())


def row_scales(found: Array, wanted: Array) -> Array:
    """What to multiply each row of the weights into a population by, (rows,) float64, within the range of GAINS.

    found: spikes of each row's neurons (rows are neurons, or channels when neurons share weights) at each of GAINS,
    (gains, rows). wanted: their spikes before compression. A row whose neurons were silent, or are with any gain, stays
    as it is.
    """
    scales = np.ones(len(wanted))
    for row in np.flatnonzero((wanted > 0) & found.any(axis=0)):
        rising = np.maximum.accumulate(found[:, row])
        first = int(np.argmax(rising >= rising[-1]))  # beyond it a gain changes nothing
        scales[row] = np.interp(wanted[row], rising[: first + 1], GAINS[: first + 1])
    return scales
