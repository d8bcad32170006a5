"""A network cut in two behind its first population: what a host computes from real values, and what a chip receives.

With direct coding (the picture itself in every step) the first population is what turns values into spikes. Where the
chip takes no values, the host computes everything up to and including that population, and the chip receives its
spikes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from ..errors import Problem, Refused
from .chip_form import chip_form
from .connections import connections
from .graph import Network
from .nodes import WEIGHTED, Conv, Input, Linear, Neuron, Node, Output, Scale, Threshold

#: How values reach a chip: as spikes, as whole numbers of graded spikes, or as the spikes of what a host computes.
InputMode = Literal["auto", "spikes", "graded", "host"]
MODES: tuple[str, ...] = get_args(InputMode)


@dataclass(frozen=True, eq=False)
class Split:
    """host: from the input to the population `encoder`. chip: the rest; its input is called `encoder`, and takes that
    population's spikes."""

    host: Network
    chip: Network
    encoder: str


def split(network: Network) -> Split:
    """The network cut behind the first population through which everything passes.

    Everything that this population depends on is the host's: branches of the input that join before it, loops around
    it. Raises `Refused` where no such population leaves anything to the chip, naming what stands in the way.
    """
    for name in network.populations:
        if (found := cut_behind(network, name)) is not None:
            return found
    first = [n for n in network.populations if _spikes(network, n)]
    if len(network.populations) < 2:
        why, fix = "the host would compute all of its neurons, and nothing is left for the chip", (
            "Encode the values as spikes before they reach the network (--input spikes)")
    elif not first:
        why, fix = "none of its populations spikes, so the host has no spikes to send", "Give the first one a threshold"
    else:
        why, fix = ("no population between the input and the last one passes everything on: the values, or the spikes "
                    "of several populations, reach the rest by ways of their own"), (
            "Encode the values as spikes, or put one population behind the layer that receives them")
    raise Refused(Problem(why, f"input '{network.input}'", fix))


def cut_behind(network: Network, encoder: str) -> Split | None:
    """The network cut behind this population; None where other nodes that it depends on (the input, a loop) also send
    to the rest, where it sends potentials, or where neither neurons nor weights are left."""
    if not _spikes(network, encoder):
        return None
    before = network.needed_for([encoder])
    leaving = {a for a, b in network.edges if a in before and b not in before}
    rest = [n for n, node in network.nodes.items()
            if n not in before and isinstance(node, (Neuron, Threshold, *WEIGHTED))]
    if network.input not in before or leaving != {encoder} or not rest:
        return None
    chip = replace(
        network,
        nodes={encoder: Input(network.shapes[encoder])}
        | {n: node for n, node in network.nodes.items() if n not in before},
        edges=tuple((a, b) for a, b in network.edges if b not in before))
    return Split(up_to(network, [encoder]), chip, encoder)


def up_to(network: Network, populations: Sequence[str]) -> Network:
    """These populations and all that they depend on; the first one's spikes are its output."""
    needed = network.needed_for(populations)
    return replace(
        network, nodes={n: node for n, node in network.nodes.items() if n in needed} | {network.output: Output()},
        edges=(*((a, b) for a, b in network.edges if a in needed and b in needed), (populations[0], network.output)))


def joined(host: Network, chip: Network) -> Network:
    """The whole network again, in the chip's conventions; weights of either part may have changed."""
    encoder = chip.input
    nodes = {n: node for n, node in host.nodes.items() if n != host.output}
    nodes |= {n: node for n, node in chip.nodes.items() if n != encoder}
    edges = tuple((a, b) for a, b in host.edges if b != host.output) + chip.edges
    return replace(chip, nodes=nodes, edges=edges, metadata={n: m for n, m in (host.metadata | chip.metadata).items()
                                                              if not n or n in nodes})


def scaled(network: Network, scale: float) -> Network:
    """The network, in `chip_form`, for inputs divided by `scale`: what leaves the input is multiplied by it."""
    name = f"{network.input}.scale"
    while name in network.nodes:
        name += "_"
    edges = tuple((name if a == network.input else a, b) for a, b in network.edges)
    made = chip_form(replace(network, nodes=network.nodes | {name: Scale(np.asarray(scale))},
                             edges=((network.input, name), *edges)))
    return replace(made, notes=network.notes)  # that the scale is folded into the weights is no news


def unscaled(network: Network, scale: float) -> Network:
    """A network that `scaled` made, for the values themselves again."""
    changed: dict[str, Node] = {}
    for name in behind_input(network):
        node = network.nodes[name]
        assert isinstance(node, (Linear, Conv))
        changed[name] = replace(node, weight=node.weight / scale)
    return network.with_nodes(changed)


def behind_input(network: Network) -> tuple[str, ...]:
    """Nodes of weights of the connections from the input of a network in `chip_form`."""
    return tuple(dict.fromkeys(c.layer for c in connections(network) if c.source == network.input and c.trained))


def _spikes(network: Network, name: str) -> bool:
    node = network.nodes[name]
    return isinstance(node, Threshold) or (isinstance(node, Neuron) and node.spiking)
