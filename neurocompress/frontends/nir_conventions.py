"""Which conventions a NIR file is run under, and why: what the user gives, what the file says, what it
lets infer, what is assumed, in that order. A preset is given by the user; its dt is only a default."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np

from ..errors import Problem, Refused
from ..network.conventions import Conventions, from_dict, preset, shown
from ..network.nodes import Array, Delay, Neuron, Node
from .nir_nodes import NO_LEAK

#: Where `neurocompress.targets.nir` stores them, in the metadata of the graph.
KEY = "neurocompress_conventions"
ASSUMED_DT = 1e-4
#: Where such conventions come from, as notes say it.
STORED = "from the file's metadata"
#: And of those that the user gives.
GIVEN = "given by the user"
#: Conventions that differ from platform to platform so often that notes always say them.
ALWAYS_SHOWN = ("reset", "fire", "decay")

Origin = tuple[float, str]


def settle(
    nodes: dict[str, Node], metadata: dict[str, object], preset_name: str | None, given: Mapping[str, Any]
) -> tuple[Conventions, list[str]]:
    """Conventions, and one note for each of dt, reset, fire, decay and what else differs from NIR's equations.

    metadata: of the graph. given: single conventions by name, from the user (see `conventions.overrides`).
    Raises `Refused` with every value that is unknown or makes a neuron unstable.
    """
    problems: list[Problem] = []
    notes: list[str] = []
    named = stored = None
    conventions, origin = Conventions(), "assumed: nothing says otherwise, NIR's own equations"
    try:
        named = preset(preset_name) if preset_name is not None else None
        stored = _stored(metadata)
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
    base, conventions = conventions, replace(conventions, **given)

    if given.get("dt") is not None:
        step: Origin | None = (given["dt"], GIVEN)
    elif stored is not None and stored.dt is not None:
        step = (stored.dt, STORED)
    else:
        step = _dt_in_file(nodes, metadata, preset_name, notes)
        if step is None and base.dt is not None:
            step = (base.dt, f"default of {origin}")
        if step is None and any(_needs_dt(node) for node in nodes.values()):
            step = (ASSUMED_DT, "assumed: neither the file nor the user says; give --dt if it is wrong")
    conventions = replace(conventions, dt=step[0] if step else None)
    if step:
        notes.append(f"dt = {step[0]:g} s, {step[1]}.")
        problems += _unstable(nodes, conventions)
        notes += _slow(nodes, *step)
    else:
        notes.append("dt is open: no neuron leaks, so nothing depends on it.")
        notes += [f"{name}: r = {np.max(node.r):g} is used as the weight of one step, because dt is not known; "
                  "give --dt to use r·dt." for name, node in _integrators(nodes) if np.any(node.r != 1)]
    neutral = Conventions()
    for convention in fields(Conventions):
        name, value = convention.name, getattr(conventions, convention.name)
        if name == "dt" or (name not in ALWAYS_SHOWN and name not in given and value == getattr(neutral, name)):
            continue
        why = origin
        if name in given:
            why = GIVEN
            if named is None and stored is not None and getattr(stored, name) != value:
                why += f", where the file says {shown(getattr(stored, name))}"
        notes.append(f"{name} = {shown(value)}, {why}.")
    if conventions.gain == "nir":
        ones = [name for name, node in _integrators(nodes) if np.all(node.r == 1)]
        if ones:
            notes.append(f"r = 1 in {', '.join(ones)}: read as one weight per time step, not as r·dt.")
    if problems:
        raise Refused(problems)
    return conventions, notes


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


def _integrators(nodes: dict[str, Node]) -> Iterator[tuple[str, Neuron]]:
    return ((n, node) for n, node in nodes.items() if isinstance(node, Neuron) and node.tau_mem is None)


def _taus(node: Node) -> list[Array]:
    return [tau for tau in (node.tau_mem, node.tau_syn) if tau is not None] if isinstance(node, Neuron) else []


def _needs_dt(node: Node) -> bool:
    return bool(_taus(node)) or (isinstance(node, Delay) and bool(np.any(node.delay)))


def _dt_in_file(
    nodes: dict[str, Node], metadata: dict[str, object], preset_name: str | None, notes: list[str]
) -> Origin | None:
    """dt as other tools leave it: a 'dt' in the metadata, or r = tau_mem/dt and w_in = tau_syn/dt."""
    said = metadata.get("dt")
    if isinstance(said, (int, float)) and not isinstance(said, bool) and np.isfinite(said) and said > 0:
        return float(said), "from the file's metadata"
    with np.errstate(over="ignore"):
        found = [(name, rule, dts) for name, node in nodes.items() if isinstance(node, Neuron)
                 for rule, dts in _told_by(node, preset_name) if dts.size]
    if not found:
        return None
    each = np.concatenate([values.ravel() for *_, values in found])
    if not np.all(np.isfinite(each)) or each.max() - each.min() > 2e-6 * each.min():
        notes.append(f"r and tau do not tell dt: they would give {each.min():g} to {each.max():g} s.")
        return None
    # exporters store float32: the six digits that these agree on are what was meant
    places = list(dict.fromkeys(name for name, *_ in found))
    return float(f"{np.median(each):.6g}"), f"inferred from {found[0][1]} in {', '.join(places)}"


def _told_by(node: Neuron, preset_name: str | None) -> Iterator[tuple[str, Array]]:
    """What one neuron says about dt: a rule of its exporter, and the dt that each of its values gives."""
    if node.tau_mem is None:
        if preset_name == "spikingjelly" and np.any(node.r != 1):
            yield "r = 1/dt", 1.0 / np.asarray(node.r[node.r > 0], np.float64)
        return
    if preset_name == "rockpool":
        told = node.r > -1
        yield "r = tau_mem/dt - 1", np.asarray(node.tau_mem[told] / (1.0 + node.r[told]), np.float64)
        return
    for rule, tau, factor in (("r = tau_mem/dt", node.tau_mem, node.r), ("w_in = tau_syn/dt", node.tau_syn, node.w_in)):
        if tau is not None and factor is not None:
            told = (factor != 1) & (factor > 0) & (tau < NO_LEAK)
            yield rule, np.asarray(tau[told], np.float64) / np.asarray(factor[told], np.float64)


def _unstable(nodes: dict[str, Node], conventions: Conventions) -> list[Problem]:
    dt = conventions.dt
    if conventions.decay != "euler" or dt is None:
        return []
    return [
        Problem(f"dt = {dt:g} s is longer than its shortest time constant {tau.min():g} s, so 1 - dt/tau is negative",
                f"node '{name}'", f"Give --dt, at most {tau.min():g}, or a preset with exponential decay")
        for name, node in nodes.items() for tau in _taus(node) if dt > float(tau.min()) * (1 + 1e-6)
    ]


def _slow(nodes: dict[str, Node], dt: float, origin: str) -> list[str]:
    """Time constants of thousands of steps under an assumed dt: they were probably counted in steps."""
    taus = [float(tau.min()) for node in nodes.values() for tau in _taus(node)]
    if "given" in origin or "inferred" in origin or not taus or min(taus) < 1000 * dt:
        return []
    return [f"The shortest time constant is {min(taus):g} s, {min(taus) / dt:.0f} steps: if the file counts time in "
            "steps, give --dt 1."]
