"""A network placed on a chip at given widths and sparsities, and what the rules say to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from ..network.connections import Connection
from ..network.graph import Network
from .cut import fan
from .expected import pruned
from .fan import Cut, Fan
from .mapping import Placement, extra_delays, place
from .memory import stored_bits
from .rules import Case, Finding, findings
from .schema import Profile


@dataclass(frozen=True, eq=False)
class Plan:
    """bits, sparsity: by connection name; a connection that `sparsity` does not name keeps its weights.

    fixed: cuts that are not searched again, by population.
    """

    network: Network
    profile: Profile
    connections: tuple[Connection, ...]
    bits: Mapping[str, int]
    sparsity: Mapping[str, float]
    chips: int
    fixed: Mapping[str, Cut] = field(default_factory=dict)
    _counted: dict[tuple[int, float], Fan] = field(default_factory=dict)  # shared by the plans made from this one

    @cached_property
    def fans(self) -> tuple[Fan, ...]:
        """Counters of the connections after pruning."""
        found = []
        for c in self.connections:
            key = (id(c), self.sparsity.get(c.name, 0.0))
            if key not in self._counted:
                self._counted[key] = fan(pruned(c, key[1]))
            found.append(self._counted[key])
        return tuple(found)

    @cached_property
    def stored(self) -> dict[str, int]:
        """Bits that each connection's weights take on the chip."""
        allowed = self.profile.weights.bits.value
        return {name: stored_bits(b, allowed) if allowed else b for name, b in self.bits.items()}

    @cached_property
    def placement(self) -> Placement:
        shapes = {name: self.network.shapes[name] for name in self.network.populations}
        return place(
            shapes, self.fans, self.network.input, self.profile, bits=self.stored, chips=self.chips, fixed=self.fixed,
            per_neuron=self.profile.neurons_per_neuron(self.network.conventions.reset),
        )

    @cached_property
    def findings(self) -> list[Finding]:
        kept = tuple(f.connection for f in self.fans)
        delays = extra_delays(self.network.populations, kept, self.network.input)
        return findings(Case(self.network, self.profile, kept, self.placement, self.bits, delays))

    @cached_property
    def fewest_cores(self) -> int:
        """A lower bound of the cores, without placing anything: by neurons, and by the bits of the weights alone."""
        core, total = self.profile.core, 0
        each = self.profile.neurons_per_neuron(self.network.conventions.reset)
        for name in self.network.populations:
            neurons = int(np.prod(self.network.shapes[name])) * each
            held = sum(f.stored_weights() * self.stored[f.connection.name] for f in self.fans
                       if f.connection.target == name)
            total += max(1, *(-(-a // b) for a, b in ((neurons, core.neurons.value), (held, core.memory_bits)) if b))
        return total

    @property
    def memory(self) -> int:
        """Bytes stored on all cores."""
        return sum(int(layer.memory.sum()) for layer in self.placement.layers) // 8

    def changed(self, *, bits: Mapping[str, int] | None = None, sparsity: Mapping[str, float] | None = None,
                chips: int | None = None, only: str | None = None) -> Plan:
        """The plan with some widths, sparsities or the number of chips exchanged.

        only: the layer that is cut anew, by its title; all layers for None.
        """
        fixed = {} if only is None else {x.name: x.cut for x in self.placement.layers if x.title != only}
        return replace(
            self, bits={**self.bits, **(bits or {})}, sparsity={**self.sparsity, **(sparsity or {})},
            chips=self.chips if chips is None else chips, fixed=fixed,
        )
