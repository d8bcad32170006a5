"""The form that a chip's grids see: scales and averages are folded into the weights behind them, sums stay sums.

A layer of weights that several sources share is one node; only its connections (see `connections`) are one for each
source, all with its weights. A layer that feeds several populations is one node for each, as each has thresholds, and
so a grid, of its own.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..errors import Problem, Refused
from .canonical import MATERIALIZE_MAX, MAX_PATHS_INTO, fold
from .form import BEFORE, BEHIND, between_populations, compression_form, source_of, unlike, ways_of
from .graph import SOURCES, Edge, Network
from .loops import as_late
from .nodes import WEIGHTED, Conv, Linear, Node, Pool, Scale

#: Nodes in a row, and the last one's target.
Way = tuple[str, ...]


def chip_form(network: Network) -> Network:
    """The network in `compression_form`, each layer of weights for one population, without scales and averages.

    Raises `Refused` for every path that can not be folded, naming its layers and the fix.
    """
    network = compression_form(network)
    form = _Form(network)
    return form.made() if form.scaled or form.split else network


def _scales(node: Node) -> bool:
    return isinstance(node, Scale) or (isinstance(node, Pool) and node.kind == "average")


class _Form:
    """plain: nodes before weights that a signal reaches unscaled; scaled: those where it was scaled on the way.
    feeds: by node of weights or behind some, the populations (or the output) that it feeds; split: those of
    several."""

    def __init__(self, network: Network):
        self.network, self.ways = network, ways_of(network)
        self.targets = (*network.populations, network.output)
        ends, inner = set(self.targets), [n for n in between_populations(network) if n != network.output]
        self.plain = {n for n, node in network.nodes.items() if isinstance(node, SOURCES)}
        self.scaled: set[str] = set()
        for name in inner:
            node = network.nodes[name]
            if isinstance(node, WEIGHTED) or BEFORE not in self.ways[name]:
                continue
            before = network.inputs_of(name)
            if _scales(node) or any(a in self.scaled for a in before):
                self.scaled.add(name)
            if not _scales(node) and any(a in self.plain for a in before):
                self.plain.add(name)
        self.feeds: dict[str, set[str]] = {}
        for name in reversed(inner):
            if BEHIND in self.ways[name]:
                self.feeds[name] = {t for b in network.outputs_of(name) for t in ({b} if b in ends else self.feeds[b])}
        self.split = {n for n, found in self.feeds.items() if len(found) > 1}
        self.nodes: dict[str, Node] = {}
        self.edges: dict[Edge, None] = {}
        self.notes: list[str] = []
        self.problems: list[Problem] = []
        self.copies: dict[str, tuple[str, str]] = {}  # of layers for several targets, and each one's target
        self.grown = 0
        self.folds: dict[tuple[Way, bool], list[tuple[str, Node]]] = {}

    def made(self) -> Network:
        network = self.network
        layers = {t: [n for n in network.order if isinstance(network.nodes[n], WEIGHTED) and t in self.feeds.get(n, ())]
                  for t in self.targets}
        folds = {(end, t): self._to_fold(end) for t in self.targets for end in (t, *layers[t])}
        self._keep(layers, {way[0] for ways in folds.values() for way in ways})
        for target in self.targets:
            for layer in layers[target]:
                self._layer(layer, target, folds[layer, target])
            self.edges |= {(a, target): None for a in network.inputs_of(target) if a in self.plain}
            for way in folds[target, target]:
                self._to_target(way, False)
        if self.problems:
            raise Refused(self.problems)
        ordered = {n: self.nodes[n] for n in network.nodes if n in self.nodes}
        made = Network(ordered | self.nodes, tuple(self.edges), network.conventions,
                       network.notes + tuple(dict.fromkeys(self.notes)), network.metadata, network.assumed)
        return as_late(network, made, self.copies) if self.split else made

    def _keep(self, layers: dict[str, list[str]], heads: set[str]) -> None:
        """Nodes that signals pass unscaled before they meet weights, as they are, those that something hears."""
        network, found = self.network, set[str]()
        ends = {*self.targets, *heads, *(n for names in layers.values() for n in names)}
        waiting = [a for end in ends for a in network.inputs_of(end) if a in self.plain]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += [a for a in network.inputs_of(name)
                            if a in self.plain and not isinstance(network.nodes[name], SOURCES)]
        found |= {network.input, *self.targets}
        self.nodes = {n: node for n, node in network.nodes.items() if n in found}
        self.edges = {(a, name): None for name in self.nodes if name not in self.targets
                      for a in network.inputs_of(name) if a in self.plain}

    def _layer(self, layer: str, target: str, ways: list[Way]) -> None:
        """A layer of weights for one target, once for each scale at which signals reach it."""
        network, made = self.network, list[str]()
        own = f"@{self._source(layer)}>{target}"
        name = f"{layer}{own}" if layer in self.split and not layer.endswith(own) else layer
        plain = [a for a in network.inputs_of(layer) if a in self.plain]
        if plain:
            made.append(unlike(name, own, self.nodes))
            self.nodes[made[0]] = network.nodes[layer]
            self.edges |= dict.fromkeys((a, made[0]) for a in plain)
        biased = bool(plain)
        for way in ways:
            try:
                *before, (_, end) = self._folded(way, biased)
            except ValueError:  # not without what lies between it and its target
                for rest in self._ways_on(layer, target):
                    self._to_target((*way[:-1], *rest), biased)
                biased = True
                continue
            biased = True
            heads = [a for a in network.inputs_of(way[0]) if a in self.plain]
            alike = [n for n in made if _alike(self.nodes[n], end)
                     and (before or not any((a, n) in self.edges for a in heads))]
            if not alike:
                alike = [unlike(name, f"@{self._source(way[0])}>{target}", self.nodes)]
                self.nodes[alike[0]] = end
                made += alike
            self._chain(before, way[0], target, alike[0])
        for node in made:
            self.copies[node] = layer, target
            self._behind(node, layer, target)

    def _to_target(self, way: Way, biased: bool) -> None:
        """A way that is folded as a whole. biased: another way brings the bias."""
        try:
            self._chain(self._folded(way, biased), way[0], way[-1], way[-1])
        except ValueError as error:
            said = " -> ".join(filter(None, (self._source(way[0]), *way)))
            self.problems.append(Problem(str(error), f"path {said}",
                                         "Put a neuron between its layers, or merge them before export"))

    def _folded(self, way: Way, biased: bool) -> list[tuple[str, Node]]:
        """The nodes of a way, folded; of one into a layer that layer is the last. Raises ValueError."""
        network, nodes = self.network, way if isinstance(self.network.nodes[way[-1]], WEIGHTED) else way[:-1]
        if (way, biased) not in self.folds:
            chain = [(n, replace(node, bias=None) if biased and isinstance(node, (Linear, Conv)) else node)
                     for n in nodes for node in (network.nodes[n],)]
            found = fold(chain, network.shapes[network.inputs_of(way[0])[0]], network.shapes[way[-1]])
            self.grown += sum(node.weight.size for _, node in found if isinstance(node, (Linear, Conv)))
            if self.grown > MATERIALIZE_MAX:
                raise ValueError(
                    f"folding the layers between neurons makes {self.grown} weights, at most {MATERIALIZE_MAX}")
            if [n for n, _ in found] != list(nodes):
                said = " -> ".join(filter(None, (self._source(way[0]), *way)))
                self.notes.append(f"{said} was folded into {' -> '.join(n for n, _ in found) or 'one edge'}")
            self.folds[way, biased] = found
        return self.folds[way, biased]

    def _behind(self, made: str, layer: str, target: str) -> None:
        """What lies between a layer and its target, of the target's own where other targets have it too."""
        waiting = [(made, layer)]
        while waiting:
            here, name = waiting.pop()
            for b in self.network.outputs_of(name):
                if b == target:
                    self.edges[here, target] = None
                elif target in self.feeds.get(b, ()):
                    there = f"{b}@>{target}" if b in self.split else b
                    self.edges[here, there] = None
                    if there not in self.nodes:
                        self.nodes[there] = self.network.nodes[b]
                        waiting.append((there, b))

    def _chain(self, folded: list[tuple[str, Node]], first: str, target: str, end: str) -> None:
        """Nodes in a row, from what feeds the node `first` unscaled to `end`."""
        previous = [a for a in self.network.inputs_of(first) if a in self.plain]
        for name, node in folded:
            name = unlike(name, f"@{self._source(first)}>{target}", self.nodes)
            self.nodes[name] = node
            self.edges |= dict.fromkeys((a, name) for a in previous)
            previous = [name]
        self.edges |= dict.fromkeys((a, end) for a in previous)

    def _to_fold(self, end: str) -> list[Way]:
        """The ways on which signals are scaled before they reach a layer or a target, each from the first node on that
        scales."""
        found = list[Way]()
        waiting: list[Way] = [(a, end) for a in self.network.inputs_of(end) if a in self.scaled]
        while waiting:
            way = waiting.pop()
            before = self.network.inputs_of(way[0])
            if _scales(self.network.nodes[way[0]]) and any(a in self.plain for a in before):
                found.append(way)
            waiting += [(a, *way) for a in before if a in self.scaled]
            if len(waiting) + len(found) > MAX_PATHS_INTO:
                raise Refused(Problem(f"more than {MAX_PATHS_INTO} paths of layers lead into it", f"node '{end}'",
                                      "Put neurons between the branches"))
        return found[::-1]

    def _ways_on(self, layer: str, target: str) -> list[Way]:
        """From a layer to a target, both with them."""
        found = list[Way]()
        waiting: list[Way] = [(layer,)]
        while waiting:
            way = waiting.pop()
            for b in self.network.outputs_of(way[-1]):
                if b == target:
                    found.append((*way, b))
                elif target in self.feeds.get(b, ()):
                    waiting.append((*way, b))
        return found[::-1]

    def _source(self, name: str) -> str:
        """The population before a node, or nothing where there are several."""
        return source_of(self.network, self.ways, name)


def _alike(a: Node, b: Node) -> bool:
    """Whether two layers have the same weights; they came of one, so their geometry is the same."""
    assert isinstance(a, (Linear, Conv))
    assert isinstance(b, (Linear, Conv))
    return type(a) is type(b) and a.weight.shape == b.weight.shape and bool(np.array_equal(a.weight, b.weight))
