"""Does a network fit a chip, and if not, what is the least to give up?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import Problem, Refused
from ..network import connections as synapses
from ..network.connections import Connection
from ..network.graph import Network
from ..network.nodes import Shape, parameters
from .fixes import with_fixes
from .mapping import Layer
from .memory import ESTIMATES
from .plan import Plan
from .rules import Unchecked, Violation
from .schema import Profile


@dataclass(frozen=True)
class Row:
    """One layer: a population with the weights that end in it.

    synapses: those that are not zero. bits: stored bits per weight. memory_float32, memory: bytes of its parameters
    as float32, and of what its cores store. axons_in, axons_out, fan_in: of the fullest core (neuron).
    utilization: share of each per-core limit that the fullest core takes.
    """

    layer: str
    population: str
    shape: Shape
    neurons: int
    parameters: int
    synapses: int
    bits: int
    memory_float32: int
    memory: int
    cores: int
    axons_in: int
    axons_out: int
    fan_in: int
    utilization: dict[str, float]


@dataclass(frozen=True)
class Fit:
    """What `check_fit` found. violations: worst first. verdict: "fits", "does not fit" or "fits (estimate)", the
    last when limits are not public or the memory formula is an estimate. cores_available: None when unknown."""

    target: str
    title: str
    verdict: str
    rows: tuple[Row, ...]
    violations: tuple[Violation, ...]
    unchecked: tuple[Unchecked, ...]
    notes: tuple[str, ...]
    chips: int
    cores: int
    cores_available: int | None

    @property
    def fits(self) -> bool:
        return not self.violations

    @property
    def totals(self) -> dict[str, int]:
        """Sums over the layers."""
        names = ("neurons", "parameters", "synapses", "memory_float32", "memory", "cores")
        return {name: sum(getattr(row, name) for row in self.rows) for name in names}

    @property
    def utilization(self) -> dict[str, float]:
        """The fullest core's share of each limit, and the share of the cores in use."""
        found: dict[str, float] = {}
        for row in self.rows:
            for name, share in row.utilization.items():
                found[name] = max(share, found.get(name, 0.0))
        if self.cores_available:
            found["cores"] = self.cores / self.cores_available
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "target": self.target, "title": self.title, "verdict": self.verdict, "fits": self.fits,
            "chips": self.chips, "cores": self.cores, "cores_available": self.cores_available,
            "utilization": self.utilization, "totals": self.totals,
            "layers": [{**vars(row), "shape": list(row.shape)} for row in self.rows],
            "violations": [{**vars(v), "excess": v.excess, "apply": dict(v.apply)} for v in self.violations],
            "unchecked": [dict(vars(u)) for u in self.unchecked],
            "notes": list(self.notes),
        }


def check_fit(
    network: Network, profile: Profile, bits: int | Mapping[str, int] | None = None,
    sparsity: float | Mapping[str, float] | None = None, connections: tuple[Connection, ...] | None = None,
    chips: int | None = None,
) -> Fit:
    """Place a network on a chip and hold it against every rule of the chip's profile.

    bits: stored bits per weight (the profile's default where None), for all connections or by connection name.
    sparsity: share of zero weights that a magnitude prune of each layer leaves, in 0..1, likewise; None counts the
        weights as they are. Biases and the weights of pools are never pruned.
    connections: those of `network` when they are made already. chips: the profile's number where None.
    Raises `Refused` for values out of range. A network that does not fit is no error: see `Fit.violations`.
    """
    found = synapses.connections(network) if connections is None else connections
    names = {c.name for c in found}
    _refuse_bad(bits, sparsity, chips, names, found)
    widths = bits if isinstance(bits, Mapping) else {}
    width = profile.default_bits if bits is None or isinstance(bits, Mapping) else bits
    shares = sparsity if isinstance(sparsity, Mapping) else {c.name: sparsity or 0.0 for c in found if c.trained}
    plan = Plan(network, profile, found, {n: widths.get(n, width) for n in sorted(names)}, shares,
                chips or profile.topology.chips.value or 1)

    violations = tuple(sorted(with_fixes(plan), key=_severity))
    unchecked = tuple(f for f in plan.findings if isinstance(f, Unchecked))
    estimate = profile.memory.formula.value in ESTIMATES
    notes = []
    if estimate:
        notes.append(f"how {profile.title} stores synapses is not public: its memory figures are estimates")
    per_chip = profile.topology.cores_per_chip.value
    seen: set[str] = set()
    return Fit(
        profile.name, profile.title,
        "does not fit" if violations else "fits (estimate)" if unchecked or estimate else "fits",
        tuple(_row(plan, layer, seen) for layer in plan.placement.layers), violations, unchecked, tuple(notes),
        plan.chips, plan.placement.cores, None if per_chip is None else per_chip * plan.chips,
    )


def _refuse_bad(bits: Any, sparsity: Any, chips: Any, names: set[str], found: tuple[Connection, ...]) -> None:
    problems = []
    for what, given in (("bits", bits), ("sparsity", sparsity)):
        for name in given if isinstance(given, Mapping) else ():
            if name not in names:
                problems.append(Problem(f"{what} names layer '{name}', which has no weights",
                                        fix=f"Layers with weights: {', '.join(c.name for c in found)}"))
    for width in bits.values() if isinstance(bits, Mapping) else [bits]:
        if width is not None and not (isinstance(width, int) and not isinstance(width, bool) and 1 <= width <= 64):
            problems.append(Problem(f"bits is {width!r}", fix="Give a whole number from 1 to 64"))
    for share in sparsity.values() if isinstance(sparsity, Mapping) else [sparsity]:
        if share is not None and not (isinstance(share, (int, float)) and 0 <= share <= 1):
            problems.append(Problem(f"sparsity is {share!r}", fix="Give a share from 0 to 1, such as 0.9"))
    if chips is not None and not (isinstance(chips, int) and chips >= 1):
        problems.append(Problem(f"chips is {chips!r}", fix="Give a whole number of at least 1"))
    if problems:
        raise Refused(problems)


def _severity(violation: Violation) -> tuple[float, str, str]:
    """Sort key: the largest ratio of needed to available first."""
    ratio = violation.needed / violation.available if violation.available else float("inf")
    return -ratio, violation.code, violation.layer


def _row(plan: Plan, layer: Layer, seen: set[str]) -> Row:
    names = []
    for i in layer.incoming:  # weights that several paths share are one node: count them once
        node = i.connection.name.split("@")[0]
        if node not in seen and node in plan.network.nodes:
            seen.add(node)
            names.append(node)
    held = sum(parameters(plan.network.nodes[n]) for n in names)
    core = plan.profile.core
    limits = {
        "neurons": (layer.compartments, core.neurons.value), "memory": (layer.memory, core.memory_bits),
        "axons_in": (layer.axons_in, core.axons_in and core.axons_in.value),
        "axons_out": (layer.axons_out, core.axons_out and core.axons_out.value),
        "memory_per_axon": (layer.longest, core.memory_per_axon and core.memory_per_axon.bits),
    }
    trained = [plan.stored[i.connection.name] for i in layer.incoming if i.connection.trained]
    widths = trained or [plan.stored[i.connection.name] for i in layer.incoming]
    return Row(
        layer.title, layer.name, plan.network.shapes[layer.name], int(layer.neurons.sum()), held,
        int(layer.synapses.sum()), max(widths, default=0), 4 * held, int(layer.memory.sum()) // 8, layer.cores,
        int(layer.axons_in.max(initial=0)), int(layer.axons_out.max(initial=0)), layer.fan_in,
        {name: float(used.max(initial=0)) / limit for name, (used, limit) in limits.items() if limit},
    )
