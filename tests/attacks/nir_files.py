"""NIR files, changed field by field: trees of plain values, written with h5py in every way that HDF5 allows."""

from __future__ import annotations

import copy
import itertools
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.attacks import wild
from tests.cli_runner import DIGITS

Tree = dict[str, Any]
TYPES = ("Input", "Output", "Linear", "Affine", "Conv1d", "Conv2d", "SumPool2d", "AvgPool2d", "Flatten", "Scale",
         "Threshold", "Delay", "I", "IF", "LI", "LIF", "CubaLI", "CubaLIF", "NIRGraph", "Izhikevich")
KEYS = ("shape", "weight", "bias", "tau", "tau_mem", "tau_syn", "r", "v_leak", "v_threshold", "v_reset", "w_in",
        "stride", "padding", "dilation", "groups", "kernel_size", "start_dim", "end_dim", "input_type", "input_shape",
        "scale", "threshold", "delay")


@dataclass(frozen=True)
class Hole:
    """A dataset that declares values and stores none."""

    shape: tuple[int, ...]
    dtype: str
    chunks: tuple[int, ...] | None


@dataclass(frozen=True)
class Link:
    """A link of one kind to a path."""

    kind: str
    to: str


def lif(n: int | tuple[int, ...]) -> Tree:
    one = np.ones(n, np.float32)
    return {"type": "LIF", "tau": 0.02 * one, "r": one, "v_leak": 0 * one, "v_threshold": one, "v_reset": 0 * one}


def cuba(n: int) -> Tree:
    return {**lif(n), "type": "CubaLIF", "tau_mem": np.full(n, 0.02), "tau_syn": np.full(n, 0.01), "w_in": np.ones(n)}


def linear(rng: np.random.Generator, a: int, b: int) -> Tree:
    return {"type": "Affine", "weight": rng.normal(size=(a, b)).astype(np.float32), "bias": np.zeros(a, np.float32)}


def ends(a: tuple[int, ...], b: tuple[int, ...]) -> Tree:
    return {"input": {"type": "Input", "shape": np.array(a)}, "output": {"type": "Output", "shape": np.array(b)}}


def graph(nodes: Tree, edges: list[tuple[str, str]]) -> Tree:
    return {"type": "NIRGraph", "nodes": nodes, "edges": np.array(edges, dtype=object)}


def chain(nodes: Tree) -> Tree:
    """A graph whose inner nodes follow one another as they are listed."""
    inner = [n for n in nodes if n not in ("input", "output")]
    return graph(nodes, list(zip(["input", *inner], [*inner, "output"], strict=True)))


@cache
def bases() -> tuple[Tree, ...]:
    """Small networks of every kind of node, and the shipped one."""
    rng = np.random.default_rng(0)
    dense = chain(ends((3,), (2,)) | {"fc": linear(rng, 4, 3), "l": lif(4), "fc2": linear(rng, 2, 4), "c": cuba(2)})
    del dense["nodes"]["c"]["tau"]
    image = chain(ends((2, 8, 8), (3,)) | {
        "cv": {"type": "Conv2d", "weight": rng.normal(size=(4, 2, 3, 3)).astype(np.float32), "bias": np.zeros(4),
               "stride": np.array([1, 1]), "padding": np.array([1, 1]), "dilation": np.array([1, 1]), "groups": 1,
               "input_shape": np.array([8, 8])},
        "n": {"type": "IF", "r": np.ones((4, 8, 8)), "v_threshold": np.ones((4, 8, 8)), "v_reset": np.zeros((4, 8, 8))},
        "p": {"type": "SumPool2d", "kernel_size": np.array([2, 2]), "stride": np.array([2, 2]),
              "padding": np.array([0, 0])},
        "f": {"type": "Flatten", "start_dim": 0, "end_dim": -1, "input_type": np.array([4, 4, 4])},
        "fc": linear(rng, 3, 64), "o": lif(3)})
    nested = chain(ends((2,), (2,)) | {"w": linear(rng, 2, 2), "sub": chain(ends((2,), (2,)) | {"l": lif(2)})})
    recurrent = graph(ends((3,), (2,)) | {"fc": linear(rng, 4, 3), "l": lif(4), "rec": linear(rng, 4, 4),
                                          "s": {"type": "Scale", "scale": np.ones(4)}, "fc2": linear(rng, 2, 4),
                                          "t": {"type": "Threshold", "threshold": np.ones(2)}},
                      [("input", "fc"), ("fc", "l"), ("l", "rec"), ("rec", "l"), ("l", "s"), ("s", "fc2"),
                       ("fc2", "t"), ("t", "output")])
    odd = graph(ends((3, 10), (6,)) | {
        "cv": {"type": "Conv1d", "weight": rng.normal(size=(2, 3, 3)), "bias": np.zeros(2), "stride": 1, "padding": 0,
               "dilation": 1, "groups": 1, "input_shape": 10},
        "d": {"type": "Delay", "delay": np.zeros((2, 8))}, "i": {"type": "LI", **{k: np.ones((2, 8)) for k in (
            "tau", "r", "v_leak")}}, "h": {"type": "Threshold", "threshold": np.ones((2, 8))},
        "f": {"type": "Flatten", "start_dim": 0, "end_dim": -1, "input_type": np.array([2, 8])},
        "fc": linear(rng, 6, 16), "b": linear(rng, 6, 16), "o": lif(6)},
        [("input", "cv"), ("cv", "d"), ("d", "i"), ("i", "h"), ("h", "f"), ("f", "fc"), ("f", "b"), ("fc", "o"),
         ("b", "o"), ("o", "output")])
    with h5py.File(DIGITS) as file:
        digits = _tree(file["node"])
    return dense, image, nested, recurrent, odd, digits


def _tree(group: h5py.Group) -> Tree:
    """What h5py holds, as a tree."""
    return {k: _tree(v) if isinstance(v, h5py.Group) else _plain(v) for k, v in group.items()}


def _plain(item: h5py.Dataset) -> Any:
    value = item.asstr()[()] if h5py.check_string_dtype(item.dtype) else item[()]
    return np.asarray(value, dtype=object) if getattr(value, "dtype", np.dtype(int)).kind == "O" else value


def nodes_of(tree: Tree) -> list[tuple[Tree, str]]:
    """Every node of a graph and of those nested in it, as (its siblings, its name)."""
    found = []
    waiting = [tree]
    while waiting:
        children = waiting.pop().get("nodes")
        for name, child in children.items() if isinstance(children, dict) else ():
            found.append((children, name))
            if isinstance(child, dict):
                waiting.append(child)
    return found


def value(rng: random.Random) -> Any:
    """Anything that a dataset can be."""
    turn = rng.randrange(13)
    if turn == 0:
        return wild.text(rng)
    if turn == 1:
        return wild.number(rng) if rng.random() < 0.5 else np.array(wild.number(rng), np.float32)
    if turn == 2:
        return np.array([wild.text(rng) for _ in range(rng.randrange(4))], dtype=object)
    if turn == 3:
        side = 10 ** rng.randrange(1, 12)
        return Hole((side,) * rng.randrange(1, 3), rng.choice(("f4", "i8", "S9", "?")),
                    rng.choice((None, (1,), (4096,))))
    if turn == 4:
        return np.zeros(rng.choice(((), (2,))), [("a", "f4"), ("b\x1b[31m" if rng.random() < 0.5 else "b", "i4")])
    if turn == 5:
        return Link(rng.choice(("soft", "external", "hard")), rng.choice(("/", "/node", "/nowhere", "/node/nodes")))
    if turn == 6:
        return {wild.text(rng).replace("/", "") or "k": wild.array(rng) for _ in range(rng.randrange(3))}
    if turn == 7:
        return np.frombuffer(b"\xff\xfe\x00a", "S4").reshape(())
    if turn == 8:
        return np.array([rng.randrange(-3, 9) for _ in range(rng.randrange(5))], dtype=int)
    if turn == 9:
        return np.array(rng.choice((2**63 + 5, 2**64 - 1)), dtype=np.uint64)
    if turn == 10:
        return rng.choice((0, 1, 2, 3, 8, 100, 10**4, 10**6, 10**9))
    return wild.array(rng)


def mutated(tree: Tree, rng: random.Random) -> None:
    """Changes one thing in a graph."""
    places = nodes_of(tree)
    siblings, name = rng.choice(places) if places else (tree, "type")
    node = siblings.get(name)
    fields = list(node) if isinstance(node, dict) else []
    change = rng.choice((_field, _field, _field, _field, _nudge, _nudge, _lost, _extra, _kind, _name, _node, _edges,
                         _edges, _metadata, _root, _nest, _many))
    change(tree, siblings, name, node, fields, rng)


Change = Callable[[Tree, Tree, str, Any, list[str], random.Random], None]


def _field(tree: Tree, siblings: Tree, name: str, node: Any, fields: list[str], rng: random.Random) -> None:
    if fields:
        node[rng.choice(fields)] = value(rng)


def _nudge(tree: Tree, siblings: Tree, name: str, node: Any, fields: list[str], rng: random.Random) -> None:
    found = [k for k in fields if np.asarray(node[k]).dtype.kind in "fiub" and not isinstance(node[k], dict)]
    if found:
        key = rng.choice(found)
        try:
            node[key] = wild.changed(node[key], rng)
        except (ValueError, TypeError, OverflowError):
            node[key] = wild.array(rng)


def _lost(tree: Tree, siblings: Tree, name: str, node: Any, fields: list[str], rng: random.Random) -> None:
    if fields:
        del node[rng.choice(fields)]


def _extra(tree: Tree, siblings: Tree, name: str, node: Any, fields: list[str], rng: random.Random) -> None:
    if isinstance(node, dict):
        node[rng.choice((*KEYS, wild.text(rng).replace("/", "") or "k"))] = value(rng)


def _kind(tree: Tree, siblings: Tree, name: str, node: Any, fields: list[str], rng: random.Random) -> None:
    if isinstance(node, dict):
        node["type"] = rng.choice((*TYPES, wild.text(rng), value(rng)))


def _name(tree: Tree, siblings: Tree, name: str, node: Any, fields: list[str], rng: random.Random) -> None:
    new = rng.choice((wild.text(rng), f"{name}.x", f"x.{name}", f"{name}.{name}")).replace("/", "") or "k"
    siblings[new] = siblings.pop(name)
    edges = tree.get("edges")
    if rng.random() < 0.7 and isinstance(edges, np.ndarray) and edges.dtype == object:
        tree["edges"] = np.where(edges == name, new, edges).astype(object)


def _node(tree: Tree, siblings: Tree, name: str, node: Any, fields: list[str], rng: random.Random) -> None:
    turn = rng.randrange(3)
    if turn == 0:
        del siblings[name]
    elif turn == 1:
        siblings[name] = value(rng)
    else:
        siblings[rng.choice(list(siblings))] = copy.deepcopy(node)


def _edges(tree: Tree, siblings: Tree, name: str, node: Any, fields: list[str], rng: random.Random) -> None:
    edges = tree.get("edges")
    listed = [tuple(e) for e in edges.tolist()] if isinstance(edges, np.ndarray) and edges.ndim == 2 else []
    names = [*siblings, wild.text(rng), *(f"{n}.{m}" for n in list(siblings)[:3] for m in ("input", "l"))]
    turn = rng.randrange(10)
    if turn == 0 and listed:
        listed.pop(rng.randrange(len(listed)))
    elif turn in (1, 2):
        listed.append((rng.choice(names), rng.choice(names)))
    elif turn == 3:
        listed += listed
    elif turn == 4 and listed:
        listed = [(b, a) for a, b in [(e[0], e[-1]) for e in listed]]
    elif turn == 5:
        listed = [(a, b) for a in siblings for b in siblings]
    elif turn == 6:
        tree["edges"] = value(rng)
        return
    elif turn == 7 and listed:
        tree["edges"] = np.array(listed, dtype="S20") if all(str(x).isascii() for e in listed for x in e) else listed
        return
    elif turn == 8:
        tree.pop("edges", None)
        return
    else:
        rng.shuffle(listed)
    tree["edges"] = np.array(listed, dtype=object)


def _metadata(tree: Tree, siblings: Tree, name: str, node: Any, fields: list[str], rng: random.Random) -> None:
    conventions = {rng.choice(("dt", "reset", "fire", "decay", "v_floor", "ignore", "gain", "weights", "synaptic_delay",
                               "bias", wild.text(rng))):
                   rng.choice(("zero", "subtract", ">=", None, True, [], {}, [1], ["r"], wild.number(rng),
                               wild.text(rng)))}
    tree["metadata"] = {rng.choice(("neurocompress_conventions", "neurocompress_nodes", "dt", "x")): rng.choice(
        (json.dumps(conventions), "{", "[" * 9999, value(rng), {name: {"neurocompress_bias": "none"}, "x": 1}))}
    if isinstance(node, dict) and rng.random() < 0.3:
        node["metadata"] = rng.choice((value(rng), {"a": value(rng)}))


def _root(tree: Tree, siblings: Tree, name: str, node: Any, fields: list[str], rng: random.Random) -> None:
    tree[rng.choice(("type", "nodes", "edges", "metadata", "input_type", "x"))] = value(rng)


def _nest(tree: Tree, siblings: Tree, name: str, node: Any, fields: list[str], rng: random.Random) -> None:
    inner = chain(ends((2,), (2,)) | {"l": node})
    for _ in range(rng.choice((0, 0, 1, 3, 60))):
        inner = chain(ends((2,), (2,)) | {"l": inner})
    siblings[name] = inner


def _many(tree: Tree, siblings: Tree, name: str, node: Any, fields: list[str], rng: random.Random) -> None:
    """Many copies of a node, beside or behind each other."""
    if not isinstance(node, dict) or str(node.get("type")) in ("Input", "Output"):
        return
    count = rng.choice((5, 30, 300))
    names = [f"{name}{k}" for k in range(count)]
    siblings.update(dict.fromkeys(names, node))
    edges = tree.get("edges")
    if isinstance(edges, np.ndarray) and edges.ndim == 2 and edges.dtype == object and edges.shape[1] == 2:
        more = list(itertools.pairwise(names)) if rng.random() < 0.5 else [
            (a, n) for a, b in edges.tolist() for n in names if b == name] + [
            (n, b) for a, b in edges.tolist() for n in names if a == name]
        tree["edges"] = np.array([*edges.tolist(), *more, (name, names[0])], dtype=object)


def write(path: Path, tree: Tree, rng: random.Random, libver: str = "") -> None:
    """The tree as a file; what HDF5 can not hold is left out."""
    with h5py.File(path, "w", libver=libver or rng.choice(("earliest", "latest"))) as file:
        file["version"] = "1.0.8"
        _put(file, "node", tree, rng)
        if rng.random() < 0.05:
            file["node"].attrs[wild.text(rng) or "a"] = wild.array(rng).astype("f8")


def _put(group: h5py.Group, name: str, item: Any, rng: random.Random) -> None:
    try:
        if isinstance(item, dict):
            made = group.create_group(name)
            for key, part in item.items():
                _put(made, key, part, rng)
        elif isinstance(item, Hole):
            group.create_dataset(name, item.shape, item.dtype,
                                 chunks=None if item.chunks is None else item.chunks * len(item.shape))
        elif isinstance(item, Link):
            group[name] = {"soft": h5py.SoftLink(item.to), "external": h5py.ExternalLink("x.h5", item.to)}.get(
                item.kind) or group.file["node"]
        elif isinstance(item, np.ndarray) and item.dtype == object:
            group.create_dataset(name, data=item, dtype=h5py.string_dtype())
        elif isinstance(item, np.ndarray) and item.ndim and item.size and rng.random() < 0.3:
            group.create_dataset(name, data=item, compression=rng.choice(("gzip", "lzf")), shuffle=rng.random() < 0.5)
        else:
            group[name] = item
    except (ValueError, TypeError, OSError, RuntimeError, OverflowError, KeyError, UnicodeError):
        pass


def case(folder: Path, rng: random.Random) -> Path:
    """A changed NIR file."""
    tree = copy.deepcopy(rng.choice(bases()))
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5))):
        mutated(tree, rng)
    path = folder / "model.nir"
    write(path, tree, rng)
    if rng.random() < 0.05:
        content = bytearray(path.read_bytes())
        if rng.random() < 0.5:
            del content[rng.randrange(len(content)):]
        for _ in range(rng.randrange(4) if content else 0):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content)
    return path
