"""A network placed on a chip at given widths and sparsities, and what the rules say to it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from ..chip.on_chip.delays import extra_delays
from ..chip.on_chip.reach import Reach
from ..chip.profile.memory_formulas import stored_bits
from ..chip.profile.schema import FanInPolicy, Profile
from ..network.connections import Connection
from ..network.graph import Network
from .mapping import fan_in_policy as wiring
from .mapping import placement as mapping
from .mapping.counts_of_kernel import KernelFan
from .mapping.expected_pruning import Pruner, filled, limited
from .mapping.fan_in_policy import Wiring, most_synapses, wired
from .mapping.layer import Layer, Placement
from .mapping.partition import Limits, fan
from .mapping.placement import place
from .mapping.synapse_counts import Fan, Ints
from .rules.all_rules import RULES, Case, Finding, Violation, findings

#: A connection, its sparsity, its most inputs, and whether kernels store their zeros -> its counter.
Counted = dict[tuple[int, float, int | None, bool], Fan]


@dataclass(frozen=True, eq=False)
class Plan:
    """bits, sparsity: by `Connection.layer`; a layer that `sparsity` does not name keeps its weights. fan_in: by
    connection name; one that it does not name keeps its inputs. policy: what becomes of neurons with too many synapses.

    built: whether the network has its form on the chip already. model: the network as its user knows it, of which
    parameters are counted, where `network` has its layers folded.

    A network with zeros is placed in two ways, its zeros left out and where it would lie were none of them zero, and
    the way of fewer cores is taken.
    """

    network: Network
    profile: Profile
    connections: tuple[Connection, ...]
    bits: Mapping[str, int]
    sparsity: Mapping[str, float]
    chips: int
    policy: FanInPolicy = "refuse"
    fan_in: Mapping[str, int] = field(default_factory=dict)
    built: bool = False
    model: Network | None = None
    _counted: Counted = field(default_factory=dict)  # these are shared by the plans made from this one
    _pruners: dict[tuple[int, int | None], Pruner] = field(default_factory=dict)
    _wired: dict[tuple[Any, ...], Wiring] = field(default_factory=dict)
    _sums: wiring.Memo = field(default_factory=dict)
    _cuts: mapping.Memo = field(default_factory=dict)
    _filled: list[tuple[Connection, ...]] = field(default_factory=list)
    _wholes: dict[tuple[Any, ...], Plan] = field(default_factory=dict)
    _reaches: dict[str, Reach] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Plan of {len(self.connections)} connections on {self.profile.title}"

    @cached_property
    def fans(self) -> tuple[Fan, ...]:
        """Counters of the connections after pruning."""
        return tuple(self._fan(c, bool(self.profile.memory.shared_kernels.value)) for c in self.connections)

    def _fan(self, c: Connection, shared: bool) -> Fan:
        key = (id(c), self.sparsity.get(c.layer, 0.0), self.fan_in.get(c.name), shared)
        if key not in self._counted:
            pruner = self._pruners.get((key[0], key[2]))
            if pruner is None:
                pruner = self._pruners[key[0], key[2]] = Pruner(c if key[2] is None else limited(c, key[2]))
            other = self._counted.get((*key[:3], not shared))
            less = pruner.to(key[1]) if other is None else other.connection
            self._counted[key] = other if other is not None and less.kernel is None else fan(less, shared)
        return self._counted[key]

    @cached_property
    def whole(self) -> Plan | None:
        """The same network, all of whose weights are synapses; None where none is zero."""
        if not self._filled:
            self._filled.append(filled(self.network, self.connections))
        full = self._filled[0]
        pruned = any(self.sparsity.get(c.layer) or c.name in self.fan_in for c in full if c.trained)
        key = (tuple(self.bits.items()), self.chips, self.policy)
        if not pruned and all(a is b for a, b in zip(full, self.connections, strict=True)):
            self._wholes.setdefault(key, self)
            return None
        if key not in self._wholes:
            self._wholes[key] = replace(self, connections=full, sparsity={}, fan_in={})
        return self._wholes[key]

    def _wire(self, fans: tuple[Fan, ...], whole: tuple[Fan, ...] | None = None) -> Wiring:
        """The network as the chip's fan-in policy has it."""
        key = (self.policy, *map(id, fans), *map(id, whole or ()))
        if key not in self._wired:
            kept = tuple(f.connection for f in fans)
            formats = self.profile.formats
            delays = extra_delays(self.network, kept, formats is not None and formats.form == "analog")
            self._wired[key] = wired(self.network, fans, delays, self.profile, self.policy, whole, self._sums)
        return self._wired[key]

    @cached_property
    def _own(self) -> Wiring:
        """Zeros left out."""
        return self._wire(self.fans)

    @cached_property
    def _like(self) -> Wiring | None:
        """As the network is wired where none of its weights is zero; None where none is."""
        shared = tuple(self._fan(c, True) for c in self.connections)
        return None if self.whole is None else self._wire(shared, self.whole.fans)

    @cached_property
    def _laid(self) -> tuple[Wiring, Placement]:
        own = self._placed(self._own)
        if self.whole is None:
            return self._own, own
        whole, broken = self.whole.placement, self._broken(own)
        if own.cores <= whole.cores and not broken:  # the other way takes the cores of the whole
            return self._own, own
        assert self._like is not None
        like = self._placed(self._like, whole)
        ways = ((self._own, own, broken), (self._like, like, self._broken(like)))
        return min(ways, key=lambda way: (way[2], way[1].cores))[:2]

    def _placed(self, wires: Wiring, like: Placement | None = None) -> Placement:
        return place(wires, self.profile, bits=self.stored, chips=self.chips, per_neuron=self._each, like=like,
                     memo=self._cuts)

    def _broken(self, placement: Placement) -> bool:
        """Whether a piece takes more than a core has."""
        limits = [(name, most) for name, most in vars(Limits.of(self.profile)).items() if most is not None]
        return any(int(getattr(x, name).max(initial=0)) > most for x in placement.layers for name, most in limits)

    def keeps_to(self, cores: int) -> bool:
        """Whether it takes no more cores than that. It takes none beyond those of the whole network where no piece of
        that takes more than a core has, and then it need not be placed."""
        whole = self.whole
        known = whole is not None and whole.placement.cores <= cores and not self._broken(whole.placement)
        return known or self.placement.cores <= cores

    def leaving(self, population: str) -> int | None:
        """Most synapses that leave a neuron of a population, where both ways of wiring agree on it, so that nothing
        need be placed; None where they may differ: a kernel that is stored once sends its zeros too."""
        fans = [f for f in self.fans if f.connection.source == population]
        unsplit = {(f.connection.name, f.connection.source, f.connection.target)
                   for f in (self.whole._own.fans if self.whole else ()) if f.connection.kernel is not None}
        if any(isinstance(f, KernelFan) or (f.connection.name, population, f.connection.target) in unsplit
               for f in fans):
            return None
        return int(np.sum([f.fan_out() for f in fans], axis=0).max(initial=0))

    @property
    def wiring(self) -> Wiring:
        """The network as the chip's fan-in policy has it."""
        return self._laid[0]

    @cached_property
    def stored(self) -> dict[str, int]:
        """Bits that each connection's weights take on the chip."""
        allowed = self.profile.weights.bits.value
        return {name: stored_bits(b, allowed) if allowed else b for name, b in self.bits.items()}

    @property
    def _each(self) -> int:
        return self.profile.neurons_per_neuron(self.network.conventions.reset)

    @property
    def placement(self) -> Placement:
        return self._laid[1]

    def case_of(self, profile: Profile) -> Case:
        """What the rules look at; profile: whose limits they ask, this plan's own or one with others."""
        return replace(self._case(self.placement, self.wiring), profile=profile)

    def _case(self, placement: Placement, wires: Wiring) -> Case:
        kept = tuple(f.connection for f in self.fans)
        return Case(self.network, self.profile, kept, placement, self.bits, wires.delays, self.connections,
                    self._reaches)

    @cached_property
    def findings(self) -> list[Finding]:
        return findings(self._case(self.placement, self.wiring), built=self.built)

    @cached_property
    def stopping(self) -> tuple[Violation, ...]:
        """Violations with which the network has no form on the chip; nothing is placed for them."""
        found = findings(self._case(Placement((), self.chips), self._own), stopping=True)
        return tuple(f for f in found if isinstance(f, Violation))

    @cached_property
    def fewest_cores(self) -> int:
        """A lower bound of the cores, without placing anything: by neurons, by the bits of the weights alone, by the
        axons that end in a layer and those that leave it."""
        return min(self._fewest(wiring) for wiring in (self._own, self._like) if wiring is not None)

    def _fewest(self, wiring: Wiring) -> int:
        share = self.profile.topology.layers_share_cores
        limits = Limits.of(self.profile)
        caps = np.array([limits.compartments or 0, limits.memory or 0, limits.axons_in or 0, limits.axons_out or 0])
        if self.profile.topology.one_layer_per_core is not None and self.profile.topology.one_layer_per_core.value:
            return len(wiring.populations)
        takes: list[Ints] = []
        cores: dict[str, int] = {}
        for name in reversed(wiring.populations):
            neurons = int(np.prod(wiring.populations[name])) * self._each * wiring.joined.get(name, 1)
            into = [f for f in wiring.fans if f.connection.target == name]
            held = sum(f.stored_weights() * self.stored[f.connection.layer] for f in into)
            ends = sum(int(np.count_nonzero(f.fan_out())) for f in into)
            leave = 0  # every neuron that is heard takes an entry for each core that it is heard by
            for f in wiring.fans:
                if f.connection.source == name:
                    heard = f.fan_out()
                    everywhere = cores.get(f.connection.target, 1) if (heard == f.connection.n_targets).all() else 1
                    leave += int(np.count_nonzero(heard)) * everywhere
            needs = np.array([neurons, held, ends, leave])
            cores[name] = int(max([1, *(-(-int(a) // int(b)) for a, b in zip(needs, caps, strict=True) if b)]))
            takes.append(needs)
        if share is None or not share.value:
            return sum(cores.values())
        total = np.sum(takes, axis=0)
        return int(max([1, *(-(-int(a) // int(b)) for a, b in zip(total, caps, strict=True) if b)]))

    def beyond(self, zeros: Mapping[str, float]) -> bool:
        """Whether the chips have too few cores whatever lies where: for the neurons of the network, or for the bits of
        the weights alone that other shares of zeros leave. zeros: by name of those trained connections that may have
        any; nothing is known of the others' weights."""
        per_chip, limits = self.profile.topology.cores_per_chip.value, Limits.of(self.profile)
        neurons = sum(math.prod(self.network.shapes[name]) for name in self.network.populations) * self._each
        held = sum(round((1.0 - zeros[c.layer]) * c.weight.size) * self.stored[c.layer] for c in self.connections
                   if c.layer in zeros and c.trained and isinstance(c.weight, np.ndarray) and c.repeats == 1)
        return per_chip is not None and any(
            most is not None and needs > most * per_chip * self.chips
            for needs, most in ((neurons, limits.compartments), (held, limits.memory)))

    @property
    def memory(self) -> int:
        """Bytes stored on all cores."""
        return sum(int(layer.memory.sum()) for layer in self.placement.layers) // 8

    def prunable(self, population: str) -> dict[str, int]:
        """The fan-in that leaves no neuron of a population above the chip's limit, by name of its trained connections;
        empty when there is no limit, or when connections that are not trained take it all."""
        limit = self.profile.core.fan_in.value if self.profile.core.fan_in else None
        into = [f for f in self.fans if f.connection.target == population]
        trained = [f for f in into if f.connection.trained]
        each = {f.connection.name: int(f.fan_in().max()) for f in trained}
        left = (limit or 0) - most_synapses([f for f in into if not f.connection.trained])
        found = {
            f.connection.name: left * each[f.connection.name] // max(1, sum(each.values())) // f.connection.repeats
            for f in trained
        }
        least: dict[str, int] = {}  # connections of one layer have its zeros
        for f in trained:
            own, name = found[f.connection.name], f.connection.layer
            least[name] = min(own, least.get(name, own))
        return {
            f.connection.name: least[f.connection.layer] * f.connection.repeats for f in trained
        } if limit and min(found.values(), default=0) > 0 else {}

    def pruned_to_limits(self) -> Plan:
        """The plan with the fan-in of every population pruned to the chip's limit."""
        limit = self.profile.core.fan_in.value if self.profile.core.fan_in else None
        found: dict[str, int] = {}
        for name in self.network.populations:
            into = [f for f in self.fans if f.connection.target == name]
            if limit is not None and most_synapses(into) > limit:
                found |= self.prunable(name)
        return self.changed(fan_in=found)

    def relieving(self, violation: Violation) -> list[str]:
        """Names of the layers whose bits or zeros bear on a broken rule: those into the layer that it
        names, behind it where the rule is on what it sends, all of them where it is on whole chips."""
        trained = [i.connection for x in self.placement.layers for i in x.incoming if i.connection.trained]
        if violation.code.startswith("NC3"):
            return list(dict.fromkeys(c.layer for c in trained))
        if RULES[violation.code].sends:
            return list(dict.fromkeys(c.layer for c in self.connections if c.trained and c.source == violation.layer))
        populations = {x.population for x in self.layers_of(violation.layer)}
        return list(dict.fromkeys(c.layer for c in self.connections if c.trained and c.target in populations))

    def layers_of(self, title: str) -> list[Layer]:
        """Every layer that a user knows by this name."""
        return [x for x in self.placement.layers if x.title == title]

    def changed(self, *, bits: Mapping[str, int] | None = None, sparsity: Mapping[str, float] | None = None,
                fan_in: Mapping[str, int] | None = None, chips: int | None = None, policy: FanInPolicy | None = None,
                ) -> Plan:
        """The plan with some widths, sparsities, most inputs, the number of chips or the policy exchanged."""
        return replace(
            self, bits={**self.bits, **(bits or {})}, sparsity={**self.sparsity, **(sparsity or {})},
            fan_in={**self.fan_in, **(fan_in or {})}, chips=self.chips if chips is None else chips,
            policy=policy or self.policy,
        )
