"""From a tree of NIR graphs to one flat set of records and edges, with the repairs that have one meaning.

A nested graph 'lif1' becomes nodes 'lif1.<name>'; its Input and Output are ports that vanish. Old exporters
wrote such graphs already flat, with 'lif1.input' and 'lif1.output' as nodes and edges to a 'lif1' that is not
there: those are ports as well.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np

from ..errors import Problem
from ..network.graph import Edge
from .nir_file import Tree, Value

#: Graph metadata that holds facts by node: nir before 1.0.8 refuses metadata on most nodes, but not on the graph.
NODE_FACTS = "neurocompress_nodes"
#: Fact about a convolution whose bias is only there because NIR demands one.
NO_BIAS = "neurocompress_bias"
#: Of all graphs of a file together, and after the nested ones are opened. Layers of networks in use: a few hundred.
MAX_NODES, MAX_EDGES = 1000, 2000
NEURONS = ("I", "IF", "LI", "LIF", "CubaLI", "CubaLIF")


@dataclass(frozen=True)
class Record:
    """One node as the file has it. biased: False when its bias is only there because NIR wants one."""

    type: str
    fields: dict[str, Value]
    biased: bool = True


@dataclass
class Flat:
    """All nodes of all graphs by dotted name, and what was found on the way. written: edges read so far."""

    nodes: dict[str, Record] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    ports: dict[str, Record] = field(default_factory=dict)
    metadata: dict[str, dict[str, object]] = field(default_factory=dict)
    written: int = 0
    notes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def problem(self, what: str, node: str, fix: str) -> None:
        self.problems.append(Problem(what, f"node '{node}'" if node else "", fix))


def flatten(tree: Tree) -> Flat:
    """One flat graph of a file's tree; `problems` holds what can not be wired."""
    flat = Flat()
    root = tree.get("node")
    if not isinstance(root, dict):
        held = ", ".join(f"'{name}'" for name in list(tree)[:8]) or "nothing"
        flat.problem(f"is not a NIR file: it has no group 'node', but {held}", "", "Export the model with nir.write")
    elif not root:
        flat.problem("its group 'node' is empty: writing it was cut short", "", "Export the model again")
    elif _text(root.get("type")) != "NIRGraph":
        flat.problem(f"holds a single {_text(root.get('type')) or 'untyped node'}, not a NIRGraph", "",
                     "Put it between an Input and an Output with NIRGraph.from_list")
    else:
        _graph(root, "", flat)
        _node_facts(flat)
        if len(flat.nodes) > MAX_NODES:
            flat.problems.insert(0, Problem(f"it has {len(flat.nodes)} nodes, at most {MAX_NODES} are read",
                                            fix="A node is a layer, not a single neuron: merge them"))
        if not flat.problems:
            _close_ports(flat)
    return flat


def _node_facts(flat: Flat) -> None:
    """Gives each node the facts that the graph's metadata holds about it."""
    facts = flat.metadata.get("", {}).pop(NODE_FACTS, None)
    for name, values in facts.items() if isinstance(facts, dict) else ():
        if name not in flat.nodes or not isinstance(values, dict):
            continue
        if values.pop(NO_BIAS, None) is not None:
            flat.nodes[name] = replace(flat.nodes[name], biased=False)
        if values:
            flat.metadata.setdefault(name, {}).update(values)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _plain(value: Any) -> object:
    """Metadata as it was given: text, numbers, arrays, nested dicts."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray) and value.shape == ():
        return value.item()
    return value


def _graph(tree: Tree, prefix: str, flat: Flat) -> None:
    """Adds a graph's nodes and edges under `prefix` ('' or 'lif1.')."""
    here = prefix.removesuffix(".")
    children, metadata = tree.get("nodes"), tree.get("metadata")
    if isinstance(metadata, dict):
        flat.metadata[here] = {k: _plain(v) for k, v in metadata.items()}
    for key in tree:
        if key not in ("nodes", "edges", "metadata", "type"):
            flat.problem(f"NIRGraph has an unknown field '{key}'", here, "Was it written by a newer NIR? Remove it")
    if not isinstance(children, dict) or not children:
        flat.problem("its graph has no nodes", here, "Export the model again")
        children = {}
    for name, child in children.items():
        full = prefix + name
        if full in flat.nodes:
            flat.problem("two nodes have this name once nested graphs are opened", full, "Rename one of them")
        if not isinstance(child, dict):
            flat.problem("is a dataset, expected a group with a type", full, "Export the model again")
            continue
        kind = _text(child.get("type"))
        if kind == "NIRGraph":
            _graph(child, full + ".", flat)
            continue
        if not kind:
            flat.problem("has no type", full, "Names with '/' can not be stored: rename the node and export again")
            continue
        flat.nodes[full] = Record(kind, {k: v for k, v in child.items() if k not in ("type", "metadata")})
        if isinstance(child.get("metadata"), dict):
            flat.metadata[full] = {k: _plain(v) for k, v in child["metadata"].items()}
    children = {name: child if isinstance(child, dict) else {} for name, child in children.items()}
    pairs = _pairs(tree, here, flat)
    flat.written += len(pairs)
    _edges(pairs, children, prefix, flat)


def _pairs(tree: Tree, here: str, flat: Flat) -> list[Edge]:
    """The edges of one graph as they are written, each once."""
    if "edges" not in tree:
        flat.problem("its graph has no edges, a format from before NIR stored them", here,
                     "Export the model with NIR 1.0 or later")
        return []
    edges = tree["edges"]
    if isinstance(edges, np.ndarray) and edges.size == 0:
        return []
    if not (isinstance(edges, np.ndarray) and edges.dtype == object and edges.ndim == 2 and edges.shape[1] == 2):
        flat.problem("its edges are not pairs of names", here, "Export the model again")
        return []
    if flat.written + len(edges) > MAX_EDGES:
        flat.problem(f"its graph has {len(edges)} edges, at most {MAX_EDGES} are read in all graphs together", here,
                     "Connect layers, not single neurons")
        return []
    pairs = [(str(a), str(b)) for a, b in edges]
    once = list(dict.fromkeys(pairs))
    if len(once) < len(pairs):
        twice = [f"{a} -> {b}" for (a, b), n in Counter(pairs).items() if n > 1]
        flat.notes.append(f"Edges written more than once were read once: {', '.join(twice[:20])}.")
    return once


def _edges(pairs: list[Edge], children: Tree, prefix: str, flat: Flat) -> None:
    """Adds the edges of one graph, each end resolved to a node or to a nested graph's port."""
    named = dict.fromkeys(name for pair in pairs for name in pair)
    missing = dict.fromkeys(n for n in named if n not in children and prefix + n not in flat.nodes)
    groups: dict[str, list[str]] = {}
    within: dict[str, set[str]] = {}  # the groups that a child lies in
    for child in children if missing else ():
        for i, letter in enumerate(child):
            if letter == "." and child[:i] in missing:
                groups.setdefault(child[:i], []).append(child)
                within.setdefault(child, set()).add(child[:i])
    lost = [n for n in missing if n not in groups]
    unused = [n for n, child in children.items() if n not in named and _text(child.get("type")) in NEURONS
              ] if lost else []
    alias: dict[str, str] = {}
    if len(lost) == 1 and len(unused) == 1:
        alias = {lost[0]: unused[0]}
        flat.notes.append(f"Edges of '{prefix.removesuffix('.') or 'the graph'}' name '{lost[0]}', which does not "
                          f"exist: read as its only unconnected neuron '{unused[0]}'.")
        lost = []
    fix = f"Rename it to one of: {', '.join(list(children)[:20])}"
    for name in lost:
        flat.problem("edges name this node, but it does not exist", prefix + name, fix)
    if lost:
        return

    @cache
    def port(name: str, kind: str) -> str | None:
        """The node that an edge into (Input) or out of (Output) `name` means."""
        name = alias.get(name, name)
        child = children.get(name)
        if isinstance(child, dict) and _text(child.get("type")) == "NIRGraph":
            inner = child.get("nodes")
            found = [k for k, n in (inner if isinstance(inner, dict) else {}).items()
                     if isinstance(n, dict) and _text(n.get("type")) == kind]
            if len(found) == 1:
                return f"{prefix}{name}.{found[0]}"
            flat.problem(f"this nested graph has {len(found)} {kind} nodes and an edge needs exactly 1",
                         prefix + name, "Join them into one, or connect its inner nodes by their dotted names")
            return None
        if name not in groups:
            return prefix + name
        inner_names = groups[name]
        for found in ([n for n in inner_names if _text(children[n].get("type")) == kind],
                      [n for n in inner_names if _text(children[n].get("type")) in NEURONS]):
            if len(found) == 1:
                return prefix + found[0]
        flat.problem(f"edges name '{name}', which does not exist, and which of {', '.join(inner_names)} they mean "
                     "is not clear", prefix + name, "Name the inner node in the edge")
        return None

    for name in sorted(groups):
        flat.notes.append(f"Edges name '{name}', which does not exist: read as the group of nodes '{name}.*'.")
    back = set(pairs)
    recurrent = {group for u, v in pairs if (v, u) in back for group in within.get(u, set()) & within.get(v, set())}
    for a, b in pairs:
        if a == b and a in recurrent:
            flat.notes.append(f"The edge {a} -> {b} only says that '{a}' is recurrent; its recurrent connection is "
                              "in the file, so the edge was left out.")
            continue
        ends = port(a, "Output"), port(b, "Input")
        if ends[0] is not None and ends[1] is not None:
            flat.edges.append((ends[0], ends[1]))


def _close_ports(flat: Flat) -> None:
    """Takes out the Input and Output nodes inside the graph: what feeds them then feeds what they feed."""
    fed, feeding = {b for _, b in flat.edges}, {a for a, _ in flat.edges}
    for name, node in flat.nodes.items():
        if (node.type == "Input" and name in fed) or (node.type == "Output" and name in feeding):
            flat.ports[name] = node
    nested = [n for n, node in flat.nodes.items() if node.type in ("Input", "Output") and n not in flat.ports]
    outer = {flat.nodes[n].type for n in nested if "." not in n}
    for name in nested:
        if "." in name and flat.nodes[name].type in outer:
            flat.ports[name] = flat.nodes[name]  # the port of a nested graph that nothing outside uses
    after: dict[str, set[str]] = {}
    before: dict[str, set[str]] = {}
    for a, b in flat.edges:
        after.setdefault(a, set()).add(b)
        before.setdefault(b, set()).add(a)
    joined = len(flat.edges)
    for port in flat.ports:
        del flat.nodes[port]
        sources, targets = before.pop(port, set()) - {port}, after.pop(port, set()) - {port}
        joined += len(sources) * len(targets)
        if joined > MAX_EDGES:
            flat.problem(f"opening the nested graphs gives more than {MAX_EDGES} edges", port, "Simplify the graph")
            return
        for a in sources:
            for b in sorted(targets & after[a]):
                flat.problem(f"'{a}' reaches it on two paths without anything between, which sums its signal twice",
                             b, "Put a Scale node on one of the paths")
            after[a] |= targets
            after[a].discard(port)
        for b in targets:
            before[b] |= sources
            before[b].discard(port)
    flat.edges = sorted((a, b) for a, targets in after.items() for b in targets)
