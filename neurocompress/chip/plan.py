"""A network placed on a chip at given widths and sparsities, and what the rules say to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from ..network.connections import Connection
from ..network.graph import Network
from .cut import Limits, fan
from .delays import extra_delays
from .expected import Pruner, limited
from .fan import Cut, Fan, Ints
from .mapping import Layer, Placement, place
from .memory import stored_bits
from .reach import Reach
from .rules import Case, Finding, Violation, findings
from .schema import FanInPolicy, Profile
from .wiring import Wiring, most_synapses, wired

#: A connection, its sparsity and its most inputs -> its counter.
Counted = dict[tuple[int, float, int | None], Fan]


@dataclass(frozen=True, eq=False)
class Plan:
    """bits, sparsity, fan_in: by connection name; a connection that `sparsity` does not name keeps its weights, one
    that `fan_in` does not name its inputs. policy: what becomes of neurons with too many synapses.

    fixed: cuts that are not searched again, by population. built: whether the network has its form on the chip already.
    """

    network: Network
    profile: Profile
    connections: tuple[Connection, ...]
    bits: Mapping[str, int]
    sparsity: Mapping[str, float]
    chips: int
    policy: FanInPolicy = "refuse"
    fan_in: Mapping[str, int] = field(default_factory=dict)
    fixed: Mapping[str, Cut] = field(default_factory=dict)
    built: bool = False
    _counted: Counted = field(default_factory=dict)  # shared by the plans made from this one
    _pruners: dict[tuple[int, int | None], Pruner] = field(default_factory=dict)
    _wired: dict[tuple[Any, ...], Wiring] = field(default_factory=dict)
    _reaches: dict[str, Reach] = field(default_factory=dict)

    @cached_property
    def fans(self) -> tuple[Fan, ...]:
        """Counters of the connections after pruning."""
        found = []
        for c in self.connections:
            key = (id(c), self.sparsity.get(c.name, 0.0), self.fan_in.get(c.name))
            if key not in self._counted:
                pruner = self._pruners.get((key[0], key[2]))
                if pruner is None:
                    pruner = self._pruners[key[0], key[2]] = Pruner(c if key[2] is None else limited(c, key[2]))
                less = pruner.to(key[1])
                self._counted[key] = fan(less, bool(self.profile.memory.shared_kernels.value))
            found.append(self._counted[key])
        return tuple(found)

    @cached_property
    def wiring(self) -> Wiring:
        """The network as the chip's fan-in policy has it."""
        key = (self.policy, *map(id, self.fans))
        if key not in self._wired:
            kept = tuple(f.connection for f in self.fans)
            formats = self.profile.formats
            delays = extra_delays(self.network, kept, formats is not None and formats.form == "analog")
            self._wired[key] = wired(self.network, self.fans, delays, self.profile, self.policy)
        return self._wired[key]

    @cached_property
    def stored(self) -> dict[str, int]:
        """Bits that each connection's weights take on the chip."""
        allowed = self.profile.weights.bits.value
        return {name: stored_bits(b, allowed) if allowed else b for name, b in self.bits.items()}

    @property
    def _each(self) -> int:
        return self.profile.neurons_per_neuron(self.network.conventions.reset)

    @cached_property
    def placement(self) -> Placement:
        return place(self.wiring, self.profile, bits=self.stored, chips=self.chips, fixed=self.fixed,
                     per_neuron=self._each)

    def _case(self, placement: Placement) -> Case:
        kept = tuple(f.connection for f in self.fans)
        return Case(self.network, self.profile, kept, placement, self.bits, self.wiring.delays, self.connections,
                    self._reaches)

    @cached_property
    def findings(self) -> list[Finding]:
        return findings(self._case(self.placement), built=self.built)

    @cached_property
    def stopping(self) -> tuple[Violation, ...]:
        """Violations with which the network has no form on the chip; nothing is placed for them."""
        found = findings(self._case(Placement((), self.chips)), stopping=True)
        return tuple(f for f in found if isinstance(f, Violation))

    @cached_property
    def fewest_cores(self) -> int:
        """A lower bound of the cores, without placing anything: by neurons, by the bits of the weights alone, by the
        axons that end in a layer and those that leave it."""
        share = self.profile.topology.layers_share_cores
        limits, wiring = Limits.of(self.profile), self.wiring
        caps = np.array([limits.compartments or 0, limits.memory or 0, limits.axons_in or 0, limits.axons_out or 0])
        if self.profile.topology.one_layer_per_core is not None and self.profile.topology.one_layer_per_core.value:
            return len(wiring.populations)
        takes: list[Ints] = []
        cores: dict[str, int] = {}
        for name in reversed(wiring.populations):
            neurons = int(np.prod(wiring.populations[name])) * self._each * wiring.joined.get(name, 1)
            into = [f for f in wiring.fans if f.connection.target == name]
            held = sum(f.stored_weights() * self.stored[f.connection.name] for f in into)
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
        return {
            f.connection.name: found[f.connection.name] * f.connection.repeats for f in trained
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

    def layers_of(self, title: str) -> list[Layer]:
        """Every layer that a user knows by this name."""
        return [x for x in self.placement.layers if x.title == title]

    def changed(self, *, bits: Mapping[str, int] | None = None, sparsity: Mapping[str, float] | None = None,
                fan_in: Mapping[str, int] | None = None, chips: int | None = None, policy: FanInPolicy | None = None,
                only: str | None = None) -> Plan:
        """The plan with some widths, sparsities, most inputs, the number of chips or the policy exchanged.

        only: the layer that is cut anew, by its title; all layers for None.
        """
        fixed = {} if only is None else {x.name: x.cut for x in self.placement.layers if x.title != only}
        return replace(
            self, bits={**self.bits, **(bits or {})}, sparsity={**self.sparsity, **(sparsity or {})},
            fan_in={**self.fan_in, **(fan_in or {})}, chips=self.chips if chips is None else chips,
            policy=policy or self.policy, fixed=fixed,
        )
