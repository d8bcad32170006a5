"""Reads a NIR file (https://neuroir.org, files of nir 0.1 to 1.0.8) into a `Network`.

The file is read with h5py and not with nir.read, which refuses older files whose meaning is clear and accepts
NaN weights and negative time constants. Every repair and every assumption is a sentence in `Network.notes`.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import Problem, Refused
from ..network.conventions import Overrides, overrides
from ..network.graph import Network, natural
from ..network.nodes import Conv, Flatten, Node, Pool, Shape
from ..network.shapes import BATCH_FIX, counts_the_batch, output_shape
from .nir_conventions import KEY, KEY_ASSUMED, settle
from .nir_file import MAX_BYTES, load, memory_limit
from .nir_graph import tree_of
from .nir_nodes import MAX_SIGNAL, SIGNAL_BYTES, Reading, check, check_port, make, numbers
from .nir_wiring import NEURONS, Flat, Record, flatten

if TYPE_CHECKING:
    import nir


def read(
    source: str | os.PathLike[str] | nir.NIRGraph, *, preset: str | None = None, dt: float | None = None,
    reset: str | None = None, convention: Overrides = (),
) -> Network:
    """The network in a NIR file or a `nir.NIRGraph`: weights keep their dtype, neuron parameters become full arrays.

    preset: a platform's conventions ("norse", "snntorch", ...), used where the file does not say. dt: seconds per
    time step, reset: "zero" or "subtract", convention: any others, {"v_floor": False} or ["v_floor=false"]; they go
    before anything else. `Network.metadata` holds each node's metadata by name, and the graph's own under "".
    Raises `Refused` with every problem found.
    """
    path = Path(source) if isinstance(source, (str, os.PathLike)) else None
    given = overrides(convention, preset=preset, dt=dt, reset=reset)
    try:
        if path is None:
            return _network(flatten(tree_of(source)), MAX_BYTES, preset, given)
        return _network(flatten(load(path)), memory_limit(path.stat().st_size), preset, given)
    except Refused as refused:
        file = "the NIRGraph" if path is None else str(path)
        raise Refused(replace(p, file=p.file or file) for p in refused.problems) from None


def _network(flat: Flat, memory: int, preset: str | None, given: Mapping[str, Any]) -> Network:
    clip_tau = preset == "spyx"
    problems = list(flat.problems)
    _mend_inputs(flat)
    for name, record in flat.nodes.items():
        problems += check(name, record, clip_tau)
    for name, record in flat.ports.items():
        problems += check_port(name, record)
    if problems:
        raise Refused(problems)
    _add_ends(flat)
    draft = _fit(flat, clip_tau, memory)
    silent = [name for name, record in flat.nodes.items() if "v_threshold" in record.fields
              and "v_reset" not in record.fields]
    if silent:
        draft.notes.append(f"v_reset = 0 in {', '.join(sorted(silent, key=natural))}: not in the file.")
    graph_metadata = flat.metadata.get("", {})
    conventions, assumed, said = settle(draft.nodes, graph_metadata, preset, given)
    metadata = {name: {k: v for k, v in values.items() if k not in (KEY, KEY_ASSUMED)}
                for name, values in flat.metadata.items()}
    return Network(
        {name: draft.nodes[name] for name in sorted(draft.nodes, key=natural)},
        tuple(sorted(flat.edges, key=lambda edge: (natural(edge[0]), natural(edge[1])))),
        conventions,
        tuple(dict.fromkeys([*flat.notes, *draft.notes, *said])),
        {name: values for name, values in metadata.items() if values},
        assumed,
    )


def _mend_inputs(flat: Flat) -> None:
    """Gives an Input without a shape the one that what it feeds needs."""
    fed: dict[str, list[str]] = {}
    for a, b in flat.edges:
        fed.setdefault(a, []).append(b)
    for name, record in flat.nodes.items():
        if record.type != "Input" or np.size(record.fields.get("shape", ())):
            continue
        needed: set[Shape] = set()
        for b in fed.get(name, ()):
            with contextlib.suppress(Refused):  # reported by name when the record is checked
                needed |= {_input_shape(b, flat.nodes[b])} if b in flat.nodes else set()
        if len(needed) == 1 and (shape := needed.pop()):
            flat.nodes[name] = replace(record, fields={"shape": np.array(shape, dtype=int)})
            flat.notes.append(f"{name} (Input) has no shape: {shape}, as what it feeds needs.")


def _add_ends(flat: Flat) -> None:
    """Gives a graph without Input or Output the one it can only mean."""
    sources, targets = {a for a, _ in flat.edges}, {b for _, b in flat.edges}
    for kind, loose in (("Input", [n for n in flat.nodes if n not in targets]),
                        ("Output", [n for n in flat.nodes if n not in sources])):
        loose = [n for n in loose if flat.nodes[n].type not in ("Input", "Output")]
        if any(record.type == kind for record in flat.nodes.values()) or len(loose) != 1:
            continue
        name = f"{kind.lower()}_{loose[0]}"
        shape = _input_shape(loose[0], flat.nodes[loose[0]]) if kind == "Input" else ()
        if name in flat.nodes or (kind == "Input" and not shape):
            continue
        flat.nodes[name] = Record(kind, {"shape": np.array(shape, dtype=int)})
        flat.edges.append((name, loose[0]) if kind == "Input" else (loose[0], name))
        flat.notes.append(f"The file has no {kind}: '{loose[0]}' is taken as the network's {kind.lower()}.")


def _input_shape(name: str, record: Record) -> Shape:
    """The shape a record needs at its input, () when it alone does not tell."""
    shapes = {key: np.shape(value) for key, value in record.fields.items()}
    if record.type in ("Linear", "Affine"):
        return shapes.get("weight", ())[1:]
    if record.type in NEURONS:
        try:
            return np.broadcast_shapes(*shapes.values())
        except ValueError:
            given = ", ".join(f"{key} {shape}" for key, shape in shapes.items())
            raise Refused(Problem(f"its parameters have shapes that do not go together: {given}",
                                  f"node '{name}' ({record.type})", "Give every parameter one value per neuron")
                          ) from None
    return ()


@dataclass
class _Draft:
    nodes: dict[str, Node]
    notes: list[str]
    problems: list[Problem]


def _fit(flat: Flat, clip_tau: bool, memory: int) -> _Draft:
    """The nodes with all shapes, as the file says or, when that fits nowhere, as its exporter must have meant it.

    The other readings are global: pools whose stride 1 stands for their kernel, weights stored transposed.
    """
    pools = any(record.type.endswith("Pool2d") for record in flat.nodes.values())
    lines = any(record.type in ("Linear", "Affine") for record in flat.nodes.values())
    first: _Draft | None = None
    for transposed, kernel_strides in product((False, True), repeat=2):
        if (transposed and not lines) or (kernel_strides and not pools):
            continue
        draft = _draft(flat, Reading(transposed, kernel_strides, clip_tau=clip_tau, spread_left=memory))
        if not draft.problems:
            if transposed:
                draft.notes.append("All weights are stored as (inputs, outputs) and only fit transposed: read so.")
            return draft
        first = first or draft
    assert first is not None
    raise Refused(first.problems)


def _counts_the_batch(
    node: Node | None, source: str, draft: _Draft, flat: Flat, shapes: dict[str, Shape]
) -> str:
    before = draft.nodes.get(source)
    into = next((shapes[a] for a, b in flat.edges if b == source and a in shapes), None)
    if node is None or into is None or not isinstance(before, Flatten):
        return ""
    return counts_the_batch(node, source, before, into)


def _draft(flat: Flat, reading: Reading) -> _Draft:
    """Every node made for the signal that reaches it, from the input on; feedback closes later."""
    draft = _Draft({}, reading.notes, [])
    after: dict[str, list[str]] = {}
    for a, b in sorted(flat.edges, key=lambda edge: natural(edge[1])):
        after.setdefault(a, []).append(b)
    shapes: dict[str, Shape] = {}
    for name in sorted((n for n, r in flat.nodes.items() if r.type == "Input"), key=natural):
        shape = _signal_shape(name, flat, after, reading, draft.problems)
        if shape is not None:
            draft.nodes[name] = make(name, flat.nodes[name], shape, reading)
            shapes[name] = shape
    carried = sum(math.prod(shape) for shape in shapes.values())
    most = min(MAX_SIGNAL, reading.spread_left // SIGNAL_BYTES)
    waiting = deque(shapes)
    while waiting:
        source = waiting.popleft()
        for name in after.get(source, ()):
            if name in draft.nodes or name not in flat.nodes:
                continue
            where = f"node '{name}' ({flat.nodes[name].type})"
            node: Node | None = None
            try:
                node = make(name, flat.nodes[name], shapes[source], reading)
                shape = output_shape(node, shapes[source])
                carried += math.prod(shape) * max(1, len(after.get(name, ()))) + _padded(node, shapes[source])
                if not shape or carried > most:
                    raise ValueError(f"its output has shape {shape}; with the signals before it these are {carried} "
                                     f"values, at most {most} are read from a file of this size")
            except ValueError as error:
                why = _counts_the_batch(node, source, draft, flat, shapes)
                draft.problems.append(Problem(
                    str(error) + why, where, BATCH_FIX if why else f"Check it and what feeds it: {source}"))
                return draft  # what follows would only repeat the mismatch
            draft.nodes[name], shapes[name] = node, shape
            waiting.append(name)
    for name in flat.nodes:
        if name not in draft.nodes and flat.nodes[name].type != "Input":
            draft.problems.append(Problem(
                "no path leads to it from the input", f"node '{name}'", "Connect it to the input or remove it"))
    _closed(flat, draft, shapes)
    return draft


def _padded(node: Node, shape: Shape) -> int:
    """Values that padding adds to the input of a node."""
    if not isinstance(node, (Conv, Pool)):
        return 0
    return math.prod((shape[0], *(n + sum(p) for n, p in zip(shape[1:], node.padding, strict=True)))) - math.prod(shape)


def _closed(flat: Flat, draft: _Draft, shapes: dict[str, Shape]) -> None:
    """Checks the edges that came second (sums, feedback), and the declared shapes of the ports that vanished."""
    into: dict[str, set[Shape]] = {}
    for a, b in flat.edges:
        if a in shapes and b in shapes:
            into.setdefault(b, set()).add(shapes[a])
    for name, found in into.items():
        if len(found) > 1:
            draft.problems.append(Problem(
                "it sums signals of different shapes: " + ", ".join(map(str, sorted(found))), f"node '{name}'",
                "Make what feeds it, feedback included, give the same shape"))
    inside: dict[str, set[Shape]] = {}
    for name, shape in shapes.items():
        for i, letter in enumerate(name):
            if letter == ".":
                inside.setdefault(name[:i], set()).update((shape, *into.get(name, ())))
    for port, record in flat.ports.items():
        declared = tuple(int(n) for n in np.atleast_1d(np.asarray(record.fields.get("shape", []))))
        group = port.rpartition(".")[0]
        if declared and record.type == "Input" and group in inside and declared not in inside[group]:
            draft.notes.append(f"{port}: declares shape {declared}, which nothing in '{group}' has; left aside.")


def _signal_shape(
    name: str, flat: Flat, after: dict[str, list[str]], reading: Reading, problems: list[Problem]
) -> Shape | None:
    """The input's shape, without an axis of batch or time in front when the layers after it have no place for it."""
    shape = tuple(int(n) for n in np.atleast_1d(np.asarray(flat.nodes[name].fields["shape"])))
    if not shape or min(shape) < 1 or int(np.prod(shape, dtype=object)) > MAX_SIGNAL:
        problems.append(Problem(f"its shape {shape} is not the shape of a signal (at most {MAX_SIGNAL} values)",
                                f"node '{name}' (Input)", "Give the shape of one time step of one sample"))
        return None
    if len(shape) < 2:
        return shape
    seen, waiting = {name}, deque(after.get(name, ()))
    while waiting:
        target = waiting.popleft()
        if target in seen or target not in flat.nodes:
            continue
        seen.add(target)
        if _takes(flat.nodes[target], shape[1:], reading):
            what = "a batch axis of 1" if shape[0] == 1 else f"{shape[0]} time steps"
            reading.note(name, f"shape {shape} starts with {what}; the signal is read as {shape[1:]}")
            reading.batch = True
            return shape[1:]
        if flat.nodes[target].type in (*NEURONS, "Scale", "Threshold", "Delay"):
            waiting.extend(after.get(target, ()))
    return shape


def _takes(record: Record, shape: Shape, reading: Reading) -> bool:
    """Whether a layer can only be meant for signals of `shape`."""
    if record.type in ("Linear", "Affine"):
        weight = numbers(record.fields["weight"]).shape
        return len(weight) == 2 and shape == (weight[0 if reading.transposed else 1],)
    if record.type in ("Conv2d", "SumPool2d", "AvgPool2d"):
        return len(shape) == 3
    return record.type == "Conv1d" and len(shape) == 2
