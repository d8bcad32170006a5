"""The form that compression sees: each layer of weights is there once, with all its inputs and for all that it feeds.

What a layer is given is the sum that arrives there, so what lies before it stays as it is. Behind it only flattening
and delays may stand before the neurons: pools, scales and further layers there are folded into it, and only there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import replace
from graphlib import TopologicalSorter
from itertools import chain, count

from ..errors import Problem, Refused
from .canonical import MATERIALIZE_MAX, MAX_LAYERS, MAX_PATHS_INTO, fold
from .graph import SOURCES, Edge, Network
from .nodes import WEIGHTED, Conv, Delay, Flatten, Linear, Node, Output

#: How far a signal has come: no layer of weights yet, one with nothing but flattening and delays behind it, or more.
BEFORE, BEHIND, BEYOND = 0, 1, 2


def compression_form(network: Network) -> Network:
    """The same network with at most one layer of weights on each path between populations, and nothing but Flatten and
    Delay nodes behind it; itself where it is so already.

    Raises `Refused` for every path that can not be folded, naming its layers and the fix.
    """
    ways = ways_of(network)
    if not any(BEYOND in found for found in ways.values()):
        return network
    return _Folding(network, ways).made()


def between_populations(network: Network) -> tuple[str, ...]:
    """Nodes that are no sources, each behind those of them that feed it."""
    _ = network.groups  # refuses loops without a neuron
    inner = [n for n in network.order if not isinstance(network.nodes[n], SOURCES)]
    graph = {n: [a for a in network.inputs_of(n) if not isinstance(network.nodes[a], SOURCES)] for n in inner}
    return tuple(TopologicalSorter(graph).static_order())


def unlike(name: str, own: str, taken: Container[str]) -> str:
    """A name that is not taken: this one, or with `own` behind it, or with a number behind that too."""
    longer = name if name.endswith(own) else f"{name}{own}"
    return next(n for n in chain((name, longer), (f"{longer}#{k}" for k in count(2))) if n not in taken)


def ways_of(network: Network) -> dict[str, frozenset[int]]:
    """How far what leaves each node has come, on the ways that lead to it from populations and the input."""
    found: dict[str, frozenset[int]] = {n: frozenset({BEFORE}) for n in network.nodes
                                        if isinstance(network.nodes[n], SOURCES)}
    for name in between_populations(network):
        found[name] = frozenset(_past(network.nodes[name], way) for a in network.inputs_of(name) for way in found[a])
    return found


def source_of(network: Network, ways: Mapping[str, frozenset[int]], name: str) -> str:
    """The population before a node without weights between, or nothing where there are several. ways: of `ways_of`."""
    while not isinstance(network.nodes[name], SOURCES):
        before = [a for a in network.inputs_of(name) if BEFORE in ways[a]]
        if len(before) != 1:
            return ""
        (name,) = before
    return name


def _past(node: Node, way: int) -> int:
    if isinstance(node, WEIGHTED):
        return BEHIND if way == BEFORE else BEYOND
    if isinstance(node, (Flatten, Delay, Output)) or way == BEFORE:
        return way
    return BEYOND


class _Folding:
    """ways: see `ways_of`."""

    def __init__(self, network: Network, ways: dict[str, frozenset[int]]):
        self.network, self.ways = network, ways
        self.targets = (*network.populations, network.output)
        self.ahead: set[str] = set()  # nodes with something to fold behind them
        for name in reversed(between_populations(network)):
            if BEYOND in ways[name] or any(b in self.ahead for b in network.outputs_of(name)):
                self.ahead.add(name)

    def made(self) -> Network:
        network = self.network
        ways = [way for target in self.targets for way in self._to_fold(target)]
        states, edges = self._kept(
            {a for way in ways for a in network.inputs_of(way[0]) if BEFORE in self.ways[a]})
        nodes = {self._name(*state): network.nodes[state[0]] for state in states}
        carried = Counter(list(nodes)) + Counter(name for way in ways for name in way[:-1])
        notes, problems, grown = list[str](), list[Problem](), 0
        biased: set[tuple[str, ...]] = set()
        for way in ways:
            source, target = source_of(network, self.ways, way[0]), way[-1]
            said = " -> ".join((source, *way) if source else way)
            try:
                folded = fold([(n, self._biased(way[k:], biased, k == 0)) for k, n in enumerate(way[:-1])],
                              network.shapes[network.inputs_of(way[0])[0]], network.shapes[target])
                grown += sum(node.weight.size for _, node in folded if isinstance(node, (Linear, Conv)))
                if grown > MATERIALIZE_MAX:
                    raise ValueError(
                        f"folding the layers between neurons makes {grown} weights, at most {MATERIALIZE_MAX}")
            except ValueError as error:
                problems.append(Problem(str(error), f"path {said}",
                                        "Put a neuron between its layers, or merge them before export"))
                continue
            previous, names = self._before(way[0]), list[str]()
            for name, node in folded:
                own = f"@{source}>{target}"
                names.append(unlike(f"{name}{own}" if carried[name] > 1 else name, own, nodes))
                nodes[names[-1]] = node
                edges += [(a, names[-1]) for a in previous]
                previous = [names[-1]]
            edges.append((previous[0], target))
            notes.append(f"{said} was folded into {' -> '.join(names)}")
        if problems:
            raise Refused(problems)
        ordered = {n: nodes[n] for n in network.nodes if n in nodes}
        return Network(ordered | nodes, tuple(dict.fromkeys(edges)), network.conventions, network.notes + tuple(notes),
                       network.metadata, network.assumed)

    def _before(self, layer: str) -> list[str]:
        """What feeds a layer that is the first on its way."""
        return [self._name(a, BEFORE) for a in self.network.inputs_of(layer) if BEFORE in self.ways[a]]

    def _biased(self, rest: tuple[str, ...], biased: set[tuple[str, ...]], first: bool) -> Node:
        """A node on a way, without its bias where another way brings it: on each way from a layer to the target its
        bias is added once. rest: the way from the node on."""
        node = self.network.nodes[rest[0]]
        if first or not isinstance(node, (Linear, Conv)):
            return node
        if self._before(rest[0]) or rest in biased:  # it is the first on a way of its own, or was met before
            return replace(node, bias=None)
        biased.add(rest)
        return node

    def _name(self, name: str, way: int) -> str:
        """Of a node as it is kept: where signals with and without weights meet before a fold, it becomes two."""
        node = self.network.nodes[name]
        two = not isinstance(node, (*SOURCES, Output)) and {BEFORE, BEHIND} <= self.ways[name] and name in self.ahead
        return f"{name}@behind" if two and way == BEHIND else name

    def _kept(self, heads: set[str]) -> tuple[list[tuple[str, int]], list[Edge]]:
        """Nodes, each with how far its signal has come, and edges on ways without anything to fold."""
        network, found, edges = self.network, set[tuple[str, int]](), list[Edge]()
        waiting = [(target, BEFORE) for target in self.targets] + [(network.input, BEFORE)]
        waiting += [(a, BEFORE) for a in heads]
        ends = set(self.targets)
        while waiting:
            state = name, way = waiting.pop()
            if state in found:
                continue
            found.add(state)
            for a in network.inputs_of(name):
                for before in sorted(self.ways[a] - {BEYOND}):
                    if name in ends or _past(network.nodes[name], before) == way:
                        edges.append((self._name(a, before), self._name(name, way)))
                        waiting.append((a, before))
        place = {n: k for k, n in enumerate(network.nodes)}
        order = {edge: k for k, edge in enumerate(network.edges)}
        return (sorted(found, key=lambda state: (place[state[0]], state[1])),
                sorted(edges, key=lambda edge: (order.get(edge, len(order)), edge)))

    def _to_fold(self, target: str) -> list[tuple[str, ...]]:
        """The ways into a target that must be folded, each from its first layer of weights on."""
        network, found = self.network, list[tuple[str, ...]]()
        if not any(BEYOND in self.ways[a] for a in network.inputs_of(target)):
            return []
        waiting: list[tuple[str, ...]] = [(target,)]
        while waiting:
            way = waiting.pop()
            if len(way) > MAX_LAYERS:
                raise Refused(Problem(f"more than {MAX_LAYERS} layers lead into it one after the other",
                                      f"node '{target}'", "Put neurons between the layers"))
            if len(waiting) + len(found) > MAX_PATHS_INTO:
                raise Refused(Problem(f"more than {MAX_PATHS_INTO} paths of layers lead into it", f"node '{target}'",
                                      "Put neurons between the branches"))
            if isinstance(network.nodes[way[0]], WEIGHTED) and self._before(way[0]) and self._folds(way):
                found.append(way)
            waiting += [(a, *way) for a in network.inputs_of(way[0]) if self.ways[a] != {BEFORE}]
        return found[::-1]

    def _folds(self, way: tuple[str, ...]) -> bool:
        passed = BEHIND
        for name in way[1:-1]:
            passed = _past(self.network.nodes[name], passed)
        return passed == BEYOND
