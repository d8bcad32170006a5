"""A network on cores: every population cut into core-sized pieces, one piece on each core.

The same network always gives the same placement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from ..errors import refuse
from ..network.connections import Connection
from ..network.nodes import Shape
from .cut import Cutter, Incoming, Limits
from .fan import Cut, Fan, Format, Ints
from .memory import FORMULAS
from .schema import Profile


@dataclass(frozen=True, eq=False)
class Layer:
    """A population on its cores; all arrays are (cores,) int64.

    neurons: neurons of the network; compartments: what they take on the chip.
    memory, longest: bits of synapse memory (and neuron state), bits of the longest list of one axon.
    axons_out: entries for what leaves the core. delay_slots: compartments x 2^delay bits.
    fan_in: the most synapses that end in one neuron, all connections together.
    """

    name: str
    incoming: tuple[Incoming, ...]
    cut: Cut
    neurons: Ints
    compartments: Ints
    axons_in: Ints
    axons_out: Ints
    synapses: Ints
    memory: Ints
    longest: Ints
    delay_slots: Ints
    fan_in: int

    @property
    def cores(self) -> int:
        return self.neurons.size

    @property
    def title(self) -> str:
        """The name its users know it by: the node that holds its weights, or the neurons' own."""
        trained = [i.connection.name for i in self.incoming if i.connection.trained]
        return trained[0] if trained else self.name


@dataclass(frozen=True)
class Placement:
    """Every layer in order of computation; layer by layer, piece by piece, cores are numbered from 0."""

    layers: tuple[Layer, ...]
    chips: int

    @property
    def cores(self) -> int:
        return sum(layer.cores for layer in self.layers)


def extra_delays(populations: Iterable[str], connections: tuple[Connection, ...], source: str) -> dict[int, int]:
    """Steps beyond the one that every connection takes, by id of the connection (the most, where sources differ).

    populations: names in order of computation. source: the network's input, at step 0. A population runs one step
    behind the last of its sources; a shorter branch waits for the longer one, and feedback takes the steps that
    its delay leaves over.
    """
    behind = {source: 0}
    for name in populations:
        behind[name] = max((behind.get(c.source, 0) + 1 for c in connections if c.target == name and not c.feedback),
                           default=0)
    return {
        id(c): max(0, int(np.max(c.delay)) - 1 + behind.get(c.target, 0) - behind.get(c.source, 0))
        for c in connections
    }


def place(
    populations: dict[str, Shape], fans: tuple[Fan, ...], source: str, profile: Profile, *,
    bits: Mapping[str, int], per_neuron: int = 1, chips: int = 1, fixed: Mapping[str, Cut] = MappingProxyType({}),
) -> Placement:
    """Cut every population into core-sized pieces.

    populations: shapes by name in order of computation, the input left out. fans: one for each connection.
    source: the name of the input, which stays off the cores. bits: stored bits by connection name.
    per_neuron: compartments that a neuron takes. fixed: cuts that are settled already, by population.
    """
    memory = profile.memory
    if memory.formula.value is None:
        raise refuse(f"how {profile.title} stores synapses is not public", where="memory.formula",
                     fix="Choose another target, or name a formula in a profile of your own")
    formula, shared = FORMULAS[memory.formula.value], bool(memory.shared_kernels.value)
    neuron_bits = (memory.neuron_bits.value or 0) if memory.neuron_bits else 0
    delays = extra_delays(populations, tuple(f.connection for f in fans), source)
    limits = Limits.of(profile)
    cutters: dict[str, Cutter] = {}
    for name, shape in populations.items():
        incoming = tuple(
            Incoming(f, Format(formula, bits[f.connection.name], delays[id(f.connection)].bit_length(), shared))
            for f in fans if f.connection.target == name
        )
        widest = max((i.form.delay_bits for i in incoming), default=0)
        cutters[name] = Cutter(shape, incoming, per_neuron, neuron_bits, widest, limits)

    crossing = profile.core.axon_out_entries_cross_chip if chips > 1 else profile.core.axon_out_entries_same_chip
    entries = (crossing.value if crossing else None) or 1
    reached: dict[tuple[int, Cut], Ints] = {}

    def leaving(name: str) -> Ints:
        """(neurons,) out entries of each neuron, for the targets that are cut already."""
        total = np.zeros(int(np.prod(populations[name])), dtype=np.int64)
        for target, cutter in cutters.items():
            for i in cutter.incoming:
                if i.connection.source == name and target in cuts:
                    key = (id(i.connection), cuts[target])
                    if key not in reached:
                        reached[key] = i.fan.reach(cuts[target])
                    total += reached[key] * entries
        return total

    cuts: dict[str, Cut] = dict(fixed)
    last: dict[str, Ints] = {}
    for _ in range(4):  # a cut adds axons to the layers before it, and with feedback to itself
        changed = False
        for name in (n for n in reversed(populations) if n not in fixed):
            now = leaving(name)
            if name not in last or not np.array_equal(now, last[name]):
                cuts[name], last[name], changed = cutters[name].best(now), now, True
        if not changed:
            break
    return Placement(
        tuple(
            Layer(name, cutter.incoming, cuts[name], fan_in=cutter.fan_in, **cutter.loads(cuts[name], leaving(name)))
            for name, cutter in cutters.items()
        ),
        chips,
    )
