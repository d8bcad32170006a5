"""Statistics of all stages of a network, as the walk takes them, by group of layers and by population."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from neurocompress.compression.layerwise.asymmetric import _compared
from neurocompress.compression.layerwise.calibrate import calibrate
from neurocompress.compression.maths.hessian import Bias
from neurocompress.compression.network_model import NetworkModel
from neurocompress.compression.oneshot import row_gains
from neurocompress.network.graph import Network

Group = tuple[str, ...]


@dataclass
class Found:
    hessians: dict[Group, Tensor]
    energies: dict[Group, np.ndarray]
    biases: dict[Group, Bias]
    counts: dict[str, np.ndarray]


def model_of(network: Network, x: np.ndarray | None) -> NetworkModel:
    return NetworkModel(network, row_gains(network), x)


def statistics(network: Network, x: np.ndarray, membrane: bool = True) -> Found:
    model, found = model_of(network, x), Found({}, {}, {}, {})
    stream = model.stream()
    for stage in model.stages():
        one = calibrate(stage, stream, len(x), membrane=membrane)
        found.hessians |= one.hessians
        found.energies |= one.energies
        found.biases |= one.biases
        if one.counts is not None:
            found.counts[stage.population] = one.counts
    return found


def crossed(before: Network, after: Network, x: np.ndarray) -> tuple[dict[Group, Tensor], dict[Group, Tensor]]:
    """By group, 2 E[(MX)^T MX'] and 2 E[(MX')^T MX'] of the inputs X before and X' after."""
    model = model_of(before, x)
    own: dict[Group, Tensor] = {}
    both: dict[Group, Tensor] = {}
    one, two = model.stream(), model_of(after, x).stream()
    for stage in model.stages():
        found = _compared(stage, one, two, np.arange(len(x)), stage.step)
        both |= {g: h.mean() for g, h in found.crossed.items()}
        own |= {g: h.mean() for g, h in found.own.items()}
    return both, own
