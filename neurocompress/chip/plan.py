"""A network placed on a chip at given widths and sparsities, and what the rules say to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from ..network.connections import Connection
from ..network.graph import Network
from .expected import pruned
from .mapping import Placement, extra_delays, place
from .memory import stored_bits
from .rules import Case, Finding, findings
from .schema import Profile


@dataclass(frozen=True, eq=False)
class Plan:
    """bits, sparsity: by connection name; a connection that `sparsity` does not name keeps its weights."""

    network: Network
    profile: Profile
    connections: tuple[Connection, ...]
    bits: Mapping[str, int]
    sparsity: Mapping[str, float]
    chips: int

    @cached_property
    def kept(self) -> tuple[Connection, ...]:
        """The connections after pruning."""
        return tuple(pruned(c, self.sparsity.get(c.name, 0.0)) for c in self.connections)

    @cached_property
    def stored(self) -> dict[str, int]:
        """Bits that each connection's weights take on the chip."""
        allowed = self.profile.weights.bits.value
        return {name: stored_bits(b, allowed) if allowed else b for name, b in self.bits.items()}

    @cached_property
    def placement(self) -> Placement:
        shapes = {name: self.network.shapes[name] for name in self.network.populations}
        return place(
            shapes, self.kept, self.network.input, self.profile, bits=self.stored, chips=self.chips,
            per_neuron=self.profile.neurons_per_neuron(self.network.conventions.reset),
        )

    @cached_property
    def findings(self) -> list[Finding]:
        delays = extra_delays(self.network.populations, self.kept, self.network.input)
        return findings(Case(self.network, self.profile, self.kept, self.placement, self.bits, delays))

    @property
    def memory(self) -> int:
        """Bytes stored on all cores."""
        return sum(int(layer.memory.sum()) for layer in self.placement.layers) // 8

    def changed(self, *, bits: Mapping[str, int] | None = None, sparsity: Mapping[str, float] | None = None,
                chips: int | None = None) -> Plan:
        """The plan with some widths, sparsities or the number of chips exchanged."""
        return replace(
            self, bits={**self.bits, **(bits or {})}, sparsity={**self.sparsity, **(sparsity or {})},
            chips=self.chips if chips is None else chips,
        )
