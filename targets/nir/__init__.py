"""Writes a network as a NIR file that nir 1.0.8 and the tools on top of it read.

Conventions and quantization facts travel in the metadata of the graph, which every reader may ignore: the JSON text
"neurocompress_conventions" with, in "neurocompress_assumed", which of them were only assumed, and "neurocompress_nodes"
with facts by node. nir before 1.0.8 refuses metadata on most nodes, and v_reset, which is left out where it is zero.
nir's own type check is wrong for grouped and for most non-square convolutions: such files need
nir.read(path, type_check=False).
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurocompress.errors import Problem, Refused
from neurocompress.files.whole import whole_file
from neurocompress.frontends.nir_conventions import KEY, KEY_ASSUMED
from neurocompress.frontends.nir_file import memory_limit, memory_of
from neurocompress.frontends.nir_wiring import NO_BIAS, NODE_FACTS
from neurocompress.network.graph import Network
from neurocompress.network.nodes import (
    Array,
    Conv,
    Delay,
    Flatten,
    Input,
    Linear,
    Neuron,
    Node,
    Output,
    Pool,
    Scale,
    Shape,
    Threshold,
)

if TYPE_CHECKING:
    import nir

Metadata = Mapping[str, Mapping[str, object]]


def write(network: Network, path: str | os.PathLike[str], *, metadata: Metadata | None = None) -> None:
    """Writes `network` to `path`, whole or not at all.

    metadata: facts by node name ("" for the graph), each a dict of text, numbers, arrays or such dicts; they are
    added to `network.metadata`. Weights keep their dtype; neuron parameters become full arrays.
    `neurocompress.frontends.nir.read` gives the same network back.
    Raises `Refused` for what NIR can not hold and for a path that can not be written.
    """
    import nir

    facts = _metadata(network, metadata or {})
    nodes: dict[str, nir.NIRNode] = {}
    about_nodes: dict[str, dict[str, Any]] = {}
    problems: list[Problem] = []
    for name, node in network.nodes.items():
        sources = network.inputs_of(name)
        shape = network.shapes[sources[0] if sources else name]
        try:
            if "/" in name or not name or not network.shapes[name]:
                raise ValueError("NIR can not store its name" if network.shapes[name] else "it has no axes")
            nodes[name] = _node(node, shape, network.shapes[name])
            about_nodes[name] = _values(facts.pop(name, {}))
        except ValueError as error:
            problems.append(Problem(str(error), f"node '{name}'", "Change the node and write again"))
    try:
        about = _values(facts.pop("", {}))
    except ValueError as error:
        problems.append(Problem(str(error), "the graph", "Use text, numbers and arrays"))
    problems += [Problem("has metadata but is no node of the network", f"'{name}'",
                         f"Nodes are: {', '.join(network.nodes)}") for name in facts if name not in network.nodes]
    if problems:
        raise Refused(problems)
    about_nodes = {name: values for name, values in about_nodes.items() if values}
    if about_nodes:
        about[NODE_FACTS] = about_nodes
    graph = nir.NIRGraph(nodes, [tuple(edge) for edge in network.edges], metadata=about, type_check=False)

    # in memory first: HDF5 that meets a full disk in the midst of a file ends in an abort when the process does
    content, memory = _packed(graph, "gzip")
    if memory > memory_limit(content.getbuffer().nbytes):  # so many zeros that the reader would refuse it
        content, _ = _packed(graph, None)
    with whole_file(Path(path)) as new:
        new.write_bytes(content.getbuffer())


def _packed(graph: nir.NIRGraph, compression: str | None) -> tuple[io.BytesIO, int]:
    """A NIR file, and the bytes that a reader holds of it."""
    import h5py
    import nir

    content, memory = io.BytesIO(), 0
    nir.write(content, graph, compression=compression)

    def add(_: str, item: Any) -> None:
        nonlocal memory
        memory += memory_of(item) if isinstance(item, h5py.Dataset) else 0

    with h5py.File(content, "r+") as file:
        for node in file["node/nodes"].values():
            if "v_reset" in node and not np.any(node["v_reset"][()]):
                del node["v_reset"]
        file.visititems(add)
    return content, memory


def _metadata(network: Network, more: Metadata) -> dict[str, dict[str, object]]:
    """The network's metadata, the caller's on top, and what NIR's fields do not hold."""
    facts = {name: dict(values) for name, values in network.metadata.items()}
    for name, values in more.items():
        facts.setdefault(name, {}).update(values)
    facts.setdefault("", {})[KEY] = json.dumps(network.conventions.to_dict())
    if network.assumed:  # it stays so for whoever reads the file
        facts[""][KEY_ASSUMED] = ",".join(network.assumed)
    for name, node in network.nodes.items():
        if isinstance(node, Conv) and node.bias is None:
            facts.setdefault(name, {})[NO_BIAS] = "none"
    return facts


def _values(metadata: Mapping[str, object]) -> dict[str, Any]:
    """Metadata as nir.write takes it: 0-d arrays as scalars. Raises ValueError for what HDF5 can not store."""
    plain: dict[str, Any] = {}
    for key, value in metadata.items():
        if not key or "/" in key:
            raise ValueError(f"the metadata key '{key}' can not be stored")
        if isinstance(value, Mapping):
            plain[key] = _values(value)
        elif isinstance(value, (str, bool, int, float)):
            plain[key] = value
        elif isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "fiub":
            plain[key] = value.item() if value.ndim == 0 else value
        else:
            raise ValueError(f"its metadata '{key}' is a {type(value).__name__}, which can not be stored")
    return plain


def _node(node: Node, shape: Shape, output: Shape) -> nir.NIRNode:
    """The NIR node for an input of `shape`. Raises ValueError with a sentence for what NIR has no word for."""
    import nir

    if isinstance(node, Input):
        return nir.Input(np.array(node.shape))
    if isinstance(node, Output):
        return nir.Output(np.array(output))
    if isinstance(node, Linear):
        return nir.Linear(node.weight) if node.bias is None else nir.Affine(node.weight, node.bias)
    if isinstance(node, Conv):
        return _conv(node, shape)
    if isinstance(node, Pool):
        kind = nir.SumPool2d if node.kind == "sum" else nir.AvgPool2d
        padding = _symmetric(node.padding)
        if padding is None:
            raise ValueError(f"NIR has no pooling with padding {node.padding}")
        return kind(np.array(node.kernel_size), np.array(node.stride), np.array(padding))
    if isinstance(node, Flatten):
        return nir.Flatten(np.array(shape), node.start_dim, node.end_dim)
    if isinstance(node, Scale):
        return nir.Scale(_full(node.scale, shape))
    if isinstance(node, Threshold):
        return nir.Threshold(_full(node.threshold, shape))
    if isinstance(node, Delay):
        return nir.Delay(_full(node.delay, shape))
    return _neuron(node)


def _full(values: Array, shape: Shape) -> Array:
    return np.ascontiguousarray(np.broadcast_to(values, shape))


def _symmetric(padding: tuple[tuple[int, int], ...]) -> Shape | None:
    return tuple(a for a, _ in padding) if all(a == b for a, b in padding) else None


def _conv(node: Conv, shape: Shape) -> nir.NIRNode:
    import nir

    kernel = node.weight.shape[2:]
    spans = [d * (k - 1) for d, k in zip(node.dilation, kernel, strict=True)]
    same = max(node.stride) == 1 and node.padding == tuple((s // 2, s - s // 2) for s in spans)
    padding: Shape | str | None = _symmetric(node.padding)
    if same and (padding is None or len(set(kernel)) > 1):
        padding = "same"  # also the one padding for which nir gets a non-square kernel's output right
    if padding is None:
        raise ValueError(f"NIR has no convolution with padding {node.padding}")
    bias = np.zeros(node.weight.shape[0], node.weight.dtype) if node.bias is None else node.bias
    if len(kernel) == 1:
        number = padding if isinstance(padding, str) else padding[0]
        return nir.Conv1d(shape[1], node.weight, node.stride[0], number, node.dilation[0], node.groups, bias)
    return nir.Conv2d(shape[1:], node.weight, node.stride, padding, node.dilation, node.groups, bias)


def _neuron(node: Neuron) -> nir.NIRNode:
    import nir

    names = {"I": ("r",), "IF": ("r", "v_threshold", "v_reset"), "LI": ("tau", "r", "v_leak"),
             "LIF": ("tau", "r", "v_leak", "v_threshold", "v_reset"),
             "CubaLI": ("tau_syn", "tau_mem", "r", "v_leak", "w_in"),
             "CubaLIF": ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "v_reset", "w_in")}[node.kind]
    given = {name: getattr(node, "tau_mem" if name == "tau" else name) for name in names}
    if given.get("v_leak", node.r) is None:
        given["v_leak"] = np.zeros((), node.r.dtype)
    if given.get("w_in", node.r) is None:
        given["w_in"] = np.ones((), node.r.dtype)
    if given.get("v_reset", node.r) is None:
        given["v_reset"] = np.zeros((), given["v_threshold"].dtype)
    kind: Any = getattr(nir, node.kind)
    full = {name: _full(values, node.shape) for name, values in given.items()}
    made: nir.NIRNode = kind(**full)
    for name, values in full.items():
        setattr(made, name, values)  # nir changes the dtype of w_in
    return made
