"""Small files that would be large: what each once took too long over, or too much memory for. Each below 4 MB."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from tests.attacks.nir_files import Hole, Tree, chain, ends, graph, write

Made = Callable[[Path], Path]


def _nir(folder: Path, tree: Tree) -> Path:
    path = folder / "model.nir"
    write(path, tree, random.Random(1), "latest")
    assert path.stat().st_size < 4 * 10**6, path.stat().st_size
    return path


def threshold() -> Tree:
    return {"type": "Threshold", "threshold": np.float32(1)}


def scale() -> Tree:
    return {"type": "Scale", "scale": np.float32(2)}


def long_chain(folder: Path) -> Path:
    return _nir(folder, chain(ends((1,), (1,)) | {f"n{k}": threshold() for k in range(950)}))


def long_chain_of_scales(folder: Path) -> Path:
    return _nir(folder, chain(ends((1,), (1,)) | {f"n{k}": scale() for k in range(950)} | {"t": threshold()}))


def many_edges(folder: Path) -> Path:
    nodes = {f"n{k}": threshold() for k in range(36)}
    edges = [(a, b) for a in nodes for b in nodes] + [("input", "n0"), ("n0", "output")]
    return _nir(folder, graph(ends((1,), (1,)) | nodes, edges))


def wide_edges(folder: Path) -> Path:
    """Many edges, each of which carries many values."""
    nodes = {f"n{k}": threshold() for k in range(36)}
    edges = [(a, b) for a in nodes for b in nodes] + [("input", "n0"), ("n0", "output")]
    return _nir(folder, graph(ends((1500,), (1500,)) | nodes, edges))


def branches(folder: Path) -> Path:
    """Layers of scales, each fed by all before it: paths double with every one."""
    names = [f"s{k}" for k in range(60)]
    edges = [(a, b) for k, b in enumerate(names) for a in names[:k]] + [("input", names[0]), (names[-1], "t"),
                                                                        ("t", "output")]
    return _nir(folder, graph(ends((2,), (2,)) | {n: scale() for n in names} | {"t": threshold()}, edges))


def lost_names(folder: Path) -> Path:
    """Edges that name nothing, with long names and a long list of what there is."""
    nodes = {f"{'n' * 200}{k}": threshold() for k in range(50)}
    edges = [(f"a{k}", f"b{k}") for k in range(1900)]
    return _nir(folder, graph(ends((1,), (1,)) | nodes, edges))


def dotted_names(folder: Path) -> Path:
    nodes = {"." .join(["a"] * 120) + str(k): threshold() for k in range(1500)}
    edges = [(".".join(["a"] * j), ".".join(["a"] * j)) for j in range(1, 119)]
    edges += [(n, m) for n in list(nodes)[:60] for m in list(nodes)[:60]]
    return _nir(folder, graph(ends((1,), (1,)) | nodes, edges))


def many_ports(folder: Path) -> Path:
    nodes: Tree = {f"p{k}": {"type": "Output"} for k in range(400)} | {"t": threshold()}
    edges = [("t", f"p{k}") for k in range(400)] + [(f"p{k}", "t") for k in range(400)] + [("input", "t"),
                                                                                             ("t", "output")]
    return _nir(folder, graph(ends((1,), (1,)) | nodes, edges))


def many_nodes_unconnected(folder: Path) -> Path:
    return _nir(folder, graph(ends((1,), (1,)) | {f"n{k}": {"type": "\x1b[31m"} for k in range(5000)},
                              [("input", "output")]))


def spread(folder: Path) -> Path:
    """One number for millions of neurons, in layer after layer."""
    one = {"type": "CubaLIF", **{k: np.float64(1) for k in ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold")}}
    return _nir(folder, chain(ends((2**20,), (2**20,)) | {f"n{k}": one for k in range(14)}))


def wide_signal(folder: Path) -> Path:
    return _nir(folder, chain(ends((2**22 // 3,), (2**22 // 3,)) | {"t": threshold()}))


def wide_neurons(folder: Path) -> Path:
    """As many neurons as a small file may have, each with parameters of its own once they are spread."""
    one = {"type": "LIF", **{k: np.float32(1) for k in ("tau", "r", "v_leak", "v_threshold")}}
    return _nir(folder, chain(ends((2**20,), (2**20,)) | {"n": one, "m": one}))


def big_kernel_signal(folder: Path) -> Path:
    """Many neurons, each with many synapses, of a kernel of a few kilobytes."""
    conv = {"type": "Conv2d", "weight": np.ones((64, 64, 3, 3), np.float32), "bias": np.zeros(64),
            "stride": np.array([1, 1]), "padding": np.array([1, 1]), "dilation": np.array([1, 1]), "groups": 1,
            "input_shape": np.array([128, 128])}
    return _nir(folder, chain(ends((64, 128, 128), (64, 128, 128)) | {"c": conv, "t": threshold()}))


def padding(folder: Path) -> Path:
    conv = {"type": "Conv2d", "weight": np.ones((1, 1, 1, 1)), "bias": np.zeros(1), "stride": np.array([10**6, 10**6]),
            "padding": np.array([2**30, 2**30]), "dilation": np.array([1, 1]), "groups": 1,
            "input_shape": np.array([8, 8])}
    return _nir(folder, chain(ends((1, 8, 8), (1, 2148, 2148)) | {"c": conv, "t": threshold()}))


def pool_window(folder: Path) -> Path:
    pool = {"type": "SumPool2d", "kernel_size": np.array([1400, 1400]), "stride": np.array([1, 1]),
            "padding": np.array([0, 0])}
    return _nir(folder, chain(ends((1, 1400, 1400), (1, 1, 1)) | {"t": threshold(), "p": pool, "u": threshold()}))


def pool_then_dilated(folder: Path) -> Path:
    """A convolution with wide gaps before a pool: as one kernel they are huge."""
    conv = {"type": "Conv2d", "weight": np.ones((64, 64, 2, 2), np.float32), "bias": np.zeros(64),
            "stride": np.array([1, 1]),
            "padding": np.array([0, 0]), "dilation": np.array([300, 300]), "groups": 1,
            "input_shape": np.array([310, 310])}
    pool = {"type": "SumPool2d", "kernel_size": np.array([2, 2]), "stride": np.array([2, 2]),
            "padding": np.array([0, 0])}
    return _nir(folder, chain(ends((64, 310, 310), (64, 5, 5)) | {"c": conv, "p": pool, "t": threshold()}))


def product(folder: Path) -> Path:
    """Two thin layers whose product is a huge matrix."""
    a = {"type": "Linear", "weight": np.zeros((1, 200_000), np.float32)}
    b = {"type": "Linear", "weight": np.zeros((200_000, 1), np.float32)}
    return _nir(folder, chain(ends((200_000,), (200_000,)) | {"a": a, "b": b, "t": threshold()}))


def diagonals(folder: Path) -> Path:
    """Scales without weights behind them, each a matrix when stored as synapses."""
    parts: Tree = {}
    for k in range(40):
        parts |= {f"t{k}": threshold(), f"s{k}": {"type": "Scale", "scale": np.linspace(0, 1, 8000, dtype=np.float32)}}
    return _nir(folder, chain(ends((8000,), (8000,)) | parts | {"t": threshold()}))


def hole_weights(folder: Path) -> Path:
    """As many weights as a small file may declare, none stored."""
    return _nir(folder, chain(ends((8000,), (8000,)) | {"w": {"type": "Linear",
                                                              "weight": Hole((8000, 8000), "f4", None)},
                                                        "t": threshold()}))


def hole_kernel(folder: Path) -> Path:
    conv = {"type": "Conv2d", "weight": Hole((2000, 2000, 3, 3), "f4", None), "bias": np.zeros(2000),
            "stride": np.array([1, 1]),
            "padding": np.array([1, 1]), "dilation": np.array([1, 1]), "groups": 1, "input_shape": np.array([32, 32])}
    return _nir(folder, chain(ends((2000, 32, 32), (2000, 32, 32)) | {"w": conv, "t": threshold()}))


def tiny_chunks(folder: Path) -> Path:
    return _nir(folder, chain(ends((8000,), (8000,)) | {
        "w": {"type": "Linear", "weight": Hole((8000, 8000), "f4", (1,))}, "t": threshold()}))


def many_objects(folder: Path) -> Path:
    path = folder / "model.nir"
    with h5py.File(path, "w", libver="latest") as file:
        group = file.create_group("node/metadata")
        for k in range(26_000):
            group.create_group(str(k))
    return path


def heaps(folder: Path) -> Path:
    """Global heaps inside each other: every one is walked to the end of the file."""
    path = _nir(folder, chain(ends((1,), (1,)) | {"t": threshold()}))
    data = bytearray(path.read_bytes())
    data += bytes(-len(data) % 8)
    count = 100_000
    for k in range(count):
        data += b"\1\0\0\0\0\0\0\0" + struct.pack("<Q", 16) + b"GCOL\1\0\0\0" + struct.pack("<Q", 32 * (count - k) - 16)
    path.write_bytes(data)
    return path


def long_text(folder: Path) -> Path:
    tree = chain(ends((1,), (1,)) | {"t": {**threshold(), "type": "x" * 1_000_000}})
    return _nir(folder, tree)


#: Each by name, with the statuses that are right.
MODELS: dict[str, Made] = {f.__name__: f for f in (
    long_chain, long_chain_of_scales, many_edges, wide_edges, branches, lost_names, dotted_names, many_ports,
    many_nodes_unconnected, spread, wide_signal, wide_neurons, big_kernel_signal, padding, pool_window,
    pool_then_dilated, product, diagonals, hole_weights, hole_kernel, tiny_chunks, many_objects, heaps,
    long_text)}
