"""A network: named nodes, directed edges, and the conventions under which it runs in time steps."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod

from ..errors import Problem, Refused
from ..shown import listed, times
from .conventions import NIR, Conventions
from .nodes import Input, Neuron, Node, Output, Shape, Threshold, parameters
from .shapes import infer_shapes

Edge = tuple[str, str]

#: Nodes that emit spikes (or potentials) of their own: where one connection ends and the next begins.
SOURCES = (Input, Neuron, Threshold)


def natural(name: str) -> tuple[tuple[int, int | str], ...]:
    """Sort key that puts node '2' before node '10'."""
    return tuple((0, int(p)) if p.isdecimal() else (1, p) for p in re.split(r"(\d+)", name) if p)


@dataclass(frozen=True, eq=False)
class Network:
    """Nodes by name, edges as (source, target) pairs; several edges into one node are a sum.

    notes: everything the reader assumed or repaired, one sentence each. assumed: of "dt" and "reset" those that nothing
    says, although spikes depend on them.
    Building one checks it whole and raises `Refused` with every problem found.
    """

    nodes: dict[str, Node]
    edges: tuple[Edge, ...]
    conventions: Conventions = NIR
    notes: tuple[str, ...] = ()
    metadata: dict[str, dict[str, object]] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        problems = [
            Problem(f"edge {a} -> {b} names a node that does not exist", f"node '{missing}'",
                    f"Nodes are: {', '.join(map(str, self.nodes))}")
            for a, b in self.edges for missing in (a, b) if missing not in self.nodes
        ]
        for kind in (Input, Output):
            found = [name for name, node in self.nodes.items() if isinstance(node, kind)]
            if len(found) != 1:
                problems.append(Problem(
                    f"the network has {len(found)} {kind.__name__} nodes, expected exactly 1",
                    fix="Split the model, or join its inputs and outputs into one node each",
                ))
        if problems:
            raise Refused(problems)
        _ = self.order, self.shapes  # both refuse what can not be run

    def __repr__(self) -> str:
        neurons = sum(int(prod(self.shapes[name])) for name in self.populations)
        c = self.conventions
        head = (f"Network: {len(self.nodes)} nodes, {neurons:,} neurons, {self.parameters:,} parameters, dt "
                f"{'open' if c.dt is None else f'{c.dt:g} s'}, decay {c.decay}, reset {c.reset}, fires at {c.fire}")
        wide = max(map(len, self.nodes))
        lines = (f"{name:{min(wide, 24)}}  {type(node).__name__ if not isinstance(node, Neuron) else node.kind} "
                 f"{times(self.shapes[name])}" + (f"  from {', '.join(self.inputs_of(name))}" if self.inputs_of(name)
                                                  else "") for name, node in
                 ((name, self.nodes[name]) for name in self.order))
        return listed(head, lines, (f"notes: {len(self.notes)}",) if self.notes else ())

    def inputs_of(self, name: str) -> tuple[str, ...]:
        return self._sources.get(name, ())

    def outputs_of(self, name: str) -> tuple[str, ...]:
        return self._targets.get(name, ())

    def needed_for(self, names: Iterable[str], given: Iterable[str] = ()) -> frozenset[str]:
        """These nodes and all that they depend on; what stands before a `given` node is not needed for it."""
        return _reached(names, self.inputs_of, frozenset(given))

    def driven_by(self, name: str) -> frozenset[str]:
        """Populations that a node sends to with no other population between; itself, where it hears itself."""
        populations = frozenset(self.populations)
        return _reached(self.outputs_of(name), self.outputs_of, populations) & populations

    @cached_property
    def input(self) -> str:
        return next(name for name, node in self.nodes.items() if isinstance(node, Input))

    @cached_property
    def output(self) -> str:
        return next(name for name, node in self.nodes.items() if isinstance(node, Output))

    @cached_property
    def populations(self) -> tuple[str, ...]:
        """Names of the nodes that spike or integrate, in the order of computation."""
        return tuple(n for n in self.order if isinstance(self.nodes[n], (Neuron, Threshold)))

    @cached_property
    def _sources(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {}
        for a, b in self.edges:
            found.setdefault(b, []).append(a)
        return {name: tuple(sorted(names, key=natural)) for name, names in found.items()}

    @cached_property
    def _targets(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {}
        for a, b in self.edges:
            found.setdefault(a, []).append(b)
        return {name: tuple(sorted(names, key=natural)) for name, names in found.items()}

    @cached_property
    def feedback(self) -> frozenset[Edge]:
        """Edges that close a cycle, found depth first from the input: what they carry arrives one step later."""
        state: dict[str, str] = {}
        closing: set[Edge] = set()
        for root in [self.input, *sorted(self.nodes, key=natural)]:
            if root in state:
                continue
            state[root] = "open"
            stack = [(root, iter(self.outputs_of(root)))]
            while stack:
                name, targets = stack[-1]
                for target in targets:
                    if state.get(target) == "open":
                        closing.add((name, target))
                    elif target not in state:
                        state[target] = "open"
                        stack.append((target, iter(self.outputs_of(target))))
                        break
                else:
                    state[name] = "done"
                    stack.pop()
        return frozenset(closing)

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Every node after the nodes that feed it, feedback edges left out; the same for the same file."""
        waiting = {
            name: sum((a, name) not in self.feedback for a in self.inputs_of(name)) for name in self.nodes
        }
        ready = deque(sorted((name for name, count in waiting.items() if count == 0), key=natural))
        done: list[str] = []
        while ready:
            name = ready.popleft()
            done.append(name)
            for target in self.outputs_of(name):
                if (name, target) not in self.feedback:
                    waiting[target] -= 1
                    if waiting[target] == 0:
                        ready.append(target)
        return tuple(done)

    @cached_property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """Strongly connected groups of nodes in order of computation; a node without feedback is alone.

        Raises `Refused` when a loop, in a group or beside it, holds no neuron: without memory it has no value.
        """
        groups = strongly_connected(self.order, self.outputs_of)
        silent = [n for n in self.order if not isinstance(self.nodes[n], SOURCES)]
        among = frozenset(silent)
        inner = strongly_connected(silent, lambda name: [n for n in self.outputs_of(name) if n in among])
        dead = [g for g in inner if self.is_loop(g)]
        if dead:
            raise Refused(
                Problem("the loop " + " -> ".join(g) + " holds no neuron", fix="Put a neuron into the loop")
                for g in dead
            )
        return groups

    def is_loop(self, group: tuple[str, ...]) -> bool:
        """Whether what a node of one of the `groups` sends comes back to it."""
        return len(group) > 1 or (group[0], group[0]) in self.feedback

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """Output shape of every node, without batch and time."""
        return infer_shapes(self.nodes, self.order, self.inputs_of)

    @cached_property
    def parameters(self) -> int:
        return sum(parameters(node) for node in self.nodes.values())

    def with_nodes(self, changed: dict[str, Node]) -> Network:
        """The same network with some nodes exchanged."""
        return replace(self, nodes={name: changed.get(name, node) for name, node in self.nodes.items()})


def _reached(
    names: Iterable[str], step: Callable[[str], Iterable[str]], ends: frozenset[str]
) -> frozenset[str]:
    """These nodes and all that lie behind them, `step` by `step`, up to and with those in `ends`."""
    found = set(names)
    waiting = list(found)
    while waiting:
        name = waiting.pop()
        more = [n for n in step(name) if n not in found] if name not in ends else []
        found.update(more)
        waiting += more
    return frozenset(found)


def strongly_connected(
    order: Sequence[str], outputs_of: Callable[[str], Iterable[str]]
) -> tuple[tuple[str, ...], ...]:
    """Strongly connected groups of a graph (Tarjan 1972), each and all in the order given."""
    import networkx

    graph: networkx.DiGraph[str] = networkx.DiGraph()
    graph.add_nodes_from(order)
    graph.add_edges_from((a, b) for a in order for b in outputs_of(a))
    place = {name: i for i, name in enumerate(order)}
    groups = [tuple(sorted(g, key=place.__getitem__)) for g in networkx.strongly_connected_components(graph)]
    condensed = networkx.condensation(graph, groups)
    first = {k: min(place[n] for n in groups[k]) for k in condensed.nodes}
    return tuple(
        groups[k] for k in networkx.lexicographical_topological_sort(condensed, key=first.__getitem__)
    )
