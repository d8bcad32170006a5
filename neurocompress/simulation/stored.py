"""Weights as a platform stores them, where its conventions say so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..network.graph import SOURCES, Network
from ..network.nodes import WEIGHTED, Neuron, Node


def weights_into(network: Network, population: str) -> tuple[str, ...]:
    """Names of the weighted nodes between the populations before and this one."""
    found: list[str] = []
    seen: set[str] = set()
    waiting = [*network.inputs_of(population)]
    while waiting:
        name = waiting.pop(0)
        if name in seen or isinstance(network.nodes[name], SOURCES):
            continue
        seen.add(name)
        if isinstance(network.nodes[name], WEIGHTED):
            found.append(name)
        waiting += network.inputs_of(name)
    return tuple(found)


def as_stored(network: Network) -> Network:
    """The network with the weights that its platform really uses.

    "int8-per-target": all weights into one population share the scale 127 / max |w| and lose their
    fraction (truncation toward zero), as py-spinnaker2 stores them; values stay in the network's units.
    """
    if network.conventions.weights == "float":
        return network
    changed: dict[str, Node] = {}
    for population in network.populations:
        names = weights_into(network, population) if isinstance(network.nodes[population], Neuron) else ()
        nodes = {n: node for n in names if isinstance(node := network.nodes[n], WEIGHTED)}
        largest = max((float(np.abs(node.weight).max()) for node in nodes.values()), default=0.0)
        for name, node in nodes.items():
            if largest > 0:
                scale = 127.0 / largest
                weight = np.trunc(node.weight.astype(np.float64) * scale) / scale
                changed[name] = replace(node, weight=weight)
    return replace(network.with_nodes(changed), conventions=replace(network.conventions, weights="float"))
