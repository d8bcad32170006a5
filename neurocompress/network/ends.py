"""Where the chip ends: the network that lies on it, a population of its own at its end where needed, and the host's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..errors import refuse
from .graph import Network
from .nodes import Flatten, Neuron, Node, Output, Pool, Threshold
from .readout import Mode, Tail, between, last_population, named, read_by, sends_spikes, sources

#: Name of the population that integrates what layers behind the last neurons send.
MEMBRANE = "readout"


def tail(
    network: Network, mode: Mode = "auto", *, kinds: tuple[str, ...] | None = None, membrane: bool | None = None,
    chip: str = "the chip",
) -> Tail:
    """What of a network lies on a chip and what the host computes, so that the class is the same.

    mode: "auto" takes what the network has: spikes are counted, a membrane is read where the chip can, and layers
    behind the last neurons get neurons that integrate without firing where the chip has such and can read them; the
    host computes the rest. "spikes", "membrane" and "host" ask for one of them; "membrane" takes the threshold from a
    last population that spikes. kinds: of neurons that the chip has, None when unknown. membrane: whether it can read
    a membrane, None when unknown. chip: its name, for people. Raises `Refused` for what can not be.
    """
    last = last_population(network)
    summed = last is None and not between(network) and all(sends_spikes(network, s) for s in sources(network))
    if mode == "spikes" and not summed and (last is None or not sends_spikes(network, last)):
        end = f"layers {named(between(network))}" if last is None else f"'{last}', which never spikes"
        raise refuse(f"the network ends in {end}: there are no spikes to count", where=f"output '{network.output}'",
                     fix="Use --readout auto, membrane or host")
    if last is not None and sends_spikes(network, last):
        return _all(without_threshold(network, last) if mode == "membrane" else network)
    if mode == "host" or (mode == "spikes" and summed):
        return _cut(network, keep_membranes=False)
    if last is not None:
        node = network.nodes[last]
        there = membrane is not False and (kinds is None or (isinstance(node, Neuron) and node.kind in kinds))
        if there or mode == "membrane" or network.driven_by(last):
            return _all(network)
        why = f"{chip} has no {node.kind} neurons" if membrane is not False else f"{chip} can not show a membrane"  # type: ignore[union-attr]
        return _cut(network, keep_membranes=False, why=why)
    if mode == "membrane" and not all(sends_spikes(network, s) for s in sources(network)):
        raise refuse("what lies behind a membrane can not be integrated by neurons: a chip sends spikes",
                     where=f"layers {named(between(network))}", fix="Use --readout auto or host")
    if mode == "membrane" or (membrane and kinds is not None and "I" in kinds and integrable(network)):
        return _all(with_membrane(network), "the class is the same as of their outputs")
    return _cut(network, keep_membranes=membrane is not False)


def integrable(network: Network) -> bool:
    """Whether a population behind the last layers gives the class that their outputs give."""
    rule = network.conventions
    prompt = rule.synaptic_delay == 0 and rule.output_delay == 0  # else it would miss the last step
    held = rule.reading == "mean" or not rule.input_decays
    return prompt and held and all(sends_spikes(network, s) for s in sources(network))


def with_membrane(network: Network) -> Network:
    """The network with a population that never fires between its last layers and the output.

    Its last value is the sum of all outputs where their mean is read; where their last or largest one is, it keeps
    nothing of the step before. Averages are sums there: their factor changes no class.
    """
    name, rule, network = MEMBRANE, network.conventions, _without_averages(network)
    while name in network.nodes:
        name += "_"
    shape, one = network.shapes[network.output], np.ones((), dtype=np.float32)
    if rule.reading == "mean":
        node = Neuron(shape, r=one)
        rule = replace(rule, reading="last")
    else:
        tau = (rule.dt or 1.0) / (1.0 if rule.decay == "euler" else 1000.0)
        node = Neuron(shape, r=one, tau_mem=np.asarray(tau))
    edges = tuple((a, name if b == network.output else b) for a, b in network.edges)
    nodes: dict[str, Node] = {}
    for n, old in network.nodes.items():
        if n == network.output:
            nodes[name] = node
        nodes[n] = old
    return replace(network, nodes=nodes, edges=(*edges, (name, network.output)), conventions=rule)


def _without_averages(network: Network) -> Network:
    """The network with sums instead of averages behind its last population, where nothing else lies there."""
    tail = [network.nodes[n] for n in between(network)]
    if len(sources(network)) > 1 or not all(isinstance(node, (Pool, Flatten)) for node in tail):
        return network
    return network.with_nodes({n: replace(node, kind="sum") for n in between(network)
                               if isinstance(node := network.nodes[n], Pool)})


def without_threshold(network: Network, last: str) -> Network:
    """The network whose last population integrates without firing. Raises `Refused` where its spikes are needed."""
    node = network.nodes[last]
    if isinstance(node, Threshold):
        raise refuse("it has no memory, so it has no membrane", where=f"node '{last}'", fix="Use --readout spikes")
    if network.driven_by(last):
        raise refuse("its spikes feed other neurons (or itself), so it can not stop firing", where=f"neurons '{last}'",
                     fix="Use --readout spikes")
    assert isinstance(node, Neuron)
    return network.with_nodes({last: replace(node, v_threshold=None, v_reset=None)})


def _all(network: Network, said: str = "") -> Tail:
    """Everything lies on the chip."""
    last, notes = last_population(network), tuple[str, ...]()
    if said and last is not None:
        layers = named(n for n in network.inputs_of(last))
        notes = (f"'{last}' was put behind {layers}: it integrates without firing, and {said}",)
    output = network.nodes[network.output]
    assert isinstance(output, Output)
    return Tail(network, read_by(network), {}, (), output, notes)


def _cut(network: Network, keep_membranes: bool, why: str = "") -> Tail:
    """The host computes what no spiking population (and, to keep them, no population at all) depends on."""
    held = [p for p in network.populations if keep_membranes or sends_spikes(network, p) or network.driven_by(p)]
    there = network.needed_for(held) | {network.input}
    needed = network.needed_for([network.output])
    host = {n: network.nodes[n] for n in network.order if n in needed and n not in there and n != network.output}
    edges = tuple((a, b) for a, b in network.edges if b in host or b == network.output)
    read = [p for p in network.populations if p in there and p in {a for a, _ in edges}]
    if not read:
        raise refuse(f"it has no neurons before {named(between(network))}, so nothing of it would lie on the chip",
                     where=f"output '{network.output}'", fix="Use --readout membrane, on a chip whose membranes can be "
                     "read, or export the network with its neurons")
    nodes = {n: Output() if n == network.output else node for n, node in network.nodes.items()
             if n in there or n == network.output}
    kept = tuple((a, b) for a, b in network.edges if a in there and b in there)
    chip = replace(network, nodes=nodes, edges=(*kept, (read[-1], network.output)))
    output = network.nodes[network.output]
    assert isinstance(output, Output)
    if not host:  # sums of populations, or nothing at all
        what = f"the sum of {named(read)}" if len(read) > 1 else f"the output of {named(read)}"
    else:
        what = named(host)
    reason = f": {why}" if why else ""
    return Tail(chip, read_by(network), host, edges, output,
                (f"the host computes {what} from what {named(read)} sends, in floating point{reason}",))
