"""How far apart two runs of a layer are: Van Rossum distance of spike trains, earth mover's distance of rates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import refuse

#: Differences of one block of neurons take this many bytes: what a core's cache holds.
BLOCK_BYTES = 2**20


def van_rossum(a: np.ndarray, b: np.ndarray, tau: float) -> NDArray[np.float64]:
    """Van Rossum distance of spike trains a and b, both (samples, steps, *shape): (samples, *shape) float64.

    Both trains pass the filter k[t] = (1 - 1/tau)^t / tau, tau in steps; the distance is the 2-norm over time of what
    differs. SBC's loss ||M S - M S'||^2 is the sum of the squares over neurons. Sources: van Rossum 2001; its discrete
    form from Spiking Brain Compression. Raises `Refused` for shapes that differ or tau below one step.
    """
    if a.shape != b.shape or a.ndim < 2:
        raise refuse(f"spike trains of shapes {a.shape} and {b.shape} can not be compared",
                     fix="Record the same node over the same samples and steps, (samples, steps, *shape)")
    if not 1 <= tau < float("inf"):
        raise refuse(f"tau is {tau} steps", fix="Give a time constant of one step or more, e.g. tau_mem / dt")
    samples, steps, *shape = a.shape
    x, y = a.reshape(samples, steps, -1), b.reshape(samples, steps, -1)
    squared = np.zeros((samples, x.shape[2]))
    for k in range(samples):
        differs = np.flatnonzero((x[k] != y[k]).any(axis=0))  # equal trains have no distance
        block = max(1, BLOCK_BYTES // (8 * max(steps, 1)))
        for start in range(0, len(differs), block):
            here = differs[start : start + block]
            # float64 before the difference: unsigned integers would wrap
            difference = x[k][:, here].astype(np.float64) - y[k][:, here]
            filtered = np.zeros(len(here))
            for t in range(steps):
                filtered *= 1 - 1 / tau
                filtered += difference[t] / tau
                squared[k, here] += filtered**2
    return np.sqrt(squared).reshape(samples, *shape)


def earth_movers(a: np.ndarray, b: np.ndarray) -> float:
    """Earth mover's distance between the distributions of firing rates a and b, both (neurons,), in their unit.

    Between distributions of as many values each it is the mean distance of the sorted values.
    """
    if a.shape != b.shape or a.ndim != 1 or not a.size:
        raise refuse(f"firing rates of shapes {a.shape} and {b.shape} can not be compared",
                     fix="Give the rates of the same population, one per neuron")
    return float(np.mean(np.abs(np.sort(a.astype(np.float64)) - np.sort(b.astype(np.float64)))))
