"""How a network ends: what of it lies on a chip, what is read there, and what the host computes from it.

The class of a sample comes from spikes that are counted, from a membrane, or from layers behind the last neurons. A
chip has synapses and neurons and nothing else, so such layers get neurons of their own, which integrate without firing,
or the host computes them from what the populations before them send.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from .conventions import Reading
from .graph import SOURCES, Edge, Network
from .nodes import Array, Delay, Flatten, Input, Neuron, Node, Output, Threshold

Mode = Literal["auto", "spikes", "membrane", "host"]


@dataclass(frozen=True, eq=False)
class Tail:
    """chip: the network that lies on the chip; all of it where the host has nothing to compute. by: how the class is
    read, for people. host: nodes that the host computes, in order of computation, and edges: those into them and into
    the output. said: a sentence for each change."""

    chip: Network
    by: str
    host: dict[str, Node]
    edges: tuple[Edge, ...]
    output: Output
    said: tuple[str, ...]

    def whole(self, chip: Network) -> Network:
        """`chip`, which is `self.chip` or what became of it, with what the host computes behind it."""
        if not self.edges:
            return chip
        nodes = {n: node for n, node in chip.nodes.items() if n != chip.output} | self.host | {chip.output: self.output}
        edges = (*(e for e in chip.edges if e[1] != chip.output), *self.edges)
        return replace(chip, nodes=nodes, edges=edges)

    @property
    def sources(self) -> tuple[str, ...]:
        """Populations (and the input) from which the host computes."""
        return tuple(dict.fromkeys(a for a, _ in self.edges if a not in self.host))


def sources(network: Network) -> tuple[str, ...]:
    """Populations (and the input) between which and the output lies no other one, in order of computation."""
    return tuple(n for n in _last(network) if isinstance(network.nodes[n], SOURCES))


def between(network: Network) -> tuple[str, ...]:
    """Nodes behind the last populations, the output not among them, in order of computation."""
    return tuple(n for n in _last(network) if not isinstance(network.nodes[n], SOURCES))


def _last(network: Network) -> list[str]:
    """The last populations (or the input) and what lies behind them, the output not among it."""
    found = network.needed_for(network.inputs_of(network.output), network.populations)
    return [n for n in network.order if n in found]


def last_population(network: Network) -> str | None:
    """The one population that is the output, at most flattened; None where the network ends otherwise."""
    found = sources(network)
    plain = all(isinstance(network.nodes[n], Flatten) for n in between(network)) and not _summed(network)
    return found[0] if plain and len(found) == 1 and found[0] in network.populations else None


def _summed(network: Network) -> bool:
    return any(len(network.inputs_of(n)) > 1 for n in (*between(network), network.output))


def sends_spikes(network: Network, population: str) -> bool:
    """Whether a population (or the input) sends spikes rather than its potential."""
    node = network.nodes[population]
    return isinstance(node, (Threshold, Input)) or (isinstance(node, Neuron) and node.spiking)


def carries_spikes(network: Network, name: str) -> bool:
    """Whether a node sends spikes: those of one population (or of the input), at most flattened or delayed."""
    while not isinstance(network.nodes[name], SOURCES):
        feeds = network.inputs_of(name)
        if len(feeds) != 1 or not isinstance(network.nodes[name], (Flatten, Delay, Output)):
            return False
        (name,) = feeds
    return sends_spikes(network, name)


def ends_in_spikes(network: Network) -> bool:
    """Whether the outputs are spikes of one population."""
    last = last_population(network)
    return last is not None and sends_spikes(network, last)


def read(network: Network, output: np.ndarray) -> Array:
    """What the class is the largest of, float64 (samples, outputs). output: (samples, timesteps, *shape)."""
    return scores(output, "mean" if ends_in_spikes(network) else network.conventions.reading)


def scores(output: np.ndarray, reading: Reading) -> Array:
    """`read` of an output by itself; a mean is given as the sum over time, which spikes are counted by."""
    flat = output.reshape(*output.shape[:2], -1)
    if reading == "mean":
        return np.asarray(flat.sum(axis=1, dtype=np.float64))
    return np.asarray(flat[:, -1] if reading == "last" else flat.max(axis=1), dtype=np.float64)


def read_by(network: Network) -> str:
    """How `read` reads, for people."""
    last = last_population(network)
    if last is not None:
        return described(last, sends_spikes(network, last), network.conventions.reading)
    how = HOW[network.conventions.reading].format("their")
    return f"outputs of {named(network.inputs_of(network.output))}, {how}"


def described(population: str, spiking: bool, reading: Reading) -> str:
    """How the class is read of one population."""
    return f"spike count of '{population}'" if spiking else f"membrane of '{population}', {HOW[reading].format('its')}"


HOW: dict[Reading, str] = {"mean": "{} mean over time", "last": "{} last value", "max": "{} maximum over time"}


def named(names: Iterable[str]) -> str:
    """Nodes for people."""
    return " + ".join(f"'{n}'" for n in names)
