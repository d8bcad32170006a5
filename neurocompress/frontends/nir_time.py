"""What the neurons of a file tell about its time steps: dt in the factors that exporters write, time constants that are
too short or too long for it, infinite ones."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..errors import Problem
from ..network.conventions import Conventions
from ..network.nodes import Array, Delay, Neuron, Node
from .nir_nodes import NO_LEAK

Origin = tuple[float, str]

#: r of a neuron without a leak from which on it is 1/dt (SpikingJelly) and no gain, and up to which a dt makes sense.
LEAST_RATE, MOST_RATE = 10.0, 1e7
#: Steps by which a delay may differ from a whole number: files store float32.
DELAY_ROUNDING = 1e-3
#: Norse's exporter writes tau = dt / tau_inv, which is dt times its time constant: its steps are dt² long then.
NORSE_DT = 1e-6


def integrators(nodes: dict[str, Node]) -> Iterator[tuple[str, Neuron]]:
    return ((n, node) for n, node in nodes.items() if isinstance(node, Neuron) and node.tau_mem is None)


def taus_of(node: Node) -> list[Array]:
    return node.time_constants if isinstance(node, Neuron) else []


def needs_dt(node: Node) -> bool:
    return bool(taus_of(node)) or (isinstance(node, Delay) and bool(np.any(node.delay)))


def dt_in_file(
    nodes: dict[str, Node], metadata: dict[str, object], preset_name: str | None, conventions: Conventions,
    notes: list[str],
) -> Origin | None:
    """dt as other tools leave it: a 'dt' in the metadata, or r = tau_mem/dt and w_in = tau_syn/dt."""
    said = metadata.get("dt")
    if isinstance(said, (int, float)) and not isinstance(said, bool) and np.isfinite(said) and said > 0:
        return float(said), "from the file's metadata"
    with np.errstate(over="ignore"):
        found = [(name, rule, dts) for name, node in nodes.items() if isinstance(node, Neuron)
                 for rule, dts in _told_by(node, preset_name, conventions) if dts.size]
    if not found:
        return None
    each = np.concatenate([values.ravel() for *_, values in found])
    if not np.all(np.isfinite(each)) or each.max() - each.min() > 2e-6 * each.min():
        notes.append(f"r and tau do not tell dt: they would give {each.min():g} to {each.max():g} s.")
        return None
    # exporters store float32: the six digits that these agree on are what was meant
    places = list(dict.fromkeys(name for name, *_ in found))
    return float(f"{np.median(each):.6g}"), f"inferred from {found[0][1]} in {', '.join(places)}"


def one_rate(node: Neuron) -> bool:
    """Whether r can only be 1/dt: the same for all neurons, and more than a gain is."""
    low, high = float(np.min(node.r)), float(np.max(node.r))
    return low >= LEAST_RATE and high <= MOST_RATE and high - low <= 2e-6 * low


def span(values: Array) -> str:
    low, high = float(np.min(values)), float(np.max(values))
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _told_by(node: Neuron, preset_name: str | None, conventions: Conventions) -> Iterator[tuple[str, Array]]:
    """What one neuron says about dt: a rule of its exporter, and the dt that each of its values gives."""
    if node.tau_mem is None:
        read = conventions.gain != "unit" and "r_without_synapse" not in conventions.ignore
        if (preset_name == "spikingjelly" and np.any(node.r != 1)) or (read and one_rate(node)):
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


def norse_cells(nodes: dict[str, Node]) -> list[str]:
    """The neurons with a synapse, where all of them have the constants that Norse's exporter writes; else none."""
    found = {n: node for n, node in nodes.items() if isinstance(node, Neuron) and node.tau_syn is not None}
    same = all(np.all(node.r == 1) and node.w_in is not None and np.all(node.w_in == 1) for node in found.values())
    return list(found) if same else []


def without_gain(nodes: dict[str, Node], conventions: Conventions) -> Iterator[Problem]:
    """Neurons whose time constant and input factor are not infinite together: nothing, or no number, gets in."""
    for name, node in nodes.items():
        if not isinstance(node, Neuron) or conventions.gain == "unit":
            continue
        without = "r_without_synapse" in conventions.ignore and node.tau_syn is None
        for key, tau, factor, read in (("r", node.tau_mem, node.r, "r" not in conventions.ignore and not without),
                                       ("w_in", node.tau_syn, node.w_in, conventions.gain == "nir")):
            if key == "w_in" and not read:
                continue
            endless = np.isinf(np.zeros(()) if tau is None else tau)
            infinite = np.logical_and(np.isinf(np.ones(()) if factor is None else factor), read)
            tau_name = "tau_syn" if key == "w_in" else "tau_mem"
            if n := int(np.sum(np.logical_and(endless, ~infinite))):
                yield Problem(f"'{tau_name}' holds {n} infinite of {endless.size} values where '{key}' is finite: "
                              "their input moves nothing", f"node '{name}' ({node.kind})",
                              f"Store {key} = {tau_name} / dt, infinite too, or give --convention gain=unit")
            if n := int(np.sum(np.logical_and(infinite, ~endless))):
                yield Problem(f"'{key}' holds {n} infinite of {infinite.size} values where '{tau_name}' is finite",
                              f"node '{name}' ({node.kind})",
                              "Find where training diverged and export again")


def unstable(nodes: dict[str, Node], conventions: Conventions) -> list[Problem]:
    dt = conventions.dt
    if conventions.decay != "euler" or dt is None:
        return []
    taus = [tau for node in nodes.values() for tau in taus_of(node)]
    hint = "Give --dt, at most {tau:g}, or a preset with exponential decay"
    if _written_by_norse(nodes):
        hint = (f"Norse 1.1.0 writes tau = dt / tau_inv: if it wrote this file, give --preset norse --dt {NORSE_DT:g}, "
                "the square of its dt of 0.001 s; if not, --dt, at most {tau:g}")
    shortest = min((float(tau.min()) for tau in taus), default=dt)
    return [
        Problem(f"dt = {dt:g} s is longer than its shortest time constant {tau.min():g} s, so 1 - dt/tau is negative",
                f"node '{name}'", hint.format(tau=shortest))
        for name, node in nodes.items() for tau in taus_of(node) if dt > float(tau.min()) * (1 + 1e-6)
    ]


def _written_by_norse(nodes: dict[str, Node]) -> bool:
    """Whether a file has what Norse 1.1.0 writes: r = 1, and time constants of dt / tau_inv, far below its dt."""
    found = [node for node in nodes.values() if isinstance(node, Neuron) and node.tau_mem is not None]
    taus = [tau for node in found for tau in taus_of(node)]
    return bool(found) and all(np.all(node.r == 1) for node in found) and all(
        float(tau.min()) >= NORSE_DT and float(tau.max()) < 1e-3 for tau in taus)


def rounded_delays(nodes: dict[str, Node], dt: float) -> list[str]:
    """A sentence for each Delay whose delays are no whole steps: what is asked for, and what it becomes."""
    said = []
    for name, node in nodes.items():
        if not isinstance(node, Delay):
            continue
        asked = np.asarray(node.delay, dtype=np.float64).ravel()
        steps = asked / dt
        off = np.abs(steps - np.rint(steps)) > DELAY_ROUNDING
        if np.any(off):
            worst = int(np.argmax(np.abs(steps - np.rint(steps))))
            given = float(np.rint(steps[worst]))
            said.append(
                f"{name}: {int(off.sum())} of {asked.size} delays are no whole steps and are rounded: {asked[worst]:g} "
                f"s is {steps[worst]:.4g} steps of {dt:g} s and becomes {given:.0f}, {given * dt:g} s. Give a --dt "
                "that divides them.")
    return said


def counts_steps(nodes: dict[str, Node]) -> bool:
    """Whether time constants can only be numbers of steps: each is 1 or more."""
    taus = [float(tau.min()) for node in nodes.values() for tau in taus_of(node)]
    return bool(taus) and min(taus) >= 1


def slow(nodes: dict[str, Node], dt: float, origin: str) -> list[str]:
    """Time constants of thousands of steps under an assumed dt: they were probably counted in steps."""
    taus = [float(tau.min()) for node in nodes.values() for tau in taus_of(node)]
    if "given" in origin or "inferred" in origin or not taus or min(taus) < 1000 * dt:
        return []
    return [f"The shortest time constant is {min(taus):g} s, {min(taus) / dt:.0f} steps: if the file counts time in "
            "steps, give --dt 1."]
