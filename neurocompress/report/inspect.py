"""What a network is made of, as plain data: nodes, shapes, parameters, conventions, and what was assumed."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from ..network.conventions import Conventions
from ..network.graph import Network
from ..network.nodes import Conv, Delay, Flatten, Linear, Neuron, Node, Pool, Scale, Threshold, parameters
from ..network.presets import MEANINGS, flag
from ..network.titles import node_kind


def inspect_network(network: Network) -> dict[str, Any]:
    """A JSON-ready description: `nodes` in order of computation, `edges`, `populations`, totals, conventions, notes.

    Each node has name, kind, input_shape, output_shape, parameters (trained numbers) and `values`, its settings:
    a neuron's parameters as one number, or as {min, max} where its neurons differ. Times are in seconds.
    """
    shapes = network.shapes
    nodes = []
    for name in network.order:
        node, sources = network.nodes[name], network.inputs_of(name)
        nodes.append({
            "name": name,
            "kind": node_kind(node),
            "input_shape": list(shapes[sources[0]]) if sources else None,
            "output_shape": list(shapes[name]),
            "inputs": list(sources),
            "parameters": parameters(node),
            "values": _values(node),
        })
    return {
        "nodes": nodes,
        "edges": [list(edge) for edge in network.edges],
        "feedback": sorted(list(edge) for edge in network.feedback),
        "populations": [
            {"name": name, "kind": node_kind(network.nodes[name]), "neurons": int(np.prod(shapes[name]))}
            for name in network.populations
        ],
        "parameters": network.parameters,
        "neurons": sum(int(np.prod(shapes[name])) for name in network.populations),
        "input_shape": list(shapes[network.input]),
        "output_shape": list(shapes[network.output]),
        "conventions": network.conventions.to_dict(),
        "notes": [_with_flag(note, network.conventions) for note in network.notes],
        "flags": {f.name: flag(f.name, getattr(network.conventions, f.name)) for f in fields(network.conventions)},
    }


def _with_flag(note: str, conventions: Conventions) -> str:
    """A note on a convention that the user has not given, with the flag that would change it."""
    name, equals, why = note.partition(" = ")
    if not equals or name not in MEANINGS or "given by the user" in why:
        return note
    return f"{note} Change it: {flag(name, getattr(conventions, name))}"


def _range(values: np.ndarray) -> float | dict[str, float]:
    low, high = float(np.min(values)), float(np.max(values))
    return low if low == high else {"min": low, "max": high}


def _values(node: Node) -> dict[str, Any]:
    if isinstance(node, Neuron):
        names = ("tau_syn", "w_in", "tau_mem", "r", "v_leak", "v_threshold", "v_reset")
        return {name: _range(values) for name in names if (values := getattr(node, name)) is not None}
    if isinstance(node, Linear):
        return {"weight": list(node.weight.shape), "bias": node.bias is not None, "dtype": str(node.weight.dtype)}
    if isinstance(node, Conv):
        return {"weight": list(node.weight.shape), "bias": node.bias is not None, "dtype": str(node.weight.dtype),
                "stride": list(node.stride), "padding": [list(pair) for pair in node.padding],
                "dilation": list(node.dilation), "groups": node.groups}
    if isinstance(node, Pool):
        return {"kernel_size": list(node.kernel_size), "stride": list(node.stride),
                "padding": [list(pair) for pair in node.padding]}
    if isinstance(node, Flatten):
        return {"start_dim": node.start_dim, "end_dim": node.end_dim}
    if isinstance(node, Scale):
        return {"scale": _range(node.scale)}
    if isinstance(node, Threshold):
        return {"threshold": _range(node.threshold)}
    if isinstance(node, Delay):
        return {"delay": _range(node.delay)}
    return {}
