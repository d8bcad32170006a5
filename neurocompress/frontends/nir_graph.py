"""A graph of the nir package in memory as the tree that its file would give, so that one path mends both.

Values stay as they are: 0-d parameters, Python numbers, torch tensors and shapes that are None are what
`nir.write` fails on, and what the reader spreads and infers.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from ..errors import refuse
from .nir_file import MAX_DEPTH, Tree, Value

#: Fields of a node that hold no parameters; the shapes of the ends and of Flatten are in the first two.
_BESIDE = ("input_type", "output_type", "metadata")
#: Where nir keeps what a file calls "shape" or "input_type".
_SHAPES = {"Input": ("shape", "input_type", "input"), "Output": ("shape", "output_type", "output"),
           "Flatten": ("input_type", "input_type", "input")}


def tree_of(graph: Any) -> Tree:
    """The tree of a `nir.NIRGraph` (or of a single node). Raises `Refused` for values that are no arrays."""
    return {"node": _node(graph, "", 0)}


def _node(node: Any, where: str, depth: int) -> Tree:
    if depth > MAX_DEPTH:
        raise refuse(f"its graphs nest deeper than {MAX_DEPTH} levels", where=f"node '{where}'",
                     fix="A graph must not hold itself")
    kind = type(node).__name__
    tree: Tree = {"type": kind}
    metadata = getattr(node, "metadata", None)
    if isinstance(metadata, dict) and metadata:
        tree["metadata"] = _metadata(metadata, where)
    if kind == "NIRGraph":
        prefix = f"{where}." if where else ""
        tree["nodes"] = {str(name): _node(child, prefix + str(name), depth + 1) for name, child in node.nodes.items()}
        edges = np.empty((len(node.edges), 2), dtype=object)
        for place, edge in enumerate(node.edges):
            if len(edge) != 2:
                raise refuse(f"edge {place} names {len(edge)} nodes", where=where and f"node '{where}'",
                             fix="An edge is a pair of names")
            edges[place] = edge
        return tree | {"edges": edges}
    for field in fields(node) if hasattr(node, "__dataclass_fields__") else ():
        if field.name not in _BESIDE and (value := getattr(node, field.name, None)) is not None:
            tree[field.name] = _value(value, where, field.name)
    if kind in _SHAPES:
        key, at, port = _SHAPES[kind]
        shapes = getattr(node, at, None)
        shape = shapes.get(port) if isinstance(shapes, dict) else None
        if shape is not None:
            tree[key] = _value(shape, where, key)
    return tree


def _metadata(values: dict[Any, Any], where: str) -> dict[str, Any]:
    return {str(key): _metadata(value, where) if isinstance(value, dict) else _value(value, where, f"metadata {key}")
            for key, value in values.items() if value is not None}


def _value(value: Any, where: str, key: str) -> Value:
    """Text stays text; numbers, lists, arrays and tensors become arrays in native byte order."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, str):
        return value
    try:
        if hasattr(value, "detach"):  # a torch tensor, on whatever device, with a gradient or not
            value = value.detach().cpu()
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise refuse(f"'{key}' is no array ({error})", where=f"node '{where}'", fix="Give a NumPy array") from None
    if key in ("shape", "input_type", "input_shape") and array.dtype == object:
        raise refuse(f"'{key}' is {value!r:.80}", where=f"node '{where}'", fix="Give a tuple of whole numbers, or None")
    return array.astype(array.dtype.newbyteorder("="), copy=False) if array.dtype.kind in "fiub" else array
