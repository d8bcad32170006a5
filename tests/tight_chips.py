"""Chips with tight limits, and small networks that meet them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import strategies as st

from neurocompress.chip.profile.load import Profile, load_profile
from neurocompress.network.conventions import Conventions
from neurocompress.network.graph import Network
from neurocompress.network.nodes import Conv, Delay, Flatten, Input, Linear, Neuron, Node, Output, Pool, Shape
from neurocompress.network.shapes import output_shape

#: Limits so tight that small networks meet all of them.
TIGHT = {
    "topology": {"cores_per_chip": 24},
    "core": {"neurons": 14, "synapse_memory": "900, unit: bits", "synapse_memory_reserved": "0, unit: bits",
             "axons_in": 12, "axons_out": 60, "memory_per_axon": "400, unit: bits", "fan_in": 8},
    "memory": {"formula": "weight-and-index-bits", "shared_kernels": "false"},
}


def profile(folder: Path, name: str, changes: dict[str, dict[str, object]]) -> Profile:
    """Loihi 1 with other values."""
    lines = ["extends: loihi1", f"name: {name}"]
    for part, values in changes.items():
        lines.append(f"{part}:")
        lines += [f"  {key}: {{value: {value}, source: a test, confidence: documented, kind: wall}}"
                  for key, value in values.items()]
    path = folder / f"{name}.yaml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return load_profile(path)


@cache
def chip(name: str) -> Profile:
    """Loihi 1, or a chip with tight limits under a policy."""
    if name == "loihi1":
        return load_profile(name)
    with TemporaryDirectory() as folder:
        return profile(Path(folder), name, {**TIGHT, "core": {**TIGHT["core"], "fan_in_policy": name}})


def neurons(shape: Shape) -> Neuron:
    return Neuron(shape, np.ones(()), np.ones(()), np.zeros(()))


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Chains of matrices and convolutions, pooled or not, with zeros, and at times a loop, a branch or a delay."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    zeros = draw(st.sampled_from([0.0, 0.0, 0.4, 0.8]))

    def weights(*shape: int) -> np.ndarray:
        return rng.normal(size=shape) * (rng.random(shape) >= zeros)

    image = draw(st.booleans())
    shape: Shape = (draw(st.integers(1, 2)), draw(st.integers(3, 6)), draw(st.integers(3, 6))) if image else (
        draw(st.integers(1, 16)),)
    nodes: dict[str, Node] = {"input": Input(shape)}
    edges: list[tuple[str, str]] = []
    last, populations = "input", []

    def add(name: str, node: Node) -> None:
        nonlocal last, shape
        nodes[name] = node
        edges.append((last, name))
        last, shape = name, output_shape(node, shape)

    for k in range(draw(st.integers(1, 3))):
        if len(shape) == 3 and draw(st.booleans()):
            groups = 2 if shape[0] % 2 == 0 and draw(st.booleans()) else 1
            kernel = (min(3, shape[1]), min(draw(st.integers(1, 3)), shape[2]))
            add(f"w{k}", Conv(weights(2 * draw(st.integers(1, 2)), shape[0] // groups, *kernel), None,
                              (draw(st.integers(1, 2)), 1), ((1, 1), (0, 1)), (1, 1), groups))
        else:
            if len(shape) == 3 and min(shape[1:]) > 1 and draw(st.booleans()):
                add(f"p{k}", Pool("sum", (2, 2), (2, 2), ((0, 0), (0, 0))))
            if len(shape) == 3:
                if last[0] in "in" and draw(st.integers(0, 4)) == 0:
                    add(f"d{k}", Delay(rng.integers(0, 4, shape).astype(float)))
                add(f"f{k}", Flatten())
            elif last.startswith("f") and draw(st.integers(0, 4)) == 0:
                add(f"d{k}", Delay(rng.integers(0, 4, shape).astype(float)))
            add(f"w{k}", Linear(weights(draw(st.integers(1, 30)), shape[0])))
        add(f"n{k}", neurons(shape))
        populations.append((last, shape))
    name, size = populations[-1]
    if len(size) == 1 and draw(st.booleans()):
        nodes["rec"] = Linear(weights(size[0], size[0]))
        edges += [(name, "rec"), ("rec", name)]
    if len(populations) == 3 and draw(st.booleans()):
        first, from_shape = populations[0]
        if len(from_shape) == 1 and len(size) == 1:
            nodes["skip"] = Linear(weights(size[0], from_shape[0]))
            edges += [(first, "skip"), ("skip", name)]
    edges.append((last, "output"))
    nodes["output"] = Output()
    reset = draw(st.sampled_from(["zero", "subtract"]))
    return Network(nodes, tuple(edges), Conventions(dt=1.0, reset=reset))
