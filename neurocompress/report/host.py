"""What a host computes beside the chip: counted apart, for none of it is the chip's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..network.graph import Network
from ..network.nodes import Conv, Input, Linear, Node, Output, Scale, Shape, parameters


@dataclass(frozen=True)
class HostWork:
    """layers: nodes in order of computation. macs: multiply-accumulates of a sample, all weights in every step, padding
    and zeros counted, as frameworks count them. neuron_updates: of a sample."""

    layers: tuple[str, ...]
    neurons: int
    parameters: int
    macs: int
    neuron_updates: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"layers": list(self.layers)}


def host_work(network: Network, steps: int) -> HostWork:
    """Of a network that the host runs for `steps` time steps a sample, in floating point."""
    return work_of(network, (n for n in network.order if not isinstance(network.nodes[n], (Input, Output))), steps)


def work_of(network: Network, nodes: Iterable[str], steps: int) -> HostWork:
    """Of some nodes of a network."""
    names = tuple(nodes)
    neurons = sum(int(np.prod(network.shapes[n])) for n in network.populations if n in names)
    return HostWork(
        names, neurons, sum(parameters(network.nodes[n]) for n in names),
        steps * sum(macs(network.nodes[n], network.shapes[n]) for n in names), steps * neurons)


def macs(node: Node, shape: Shape) -> int:
    """Multiply-accumulates of a node in one step; shape: of what it gives. Pools only add."""
    if isinstance(node, Linear):
        return int(node.weight.size)
    if isinstance(node, Conv):
        return int(node.weight.size) * int(np.prod(shape[1:]))
    return int(np.prod(shape)) if isinstance(node, Scale) else 0
