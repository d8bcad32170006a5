"""Spikes from core to core."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .layer import Layer
from .synapse_counts import Ints, pieces

Floats = NDArray[np.float64]


def traffic(layers: Sequence[Layer], cores: int, rates: Mapping[str, Floats] | None = None) -> Floats:
    """(cores, cores) spikes per step from core to core, one for each piece that listens to a neuron.

    rates: spikes per step of each neuron, (neurons,) by population; every neuron spikes in every step without, and
    partial sums are sent in every step.
    """
    found = np.zeros((cores, cores))
    by_name = {layer.name: layer for layer in layers}
    for layer in layers:
        for i in layer.incoming:
            source = by_name.get(i.connection.source)
            if source is None:
                continue
            known = (rates or {}).get(source.name)
            rate = np.ones(int(source.neurons.sum())) if known is None else known
            where = _pieces_of(source)
            for piece, heard in enumerate(i.fan.touched(layer.cut)):
                sums = np.bincount(where[heard], weights=rate[heard], minlength=source.cores)
                np.add.at(found[:, layer.at[piece]], source.at, sums)
    return found


def _pieces_of(layer: Layer) -> Ints:
    """(neurons,) the piece that each neuron is in."""
    grid = tuple(bounds[-1] for bounds in layer.cut)
    found = np.zeros(grid, dtype=np.int64)
    for k, cell in enumerate(pieces(layer.cut)):
        found[cell] = k
    return found.ravel()
