"""How many time steps the edges of a network take, by its graph and its conventions, and who goes first in a loop."""

from __future__ import annotations

from graphlib import TopologicalSorter

from ..network.graph import SOURCES, Network
from ..network.nodes import Neuron


def lag_of(network: Network, source: str, target: str) -> int:
    """Time steps that an edge takes beside what its source is late already."""
    rule = network.conventions
    if (source, target) in network.feedback:
        return max(0, 1 - rule.output_delay) if _late(network, source) else 1
    return rule.synaptic_delay if isinstance(network.nodes[target], Neuron) else 0


def silent_steps(network: Network, source: str, target: str) -> int:
    """Steps at the start in which an edge delivers nothing, not even the biases on its way."""
    return int((source, target) in network.feedback and not network.conventions.recurrent_bias_at_start)


def turns(network: Network, group: tuple[str, ...]) -> tuple[str, ...]:
    """The nodes of a loop in an order in which each finds in a step what it needs of that step."""
    if network.conventions.output_delay == 0:
        return group
    waits: dict[str, list[str]] = {}
    for name in group:
        same = [a for a in network.inputs_of(name) if a in group and not isinstance(network.nodes[a], Neuron)]
        waits[name] = [a for a in same if (a, name) not in network.feedback or lag_of(network, a, name) == 0]
    return tuple(TopologicalSorter(waits).static_order())


def _late(network: Network, source: str) -> bool:
    """Whether all that a node sends comes from spikes that left late, so that feedback waits no further."""
    sent = [network.nodes[n] for n in network.needed_for([source], network.populations)]
    return network.conventions.output_delay > 0 and all(
        isinstance(node, Neuron) for node in sent if isinstance(node, SOURCES))
