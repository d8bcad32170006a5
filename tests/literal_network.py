"""A network in plain Python: what it computes, and what a person would count in it, spike by spike and synapse by
synapse, with nothing of ours but the nodes and edges."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

import numpy as np

from neurocompress.network.graph import Network
from neurocompress.network.nodes import Conv, Flatten, Input, Linear, Neuron, Node, Output, Pool, Scale

Values = dict[tuple[int, ...], float]  # by place; what is not there is zero


def trained_numbers(network: Network) -> dict[str, int]:
    """Weights and biases of each layer, counted one by one."""
    return {name: sum(1 for _ in np.nditer(node.weight)) + (0 if node.bias is None else len(node.bias))
            for name, node in network.nodes.items() if isinstance(node, (Linear, Conv))}


def zeros(node: Node) -> int:
    return sum(1 for w in node.weight.ravel().tolist() if w == 0.0)


def through(node: Node, x: Values, shape: tuple[int, ...], out: tuple[int, ...]) -> Values:
    """What a node that keeps nothing makes of a few values, its bias left out. shape, out: of what it takes, gives."""
    found: Values = {}

    def add(place: tuple[int, ...], value: float) -> None:
        found[place] = found.get(place, 0.0) + value

    for place, value in x.items():
        if isinstance(node, Linear):
            for row in range(out[0]):
                add((row,), float(node.weight[row, place[0]]) * value)
        elif isinstance(node, Flatten):
            flat = 0
            for size, at in zip(shape, place, strict=True):
                flat = flat * size + at
            add((flat,), value)
        elif isinstance(node, Scale):
            add(place, float(np.broadcast_to(node.scale, shape)[place]) * value)
        elif isinstance(node, Pool):
            share = 1.0 if node.kind == "sum" else 1.0 / math.prod(node.kernel_size)
            for to in product(*map(range, out[1:])):
                tap = [at + pad[0] - o * step for at, o, step, pad in
                       zip(place[1:], to, node.stride, node.padding, strict=True)]
                if all(0 <= t < k for t, k in zip(tap, node.kernel_size, strict=True)):
                    add((place[0], *to), share * value)
        else:
            assert isinstance(node, Conv)
            into, of = node.weight.shape[0] // node.groups, node.weight.shape[1]
            group = place[0] // of
            for tap in product(*map(range, node.weight.shape[2:])):
                at = [p + pad[0] - t * d for p, pad, t, d in
                      zip(place[1:], node.padding, tap, node.dilation, strict=True)]
                to = tuple(a // s for a, s in zip(at, node.stride, strict=True))
                if all(a % s == 0 and 0 <= o < n for a, s, o, n in zip(at, node.stride, to, out[1:], strict=True)):
                    for channel in range(group * into, (group + 1) * into):
                        add((channel, *to), float(node.weight[(channel, place[0] % of, *tap)]) * value)
    return found


@dataclass(frozen=True)
class Path:
    """From one population (or the input) to another. nodes: between them. synapses: by place of the source, the weight
    by place of the target. loop: it closes a loop, and what it carries arrives in the next step."""

    source: str
    target: str
    nodes: tuple[str, ...]
    synapses: dict[tuple[int, ...], Values]
    bias: Values

    def fan_out(self, place: tuple[int, ...]) -> int:
        return sum(1 for w in self.synapses[place].values() if w != 0.0)


@lru_cache(maxsize=4)
def paths(network: Network, ones: bool = False) -> list[Path]:
    """Every path, its synapses counted by sending one spike from each place. ones: with all weights 1."""
    shapes = network.shapes
    ends = [n for n, node in network.nodes.items() if isinstance(node, (Neuron, Output))]

    def node_of(name: str) -> Node:
        node = network.nodes[name]
        return replace(node, weight=np.ones_like(node.weight)) if ones and isinstance(node, (Linear, Conv)) else node

    def back(name: str) -> list[tuple[str, tuple[str, ...]]]:
        if isinstance(network.nodes[name], (Neuron, Input)):
            return [(name, ())]
        return [(source, (*between, name)) for a, b in network.edges if b == name for source, between in back(a)]

    found = []
    for end in ends:
        for before in [a for a, b in network.edges if b == end]:
            for source, between in back(before):
                if isinstance(network.nodes[end], Output) and not between:
                    continue
                synapses = {}
                for place in product(*map(range, shapes[source])):
                    x, shape = {place: 1.0}, shapes[source]
                    for name in between:
                        x, shape = through(node_of(name), x, shape, shapes[name]), shapes[name]
                    synapses[place] = x
                x, shape = {}, shapes[source]
                for name in between:
                    x, shape, node = through(network.nodes[name], x, shape, shapes[name]), shapes[name], node_of(name)
                    bias = getattr(node, "bias", None)
                    for place in product(*map(range, shape)) if bias is not None else ():
                        x[place] = x.get(place, 0.0) + float(bias[place[0]])
                found.append(Path(source, end, between, synapses, x))
    return found


def literal(network: Network, spikes: np.ndarray) -> dict[str, np.ndarray]:
    """What each population sends, (samples, steps, *shape); spikes: (samples, steps, *input shape). Conventions: decay,
    reset, fire, floor, spikes per step, and the gain of IF; all others as NIR has them. A connection within a loop
    arrives one step late."""
    rule, shapes, wires = network.conventions, network.shapes, paths(network)
    names = [n for n in network.order if isinstance(network.nodes[n], Neuron)]
    sent = {n: np.zeros((*spikes.shape[:2], *shapes[n])) for n in names}
    late = {(p.source, p.target) for p in wires
            if p.source in names and p.target in names and names.index(p.source) >= names.index(p.target)}
    for k, sample in enumerate(spikes):
        v = {n: dict.fromkeys(product(*map(range, shapes[n])), 0.0) for n in names}
        current = {n: dict.fromkeys(v[n], 0.0) for n in names}
        for t, given in enumerate(sample):
            for n in names:
                node = network.nodes[n]
                x = dict.fromkeys(v[n], 0.0)
                for p in wires:
                    if p.target != n:
                        continue
                    if (p.source, n) in late:
                        frame = sent[p.source][k, t - 1] if t else np.zeros(shapes[p.source])
                    else:
                        frame = sent[p.source][k, t] if p.source in names else given
                    for place in map(tuple, np.argwhere(frame)):
                        for to, w in p.synapses[tuple(map(int, place))].items():
                            x[to] += w * float(frame[place])
                    for to, b in p.bias.items():
                        x[to] += b
                for at in v[n]:
                    v[n][at], sent[n][k, t][at] = step(node, rule, at, v[n][at], current[n], x[at], shapes[n])
    return sent


def step(node: Neuron, rule, at, v: float, current: Values, x: float, shape) -> tuple[float, float]:
    """The potential after one step, and what the neuron sends."""
    def of(values) -> float:
        return float(values[at] if values.shape == shape else np.broadcast_to(values, shape)[at])

    def kept(tau) -> float:
        return math.exp(-rule.dt / of(tau)) if rule.decay == "exponential" else 1.0 - rule.dt / of(tau)

    if node.tau_syn is not None:
        alpha = kept(node.tau_syn)
        current[at] = alpha * current[at] + of(node.w_in) * (1 - alpha) * x
        x = current[at]
    if node.tau_mem is None:
        v += of(node.r) * rule.dt * x if rule.gain == "nir" and of(node.r) != 1 else x
    else:
        beta = kept(node.tau_mem)
        v = beta * v + (1 - beta) * (of(node.r) * x + of(node.v_leak))
    if node.v_threshold is None:
        return v, v
    threshold = of(node.v_threshold)
    if not (v > threshold or (rule.fire == ">=" and v == threshold)):
        return (max(v, -threshold) if rule.v_floor else v), 0.0
    n = math.floor(v / threshold) if rule.spikes_per_step == "many" else 1
    return (v - n * threshold if rule.reset == "subtract" else of(node.v_reset)), float(n)
