"""A network of stored integer weights whose neurons keep real numbers: in software as float32, or in analog circuits.

The arithmetic of one neuron and step (a is the sum of what its synapses deliver, in stored weights):
    u <- alpha u + a                    without a synapse u = a
    v <- beta v + u + leak
    n  = spikes: v > v_threshold (or >=), then v resets
"""

from __future__ import annotations

from dataclasses import dataclass

from ...network.conventions import Conventions
from ...network.discrete import Step
from ...network.nodes import Array, Shape
from ..arithmetic import Analog, FloatState
from .integer_network import ChipNetwork, IntegerNetwork


@dataclass(frozen=True, eq=False)
class RealPopulation:
    """Neurons with real states, counted in stored weights: one weight of 1 moves v by 1.

    step: coefficients as in `network.discrete.Step`, gains 1, that broadcast to `shape`; v_threshold None for a readout
    that never spikes, whose potential times `unit` is in the model's units. v_init: v before the first step of a
    sample. conventions: reset, fire, spikes per step, floor, two-phase
    and delayed reset (of this population, see network.resets) are read. latency: steps behind input.
    """

    name: str
    shape: Shape
    step: Step
    conventions: Conventions
    v_init: Array
    unit: Array
    latency: int = 1

    @property
    def spiking(self) -> bool:
        return self.step.v_threshold is not None


@dataclass(frozen=True, eq=False, repr=False)
class RealNetwork(ChipNetwork[RealPopulation, FloatState | Analog]):
    """Weights are integers as the chip stores them (of one virtual analog chip: the numbers they turn out to be)."""


#: A network on any chip.
OnChip = IntegerNetwork | RealNetwork
