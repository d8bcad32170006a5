"""Loops keep their time: where a layer becomes several, what comes back late comes back as late as before.

Which edges of a loop are late follows from the graph (see `Network.feedback`), and so may change with it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..errors import Problem, Refused
from .discrete import delay_steps
from .graph import SOURCES, Network
from .nodes import Delay, Neuron, Node


def as_late(before: Network, after: Network, copies: Mapping[str, tuple[str, str]]) -> Network:
    """`after` with a delay before each copy of a layer that would hear something earlier than the layer did.

    copies: by node of weights of `after`, the layer of `before` that it is, and the population it feeds. Raises
    `Refused` for a copy that would hear something later, or with what delays can not make up for.
    """
    if not before.feedback:
        return after
    found = _delayed(before, after, copies)
    if found is not after:
        left = _delayed(before, found, copies)
        if left is not found:
            raise _other_loop(sorted({layer for layer, _ in copies.values()}))
    return found


def _delayed(before: Network, after: Network, copies: Mapping[str, tuple[str, str]]) -> Network:
    nodes: dict[str, Node] = dict(after.nodes)
    edges = dict.fromkeys(after.edges)
    for name, (layer, target) in copies.items():
        wanted = {source: {lag + behind for behind in _behind(before, layer, target)}
                  for source, lag in _ahead(before, layer)}
        for a in after.inputs_of(name):
            missing = set()
            for source, lag in _ahead(after, name, a):
                for behind in _behind(after, name, target):
                    want = wanted.get(source, set())
                    missing |= {0} if lag + behind in want else {w - lag - behind for w in want}
            if missing <= {0}:
                continue
            if len(missing) > 1 or min(missing) < 0:
                raise _other_loop([layer])
            wait = f"{name}.late({a})"
            nodes[wait] = Delay(np.full(after.shapes[a], min(missing) * (after.conventions.dt or 1.0)))
            del edges[a, name]
            edges |= dict.fromkeys([(a, wait), (wait, name)])
    if len(nodes) == len(after.nodes):
        return after
    return Network(nodes, tuple(edges), after.conventions, after.notes, after.metadata, after.assumed)


def _other_loop(layers: list[str]) -> Refused:
    return Refused(Problem("it lies in a loop and feeds several populations, and there is no form for a chip in which "
                           "each hears it when it should", f"layer {', '.join(map(repr, layers))}",
                           "Give each population a layer of its own before export"))


def _ahead(network: Network, name: str, first: str | None = None) -> list[tuple[str, int]]:
    """Populations (and the input) that a node hears, each with the steps of a way to it. first: the last node but one
    on it, any without."""
    found, waiting = list[tuple[str, int]](), [(name, 0)]
    while waiting:
        here, lag = waiting.pop()
        for a in network.inputs_of(here) if here != name or first is None else (first,):
            late = lag + _lag(network, a, here)
            if isinstance(network.nodes[a], SOURCES):
                found.append((a, late))
            else:
                waiting.append((a, late + _own(network.nodes[a], network)))
    return found


def _behind(network: Network, name: str, target: str) -> list[int]:
    """Steps of each way from a node to a population."""
    found, waiting = list[int](), [(name, 0)]
    while waiting:
        here, lag = waiting.pop()
        for b in network.outputs_of(here):
            late = lag + _lag(network, here, b)
            if b == target:
                found.append(late)
            elif not isinstance(network.nodes[b], SOURCES):
                waiting.append((b, late + _own(network.nodes[b], network)))
    return found


def _lag(network: Network, a: str, b: str) -> int:
    """Steps of an edge; spikes that leave late count as such where their loop does not wait for them."""
    if (a, b) in network.feedback:
        return 1
    return network.conventions.synaptic_delay if isinstance(network.nodes[b], Neuron) else 0


def _own(node: Node, network: Network) -> int:
    """Steps of a Delay node, those of most where they differ."""
    if not isinstance(node, Delay):
        return 0
    return int(np.median(delay_steps(node, network.conventions)))
