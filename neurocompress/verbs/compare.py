"""The verb compare: two networks over the same data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import Problem, Refused
from ..files import bundle
from ..network.conventions import Overrides, overrides, shown
from ..network.graph import Network
from ..network.readout import Mode
from ..progress import Progress, silent
from ..verification.deployed import Deployed, deployed
from ..verification.reading import Reader, as_on, as_read
from ..verification.results import Comparison
from .load import load
from .models import path_of, title_of

if TYPE_CHECKING:
    from ..data.given import Data
    from ..verification.verify import Engine
    from .models import Model


def compare(
    a: Model, b: Model, data: Data, *, preset: str | None = None, dt: float | None = None, reset: str | None = None,
    convention: Overrides = (), readout: Mode = "auto", steps: int | None = None, progress: Progress | None = None,
) -> Comparison:
    """A model (float simulator) or bundle (emulator) against another, over the same spikes, batch by batch where they
    come in batches (`neurocompress.data.given`).

    preset, dt, reset, convention: how models are read, as `load`. Without any, a model beside a bundle is read with
    those that the bundle was deployed with, so that both mean the same network. readout, steps: as `simulate`. Raises
    `Refused`.
    """
    from ..data.given import spikes_of
    from ..data.spikes import SpikeData, refuse_labels
    from ..verification.verify import verify

    asked = {"preset": preset, "convention": overrides(convention, preset=preset, dt=dt, reset=reset)}
    tell = progress or silent
    tell("reading the models", 0, 0)
    first, second = _runnable(a, b, asked, readout), _runnable(b, a, asked, readout)
    if first.input_shape != second.input_shape:
        raise Refused(Problem(
            f"A takes inputs of shape {first.input_shape}, B of {second.input_shape}",
            fix="Compare networks for the same data"))
    both = {n: int(np.prod(s)) for n, s in first.shapes.items() if second.shapes.get(n) == s}
    tell("reading the data", 0, 0)
    given = spikes_of(data, first.input_shape, analog=True, steps=steps)
    notes = [*first.notes, *second.notes]
    if isinstance(given, SpikeData):
        notes = [*_notes_on(first, given.spikes), *_notes_on(second, given.spikes)]
    labels: list[np.ndarray] = []
    beyond, total = [0, 0], 0

    def batches() -> Iterator[np.ndarray]:
        nonlocal total
        for batch in [given] if isinstance(given, SpikeData) else given:
            total += batch.spikes.size
            for k, side in enumerate((first, second)):
                refuse_labels(batch, side.outputs)
                beyond[k] += 0 if side.there is None else side.there.clipped(batch.spikes)
            if batch.labels is not None:
                labels.append(batch.labels)
            yield batch.spikes

    count = given.samples if isinstance(given, SpikeData) else 0
    runs, changes = verify(
        {"a": first.engine, "b": second.engine}, (("a", "b"),), batches(), both, first.input,
        progress=lambda done: tell("comparing", done, count))
    accuracy = None
    if labels:
        accuracy = tuple(100.0 * float(np.mean(runs[k].classes == np.concatenate(labels))) for k in "ab")
    agreement = 100.0 * float(np.mean(runs["a"].classes == runs["b"].classes))
    for side, clipped in zip((first, second), beyond, strict=True):
        notes += () if side.there is None else side.there.said(clipped, total)
    return Comparison(title_of(a), title_of(b), len(runs["a"].scores), accuracy, agreement,  # type: ignore[arg-type]
                      changes["a", "b"], (runs["a"], runs["b"]), tuple(dict.fromkeys(notes)),
                      first.titles | second.titles)


@dataclass(frozen=True, eq=False)
class _Runnable:
    engine: Engine
    shapes: dict[str, tuple[int, ...]]  # of its populations
    input: str
    input_shape: tuple[int, ...]
    outputs: int
    notes: tuple[str, ...]
    titles: dict[str, str]
    network: Network | None = None
    there: Deployed | None = None


def _notes_on(side: _Runnable, spikes: np.ndarray) -> tuple[str, ...]:
    """Its notes, with what another reading of a model would change on the data."""
    from ..simulation.readings import with_other_readings

    if side.network is None:
        return side.notes
    return (side.notes[0], *with_other_readings(side.network, spikes).notes)


def _runnable(model: Model, beside: Model, asked: Mapping[str, Any], readout: Mode) -> _Runnable:
    """A bundle as its emulator, a model as its float simulation, read as the user asks or as the other one was."""
    from ..network.titles import all_titles
    from ..verification.verify import deployed_engine, float_engine

    path, other = path_of(model), path_of(beside)
    if path is not None and bundle.is_bundle(path):
        there = deployed(path)
        shapes = {p.name: p.shape for p in there.integer.populations}
        if there.host is not None:
            shapes[there.integer.input] = there.integer.input_shape
        return _Runnable(deployed_engine(there), shapes, there.integer.input, there.input_shape,
                         Reader.on_chip(there.integer, there.whole, ()).outputs,
                         (f"{path}: emulated in the chip's integers",), all_titles(there.integer), there=there)
    reading, how = {k: v for k, v in asked.items() if v}, "read with"
    if isinstance(model, Network):
        reading = {}  # it was read already
    elif not reading and other is not None and bundle.is_bundle(other):
        reading, how = _reading_of(other), f"read as {other} was:"
    network = as_read(load(model, **reading), readout)
    if readout == "auto" and other is not None and bundle.is_bundle(other):
        network = as_on(network, deployed(other).integer)
    named = {k: v for k, v in reading.items() if k != "convention"} | dict(reading.get("convention", {}))
    said = f", {how} " + ", ".join(f"{k} {shown(v)}" for k, v in named.items()) if named else ""
    shapes = {n: network.shapes[n] for n in network.populations}
    return _Runnable(float_engine(network), shapes, network.input, network.shapes[network.input],
                     Reader.of(network, ()).outputs,
                     (f"{title_of(model)}: simulated in floating point{said}", *network.notes),
                     all_titles(network), network)


def _reading_of(folder: Path) -> dict[str, Any]:
    """preset, dt, reset and convention with which the model of a bundle was read; what was not given is left out."""
    options = bundle.read_report(folder).get("options")
    given = options if isinstance(options, dict) else {}
    found = {name: given[name] for name in ("preset", "dt", "reset", "convention") if given.get(name)}
    if "convention" not in given and found.get("preset") == "snntorch":
        found["preset"] = "snntorch-nir"  # what this preset was when such bundles were written
    return found
