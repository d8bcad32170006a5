"""What compression made of one layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..network.graph import Network
from ..network.nodes import Array, Conv, Linear, Node
from ..shown import listed, times


@dataclass(frozen=True, eq=False)
class CompressedLayer:
    """weight: in the weight's shape and the model's units, float64, exactly m * step where there is a grid.
    m: grid integers, int64, or None. step: weight units per integer, (rows, 1...) broadcastable, or None.
    grid_range: smallest and largest m of the grid. mask: weights that were kept. bias: the layer's bias after
    correction, or None. error: mean squared error of the filtered input in threshold units, summed over the outputs of
    all layers into the population, had no row been scaled (see rates); share_lost: the same relative to the input's own
    square. scale_share: end of the grid as a share of the largest weight (the mean over rows). missed_by: None, or by
    how much calibration spikes are still missed, in thresholds (0: none). dead_inputs: inputs without a calibration
    spike. damping: what the Hessian needed."""

    weight: Array
    m: np.ndarray | None
    step: Array | None
    grid_range: tuple[int, int] | None
    mask: np.ndarray
    bias: Array | None
    bits: int | None
    error: float
    share_lost: float
    scale_share: float
    missed_by: float | None
    dead_inputs: int
    damping: float

    def __repr__(self) -> str:
        return listed(f"CompressedLayer {times(self.weight.shape)}: {summary(self)}")


def summary(layer: CompressedLayer) -> str:
    """Its size, zeros, bits and loss in a few words."""
    bits = "float" if layer.bits is None else f"{layer.bits} bit"
    return (f"{layer.weight.size:,} weights, {float(np.mean(layer.weight == 0)):.1%} zeros, {bits}, "
            f"{layer.share_lost:.2%} of the potential lost")


def weights_of(network: Network, name: str) -> Linear | Conv:
    """A node of weights."""
    node = network.nodes[name]
    assert isinstance(node, (Linear, Conv))
    return node


def with_layers(network: Network, layers: Mapping[str, CompressedLayer]) -> Network:
    """The network with these layers' weights and biases."""
    changed: dict[str, Node] = {}
    for name, layer in layers.items():
        node = weights_of(network, name)
        weight = layer.weight.astype(node.weight.dtype) if node.weight.dtype.kind == "f" else layer.weight
        changed[name] = replace(node, weight=weight, bias=layer.bias)
    return network.with_nodes(changed)
