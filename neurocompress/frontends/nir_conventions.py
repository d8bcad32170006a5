"""Which conventions a NIR file is run under, and why: what the user gives, what the file says, what it
lets infer, what is assumed, in that order. A preset is given by the user; its dt is only a default."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np

from ..errors import Problem, Refused
from ..network.assumed import sentence
from ..network.conventions import Conventions, from_dict, preset, shown
from ..network.nodes import Neuron, Node
from .nir_time import (
    LEAST_RATE,
    Origin,
    counts_steps,
    dt_in_file,
    integrators,
    needs_dt,
    norse_cells,
    one_rate,
    rounded_delays,
    slow,
    span,
    unstable,
    without_gain,
)

#: Where `neurocompress.targets.nir` stores them, in the metadata of the graph.
KEY = "neurocompress_conventions"
#: And which of them were only assumed when the file was written: "dt", "reset" or "dt,reset".
KEY_ASSUMED = "neurocompress_assumed"
ASSUMED_DT = 1e-4
#: Where such conventions come from, as notes say it.
STORED = "from the file's metadata"
#: And of those that were only assumed when the file was written.
KEPT = "assumed when the file was written"
#: And of those that the user gives.
GIVEN = "given by the user"
#: Conventions that differ from platform to platform so often that notes always say them.
ALWAYS_SHOWN = ("reset", "fire", "decay")

def settle(
    nodes: dict[str, Node], metadata: dict[str, object], preset_name: str | None, given: Mapping[str, Any]
) -> tuple[Conventions, tuple[str, ...], list[str]]:
    """Conventions, which of dt and reset are only assumed, and one note for each of dt, reset, fire, decay and what
    else differs from NIR's equations.

    metadata: of the graph. given: single conventions by name, from the user (see `conventions.overrides`).
    Raises `Refused` with every value that is unknown or makes a neuron unstable.
    """
    problems: list[Problem] = []
    notes: list[str] = []
    named = stored = None
    guessed = frozenset[str]()
    conventions, origin = Conventions(), "assumed: nothing says otherwise, NIR's own equations"
    try:
        named = preset(preset_name) if preset_name is not None else None
        stored = _stored(metadata)
        guessed = frozenset() if stored is None else _guessed(metadata)
        if named is not None:
            conventions, origin = named, f"preset {preset_name}"
            lost = [] if stored is None else _differing(stored, named)
            if lost:
                notes.append(f"Preset '{preset_name}', as given, overrides the conventions that the file states: "
                             f"{', '.join(lost)}.")
        elif stored is not None:
            conventions, origin = stored, STORED
    except Refused as refused:
        problems += refused.problems
    if problems:
        raise Refused(problems)
    if preset_name == "norse" and "gain" not in given and (cells := norse_cells(nodes)):
        conventions = replace(conventions, gain="unit-synapse")
        notes.append(f"r = 1 and w_in = 1 in {', '.join(cells)}, as Norse's exporter writes its LIF cells, which add "
                     "their input to the current unscaled; give --convention gain=nir if another tool wrote the file.")
    base, conventions = conventions, replace(conventions, **given)

    if given.get("dt") is not None:
        step: Origin | None = (given["dt"], GIVEN)
    elif stored is not None and stored.dt is not None and (named is None or "dt" not in guessed):
        step = (stored.dt, f"{KEPT}; give --dt if it is wrong" if "dt" in guessed else STORED)
    else:
        step = dt_in_file(nodes, metadata, preset_name, conventions, notes)
        if step is None and preset_name == "sinabs" and counts_steps(nodes):
            step = (1.0, "because sinabs counts time constants in steps, and they are 1 or more")
        if step is None and base.dt is not None:
            step = (base.dt, f"default of {origin}")
        if step is None and any(needs_dt(node) for node in nodes.values()):
            step = (ASSUMED_DT, "assumed: neither the file nor the user says; give --dt if it is wrong")
    conventions = replace(conventions, dt=step[0] if step else None)
    if step:
        notes.append(f"dt = {step[0]:g} s, {step[1]}.")
        problems += unstable(nodes, conventions)
        notes += slow(nodes, *step)
        notes += rounded_delays(nodes, step[0])
    else:
        notes.append("dt is open: no neuron leaks, so nothing depends on it.")
        for name, node in integrators(nodes) if conventions.gain != "unit" else ():
            if np.any(node.r >= LEAST_RATE):
                problems.append(Problem(
                    f"r = {span(node.r)} and nothing says how long a time step is: v' = r I moves v by r·dt",
                    f"node '{name}'", "Give --dt (SpikingJelly writes r = 1/dt), or --convention gain=unit if the "
                    "weights alone say how far one spike moves v"))
            elif np.any(node.r != 1):
                notes.append(f"{name}: r = {span(node.r)} is used as the weight of one step, because dt is not known; "
                             "give --dt to use r·dt.")
    neutral = Conventions()
    for convention in fields(Conventions):
        name, value = convention.name, getattr(conventions, convention.name)
        if name == "dt" or (name not in ALWAYS_SHOWN and name not in given and value == getattr(neutral, name)):
            continue
        why = KEPT if name == "reset" and "reset" in guessed and named is None else origin
        if name in given:
            why = GIVEN
            if named is None and stored is not None and getattr(stored, name) != value:
                why += f", where the file says {shown(getattr(stored, name))}"
        notes.append(f"{name} = {shown(value)}, {why}.")
    problems += without_gain(nodes, conventions)
    if conventions.gain != "unit":
        for name, node in integrators(nodes):
            if step and "r_without_synapse" not in conventions.ignore and one_rate(node) and not np.allclose(
                    node.r * step[0], 1.0, rtol=1e-5):
                notes.append(f"{name}: r = {np.max(node.r):g} would be 1/dt at dt = {1 / np.max(node.r):g} s; at "
                             f"{step[0]:g} s one weight moves v by {np.max(node.r) * step[0]:g} times its value.")
        ones = [name for name, node in integrators(nodes) if np.all(node.r == 1)]
        if ones:
            notes.append(f"r = 1 in {', '.join(ones)}: read as one weight per time step, not as r·dt.")
    if problems:
        raise Refused(problems)
    spiking = any(isinstance(node, Neuron) and node.spiking for node in nodes.values())
    silent = named is None and (stored is None or "reset" in guessed) and "reset" not in given
    assumed = tuple(name for name, is_so in (
        ("dt", step is not None and step[1].startswith("assumed")), ("reset", spiking and silent)) if is_so)
    notes += [sentence(name, conventions) for name in assumed]
    return conventions, assumed, notes


def _differing(stored: Conventions, chosen: Conventions) -> list[str]:
    """Names of the conventions, dt aside, in which two differ."""
    return [f.name for f in fields(Conventions)
            if f.name != "dt" and getattr(stored, f.name) != getattr(chosen, f.name)]


def _stored(metadata: dict[str, object]) -> Conventions | None:
    if KEY not in metadata:
        return None
    broken = Refused(Problem(f"its metadata '{KEY}' is not a JSON object of conventions",
                             fix="Remove the key, or write the file again"))
    text = metadata[KEY]
    try:
        values = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        raise broken from None
    if not isinstance(values, dict):
        raise broken
    return from_dict(values)


def _guessed(metadata: dict[str, object]) -> frozenset[str]:
    """Which of dt and reset were only assumed when the file was written. Raises `Refused` for anything else."""
    text = metadata.get(KEY_ASSUMED, "")
    names = frozenset(text.split(",")) - {""} if isinstance(text, str) else frozenset({"?"})
    if names - {"dt", "reset"}:
        raise Refused(Problem(f"its metadata '{KEY_ASSUMED}' is no list of dt and reset",
                              fix="Remove the key, or write the file again"))
    return names
