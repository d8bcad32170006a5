"""When a spike resets its neuron: in the step in which it fires, or in the next one, after the decay."""

from __future__ import annotations

from .graph import Network
from .nodes import Neuron


def resets_late(network: Network, name: str) -> bool:
    """Whether a population resets in the step after its spike, behind the decay (convention `reset_delay`).

    By subtraction always. A reset to zero that comes late and before the decay (snnTorch's Leaky) gives the spikes of
    one at once, and is run so. Behind the decay, where what arrives is lost with the potential, it is in snnTorch's
    neurons with a synapse or with feedback of their own (Synaptic, RLeaky, RSynaptic; snntorch 1.0.0, _base_zero).
    """
    node, rule = network.nodes[name], network.conventions
    if not rule.reset_delay or not isinstance(node, Neuron) or not node.spiking:
        return False
    return rule.reset == "subtract" or node.tau_syn is not None or name in network.driven_by(name)
