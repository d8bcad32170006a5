"""Does a network fit a chip, and if not, what is the least to give up?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, get_args

import numpy as np

from ..by_layer import of_layers, split
from ..chip.profile.memory_formulas import ESTIMATES
from ..chip.profile.schema import FanInPolicy, Profile
from ..errors import Problem, Refused, Unfit
from ..network import connections as synapses
from ..network.connections import Connection
from ..network.graph import Network
from ..network.nodes import Shape, parameters
from ..shown import brief, listed, several
from .fixes import with_fixes
from .mapping.chips_of_board import Board, board
from .mapping.expected_pruning import below_a_step
from .mapping.layer import Layer
from .mapping.layer_cores import core_list, own_cores
from .mapping.partition import Limits
from .mapping.traffic import Floats
from .plan import Plan
from .rules.all_rules import Unchecked, Undecided, Violation

#: The verdict where only the weights after compression, or the data, can tell.
DECIDED = "decided by deploy"
#: Cores up to which the spikes between them are counted.
MOST_COUNTED = 4096


@dataclass(frozen=True)
class Row:
    """One layer: a population with the weights that end in it, and its partial sums where its fan-in is split.

    synapses: those that are not zero. bits: stored bits per weight. memory_float32, memory: bytes of its parameters
    as float32, and of what its cores store. axons_in, axons_out, fan_in: of the fullest core (neuron). cores: that it
    lies on; some may be shared with other layers. partial_sums: stages that its sums are split into, 0 for none.
    joined: neurons of the chip that act as one. utilization: share of each per-core limit that its fullest piece takes.
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
    partial_sums: int
    joined: int
    utilization: dict[str, float]

    __repr__ = brief


@dataclass(frozen=True)
class Place:
    """Where a layer lies: ranges of cores, first and last, and the chips of these cores (empty when it has none)."""

    layer: str
    population: str
    cores: tuple[tuple[int, int], ...]
    chips: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Fit:
    """What `check_fit` found. violations: worst first. verdict: "fits", "does not fit", "fits (estimate)" when limits
    are not public or the memory formula is an estimate, or "decided by deploy". cores_available: None when unknown.
    fewest_cores: a lower bound for any placement that fits. policy: what became of neurons with too many synapses.
    undecided: limits of which only deploy can tell. read_by: how the class is read; host: nodes that the host computes
    for it, which are not counted."""

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
    fewest_cores: int
    policy: FanInPolicy
    plan: Plan
    rates: Mapping[str, Floats] | None = None
    read_by: str = ""
    host: tuple[str, ...] = ()
    undecided: tuple[Undecided, ...] = ()

    @property
    def fits(self) -> bool:
        return not self.violations

    def __repr__(self) -> str:
        of = "an unknown number of" if self.cores_available is None else f"{self.cores_available:,}"
        rows = (f"{row.layer} -> {row.population}: {row.neurons:,} neurons, {row.parameters:,} parameters, {row.bits} "
                f"bit, {several(row.cores, 'core')}" for row in self.rows)
        broken = (f"{v.code} {v.layer}: {v.resource}: needs {v.needed:,g} {v.unit}, has {v.available:,g}"
                  for v in self.violations)
        said = [f"{len(found)} {what}" for what, found in (("limits unchecked", self.unchecked), ("notes", self.notes))
                if found]
        return listed(f"Fit on {self.title}: {self.verdict}, {self.cores:,} of {of} cores", rows, broken,
                      [", ".join(said)] if said else [])

    @cached_property
    def board(self) -> Board | None:
        """Chips of the cores and the spikes between them; None where there are too many cores."""
        per_chip = self.plan.profile.topology.cores_per_chip.value or self.cores
        if self.cores > min(MOST_COUNTED, per_chip * self.chips):
            return None
        return board(self.plan.placement, per_chip, self.rates)

    @property
    def map(self) -> tuple[Place, ...]:
        """Where every layer lies."""
        found, own = [], own_cores(self.plan.network, self.plan.profile, self.chips)
        per_chip = self.plan.profile.topology.cores_per_chip.value
        for layer in self.plan.placement.layers:
            if layer.name in own and per_chip:  # cores differ
                core = own[layer.name][0]
                found.append(Place(layer.title, layer.name, ((core, core),), (core // per_chip,)))
                continue
            at = np.unique(layer.at)
            ends = np.flatnonzero(np.diff(at) > 1)
            ranges = zip(at[[0, *(ends + 1)]].tolist(), at[[*ends, -1]].tolist(), strict=True)
            chips = () if self.board is None else tuple(np.unique(self.board.chip[at]).tolist())
            found.append(Place(layer.title, layer.name, tuple(ranges), chips))
        return tuple(found)

    @property
    def totals(self) -> dict[str, int]:
        """Sums over the layers; cores are those in use."""
        names = ("neurons", "parameters", "synapses", "memory_float32", "memory")
        return {name: sum(getattr(row, name) for row in self.rows) for name in names} | {"cores": self.cores}

    @property
    def utilization(self) -> dict[str, float]:
        """The share of each limit that all on one core take together, of the core where it is largest (of a list of
        synapses the longest), and the share of the cores in use."""
        found: dict[str, float] = {}
        for name, (attribute, limit) in limits_of(self.plan.profile).items():
            if limit:
                taken = np.zeros(self.plan.placement.cores, dtype=np.int64)
                for layer in self.plan.placement.layers:
                    (np.maximum if attribute == "longest" else np.add).at(taken, layer.at, getattr(layer, attribute))
                found[name] = float(taken.max(initial=0)) / limit
        if self.cores_available:
            found["cores"] = self.cores / self.cores_available
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        found = self.board
        return {
            "target": self.target, "title": self.title, "verdict": self.verdict, "fits": self.fits,
            "chips": self.chips, "cores": self.cores, "cores_available": self.cores_available,
            "fewest_cores": self.fewest_cores, "fan_in_policy": self.policy,
            "utilization": self.utilization, "totals": self.totals,
            "layers": [{**vars(row), "shape": list(row.shape)} for row in self.rows],
            "map": [{"layer": p.layer, "population": p.population, "cores": [list(r) for r in p.cores],
                     "chips": list(p.chips)} for p in self.map],
            "spikes_per_step": None if found is None else {
                "assumed": found.assumed, "messages": found.messages, "across_cores": found.across_cores,
                "across_chips": found.across_chips},
            "violations": [v.to_dict() for v in self.violations],
            "unchecked": [dict(vars(u)) for u in self.unchecked],
            "undecided": [dict(vars(u)) for u in self.undecided],
            "notes": list(self.notes), "readout": {"by": self.read_by, "host": list(self.host)},
        }


def check_fit(
    network: Network, profile: Profile, bits: int | Mapping[str, int] | None = None,
    sparsity: float | Mapping[str, float] | None = None, connections: tuple[Connection, ...] | None = None,
    chips: int | None = None, fan_in: Mapping[str, int] | None = None, policy: FanInPolicy | None = None,
    rates: Mapping[str, Floats] | None = None, built: bool = False, model: Network | None = None,
) -> Fit:
    """Place a network on a chip and hold it against every rule of the chip's profile.

    bits: stored bits per weight (the profile's default where None), for all layers or by patterns of their names (see
        by_layer). sparsity: share of zero weights that a magnitude prune of each layer leaves, in 0..1, likewise; None
        counts the weights as they are. Biases and the weights of pools are never pruned.
    connections: those of `network` when they are made already. chips: the profile's number where None.
    fan_in: most synapses of a neuron that pruning leaves, by connection name. policy: instead of the profile's, what
        becomes of neurons with too many synapses (see `wiring`); with "prune" they are counted as pruned to the limit.
    rates: spikes per step of each neuron, (neurons,) by population, for the count of spikes between cores.
    built: the network has its form on the chip already, so the rules about that are not asked again.
    model: the network as its user knows it, of which parameters are counted; where None, `network`.
    Raises `Refused` for values out of range. A network that does not fit is no error: see `Fit.violations`.
    """
    plan = plan_of(network, profile, bits, sparsity, connections, chips, fan_in, policy)
    return fit_of(replace(plan, built=built, model=model), rates)


def refuse_unbuildable(plan: Plan) -> None:
    """Raises `Unfit` with everything that the rules say where a network has no form on the chip."""
    if plan.stopping:
        raise Unfit(Problem(f"{v.resource}: {v.needed:,g} {v.unit} needed, {v.available:,g} available",
                            f"{v.code} {v.layer}", v.fix) for v in fit_of(plan).violations)


def plan_of(
    network: Network, profile: Profile, bits: int | Mapping[str, int] | None = None,
    sparsity: float | Mapping[str, float] | None = None, connections: tuple[Connection, ...] | None = None,
    chips: int | None = None, fan_in: Mapping[str, int] | None = None, policy: FanInPolicy | None = None,
) -> Plan:
    """The plan that `check_fit` checks."""
    found = synapses.connections(network) if connections is None else connections
    _refuse_bad(bits, sparsity, chips, policy)
    names = [c.layer for c in found if c.trained]
    widths, shares = of_layers("bits", bits, names), of_layers("sparsity", sparsity or 0.0, names)
    width = split(bits)[0] or profile.default_bits
    said = profile.core.fan_in_policy
    plan = Plan(network, profile, found, {c.layer: widths.get(c.layer, width) for c in found}, shares,
                chips or profile.topology.chips.value or 1, policy or (said and said.value) or "refuse", fan_in or {})
    return plan.pruned_to_limits() if policy == "prune" else plan


def fit_of(plan: Plan, rates: Mapping[str, Floats] | None = None) -> Fit:
    """What the rules say to a plan, each broken one with its cheapest fix."""
    profile = plan.profile
    worst: dict[tuple[str, str], Violation] = {}
    for found in sorted(with_fixes(plan), key=_severity):
        worst.setdefault((found.code, found.layer), found)
    violations = tuple(worst.values())
    unchecked = tuple(f for f in plan.findings if isinstance(f, Unchecked))
    undecided = tuple(f for f in plan.findings if isinstance(f, Undecided))
    guessed = profile.memory.formula.value in (None, *ESTIMATES)
    limited = profile.core.synapse_memory is not None or profile.topology.memory_per_chip is not None
    estimate = guessed and limited
    notes = []
    if guessed:
        formula = profile.memory.formula
        why = f"how {profile.title} stores synapses is not public" if formula.value else profile.expand(formula.source)
        notes.append(f"memory figures are estimates: {why}")
    cores = core_list(plan.network, profile, plan.chips)
    if cores is not None:
        notes.append(cores)
    for population, stages in _stages(plan).items():
        if len(stages) > 1:
            notes.append(f"'{population}' is summed in {len(stages) - 1} parts on cores of their own, gathered in "
                         "the same step (assumed)")
    for population, joined in plan.wiring.joined.items():
        notes.append(f"'{population}': {joined} neurons of the chip are joined for each of its neurons")
    for name, most in plan.fan_in.items():
        notes.append(f"'{name}' is counted with at most {most} synapses to a neuron; compression chooses which")
    per_chip = profile.topology.cores_per_chip.value
    seen: set[str] = set()
    return Fit(
        profile.name, profile.title,
        "does not fit" if violations else DECIDED if undecided else
        "fits (estimate)" if unchecked or estimate else "fits",
        tuple(_row(plan, stages, seen) for stages in _stages(plan).values()), violations, unchecked, tuple(notes),
        plan.chips, plan.placement.cores, None if per_chip is None else per_chip * plan.chips,
        min(plan.fewest_cores, plan.placement.cores),
        plan.policy, plan, rates, undecided=undecided,
    )


def with_rounding(fit: Fit) -> Fit:
    """A fit of weights that are not rounded yet. Where it breaks limits that it would keep if weights smaller than a
    step of the grid were 0, which rounding may make them, the verdict is left to deploy."""
    plan = fit.plan
    if fit.fits or plan.stopping or plan.beyond({}):
        return fit
    zeros = {c.layer: max(plan.sparsity.get(c.layer, 0.0), below_a_step(c, plan.stored[c.layer]))
             for c in plan.connections if c.trained}
    if plan.beyond(zeros):
        return fit
    if any(isinstance(f, Violation) for f in plan.changed(sparsity=zeros).findings):
        return fit
    said = tuple(Undecided(v.code, v.layer, v.resource, "weights that round to 0 may free what is missing: deploy "
                           "knows the rounded weights") for v in fit.violations)
    return replace(fit, verdict=DECIDED, undecided=(*fit.undecided, *said))


def left_to_data(fit: Fit, before: Plan, beyond: str = "") -> Fit:
    """A fit that rests on weights to be pruned or on fewer bits: deploy chooses them with data, and says whether its
    loss lies within the bound and whether limits that depend on where the zeros lie are kept. before: the plan
    without. beyond: what it loses by the weights alone, where that is beyond the bound."""
    how = ("kept by zeros where the smallest weights are; deploy --fit chooses them by loss, and holds them against "
           "the limit again" if any(fit.plan.sparsity.values()) else "kept by fewer bits; deploy --fit measures what "
           "they lose on the data")
    if beyond:
        how = f"by the weights alone {beyond}; deploy --fit measures what it loses on the data"
    said = tuple(Undecided(v.code, v.layer, v.resource, f"{v.resource}: {how}")
                 for v in before.findings if isinstance(v, Violation))
    return replace(fit, verdict=DECIDED, undecided=(*fit.undecided, *said)) if said else fit


def _stages(plan: Plan) -> dict[str, list[Layer]]:
    """Layers by population: its partial sums, then the population itself."""
    found: dict[str, list[Layer]] = {}
    for layer in plan.placement.layers:
        found.setdefault(layer.population, []).append(layer)
    return found


def _refuse_bad(bits: Any, sparsity: Any, chips: Any, policy: Any) -> None:
    problems = []
    if policy is not None and policy not in get_args(FanInPolicy):
        problems.append(Problem(f"fan_in_policy is {policy!r}", fix=f"Use one of {', '.join(get_args(FanInPolicy))}"))
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


def limits_of(profile: Profile) -> dict[str, tuple[str, int | None]]:
    """What a core has of each resource that is shown, and the attribute of a layer that counts against it."""
    limits = Limits.of(profile)
    return {
        "neurons": ("compartments", limits.compartments), "memory": ("memory", limits.memory),
        "axons_in": ("axons_in", limits.axons_in), "axons_out": ("axons_out", limits.axons_out),
        "memory_per_axon": ("longest", limits.longest),
    }


def _row(plan: Plan, stages: list[Layer], seen: set[str]) -> Row:
    own = stages[-1]
    incoming = [i for layer in stages for i in layer.incoming]
    model = plan.model or plan.network
    ways = model.needed_for(model.inputs_of(own.population), (model.input, *model.populations))
    held = sum(parameters(model.nodes[n]) for n in ways - seen)  # layers that several paths share are counted once
    seen |= ways
    limits = limits_of(plan.profile)

    def most(attribute: str) -> int:
        return max(int(getattr(layer, attribute).max(initial=0)) for layer in stages)

    trained = [plan.stored[i.connection.layer] for i in incoming if i.connection.trained]
    widths = trained or [plan.stored[i.connection.layer] for i in incoming]
    title = next((layer.title for layer in stages if layer.title != layer.name), own.title)
    return Row(
        title, own.population, plan.network.shapes[own.population], int(own.neurons.sum()), held,
        sum(int(layer.synapses.sum()) for layer in stages), max(widths, default=0), 4 * held,
        sum(int(layer.memory.sum()) for layer in stages) // 8,
        np.unique(np.concatenate([layer.at for layer in stages])).size, most("axons_in"), most("axons_out"),
        max(layer.fan_in for layer in stages), len(stages) - 1, plan.wiring.joined.get(own.population, 1),
        {name: float(most(attribute)) / limit for name, (attribute, limit) in limits.items() if limit},
    )
