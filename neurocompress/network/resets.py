"""When a spike resets its neuron: in the step in which it fires, or in the next one, after the decay."""

from __future__ import annotations

from .graph import Network
from .nodes import Neuron, Threshold


def resets_late(network: Network, name: str) -> bool:
    """Whether a population resets in the step after its spike, behind the decay (convention `reset_delay`).

    By subtraction always. A reset to zero that comes late and before the decay (snnTorch's Leaky) gives the spikes of
    one at once, and is run so. Behind the decay, where what arrives is lost with the potential, it is in snnTorch's
    neurons with a synapse or with feedback of their own (Synaptic, RLeaky, RSynaptic; snntorch 1.0.0, _base_zero).
    """
    node, rule = network.nodes[name], network.conventions
    if not rule.reset_delay or not isinstance(node, Neuron) or not node.spiking:
        return False
    return rule.reset == "subtract" or node.tau_syn is not None or feeds_itself(network, name)


def feeds_itself(network: Network, name: str) -> bool:
    """Whether spikes of a population come back to it with no other population between."""
    seen: set[str] = set()
    waiting = list(network.outputs_of(name))
    while waiting:
        at = waiting.pop()
        if at == name:
            return True
        if at not in seen and not isinstance(network.nodes[at], (Neuron, Threshold)):
            seen.add(at)
            waiting += network.outputs_of(at)
    return False
