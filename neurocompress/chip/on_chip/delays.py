"""When spikes arrive: by how many steps populations run behind the input, and how long connections wait for that."""

from __future__ import annotations

import numpy as np

from ...network.connections import Connection
from ...network.graph import Network
from ...network.nodes import Neuron


def lag(network: Network, c: Connection) -> int | np.ndarray:
    """Steps that a connection takes in the model, conventions counted; (sources,) when it differs."""
    late = network.conventions.output_delay if isinstance(network.nodes[c.source], Neuron) else 0
    if c.feedback:  # takes one step in any case
        return c.delay + max(0, late - 1)
    return c.delay + network.conventions.synaptic_delay + late


def latencies(network: Network, found: tuple[Connection, ...]) -> dict[str, int]:
    """By how many steps each population runs behind the input, so that all its branches arrive together."""
    behind = {network.input: 0}
    for name in network.populations:
        into = [c for c in found if c.target == name and not c.feedback]
        behind[name] = max(
            [1, *(behind.get(c.source, 0) + 1 - int(np.min(lag(network, c))) for c in into)])
    return behind


def waits(network: Network, found: tuple[Connection, ...], circuits: bool) -> dict[int, int | np.ndarray]:
    """Steps beyond the one that every connection takes, by id of the connection; below 0 where a loop is faster in the
    model than on a chip. circuits: populations of an analog chip do not wait for each other."""
    behind = latencies(network, found)
    return {id(c): c.delay - int(c.feedback) if circuits else
            behind[c.target] + lag(network, c) - behind.get(c.source, 0) - 1 for c in found}


def extra_delays(network: Network, found: tuple[Connection, ...], circuits: bool) -> dict[int, int]:
    """`waits` as a chip has them, the most where sources differ."""
    return {key: max(0, int(np.max(wait))) for key, wait in waits(network, found, circuits).items()}
