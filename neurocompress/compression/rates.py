"""Firing as often as before: how much stronger each row must be for its neurons to send as many spikes as they did.

Least squares shrinks: what pruning took away is missing from a potential's variance, and so is what can not be told
from the compressed spikes that a layer follows. Weaker potentials reach the threshold more rarely, layer after layer
(signal collapse: Saikumar and Varghese 2025, arXiv 2502.15790, who restore the statistics of batch norms; here are
none). One number for each row, found on the calibration data, restores the firing rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from ..network.graph import Network
from ..network.nodes import Array, Neuron, Node
from ..simulation.float import batches

#: Gains that are tried; between them the number of spikes is interpolated.
GAINS = tuple(np.geomspace(0.7, 3.0, 12).tolist())


def row_scales(network: Network, population: str, wanted: Array, spikes: np.ndarray, device: str = "cpu") -> Array:
    """What to multiply each row of the weights into `population` by, (rows,) float64, within the range of GAINS.

    network: compressed up to and with the layers into the population. wanted: spikes of each row's neurons (rows are
    neurons, or channels when neurons share weights) before compression, over all of the calibration data `spikes`
    (samples, timesteps, *input shape). A row whose neurons were silent, or are with any gain, stays as it is.
    """
    found = _counts(network, population, GAINS, len(wanted), spikes, device)
    scales = np.ones(len(wanted))
    for row in np.flatnonzero((wanted > 0) & found.any(axis=0)):
        rising = np.maximum.accumulate(found[:, row])
        first = int(np.argmax(rising >= rising[-1]))  # beyond it a gain changes nothing
        scales[row] = np.interp(wanted[row], rising[: first + 1], GAINS[: first + 1])
    return scales


def plain(network: Network, population: str, layers: Sequence[str]) -> bool:
    """Whether these layers alone make neurons spike that do not hear themselves."""
    node = network.nodes[population]
    looped = any(population in group and network.is_loop(group) for group in network.groups)
    return (isinstance(node, Neuron) and node.spiking and not looped
            and set(network.inputs_of(population)) <= set(layers))


def _counts(network: Network, population: str, gains: Sequence[float], rows: int, spikes: np.ndarray, device: str
            ) -> Array:
    """Spikes of each row's neurons over all data at each gain of what they receive, float64 (gains, rows)."""
    probe, copies = _probe(network, population, gains)
    total = np.zeros((len(gains), rows))
    for signals in batches(probe, spikes, copies, device=device):
        for k, name in enumerate(copies):
            each = signals[name].sum(dim=(0, 1)).reshape(rows, -1)
            total[k] += each.sum(1, dtype=torch.float64).cpu().numpy()
    return total


def _probe(network: Network, population: str, gains: Sequence[float]) -> tuple[Network, tuple[str, ...]]:
    """The network with a copy of the population for each gain beside it, and the copies' names.

    Thresholds, resets and leak potentials divided by a gain are what multiplying the input by it is.
    """
    node = network.nodes[population]
    assert isinstance(node, Neuron)
    mark = "@" * (1 + max(map(len, network.nodes)))  # longer than any name that is taken
    copies: dict[str, Node] = {f"{mark}{k}": _stronger(node, gain) for k, gain in enumerate(gains)}
    edges = tuple((source, name) for name in copies for source in network.inputs_of(population))
    return replace(network, nodes=network.nodes | copies, edges=network.edges + edges), tuple(copies)


def _stronger(node: Neuron, gain: float) -> Neuron:
    levels = {name: value / gain for name in ("v_threshold", "v_reset", "v_leak")
              if (value := getattr(node, name)) is not None}
    return replace(node, **levels)
