"""What lies where: populations in core-sized pieces, and the core of each piece."""

from __future__ import annotations

from dataclasses import dataclass

from .partition import Incoming
from .synapse_counts import Cut, Ints


@dataclass(frozen=True, eq=False)
class Layer:
    """A population on its cores; all arrays are (pieces,) int64.

    neurons: neurons of the network; compartments: what they take on the chip.
    memory, longest: bits of synapse memory (and neuron state), bits of the longest list of one axon.
    axons_out: entries for what leaves the core. delay_slots: compartments x 2^delay bits.
    fan_in: the most synapses that end in one neuron of the chip, all connections together.
    at: the core of each piece. population: of the network; another than `name` for partial sums.
    """

    name: str
    population: str
    incoming: tuple[Incoming, ...]
    cut: Cut
    at: Ints
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
        """Pieces, each on a core; several layers may share one."""
        return self.neurons.size

    @property
    def title(self) -> str:
        """The name its users know it by: the node that holds its weights, or the neurons' own."""
        trained = [i.connection.layer for i in self.incoming if i.connection.trained]
        return trained[0] if trained else self.name


@dataclass(frozen=True)
class Placement:
    """Every layer in order of computation. Cores are numbered from 0 in the order of the pieces on them."""

    layers: tuple[Layer, ...]
    chips: int

    @property
    def cores(self) -> int:
        return max((int(layer.at.max()) + 1 for layer in self.layers), default=0)
