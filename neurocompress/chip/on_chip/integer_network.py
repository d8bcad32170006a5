"""A network in a chip's number formats: what a back end writes and the emulator runs.

The arithmetic of one neuron and step, all integers (a is the sum of what its synapses deliver):
    u <- toward_zero(u (2^d - du - 1) / 2^d) + (a << activation_shift),      wrapped once to state_bits, or clipped
    v <- toward_zero(v (2^d - dv) / 2^d) + u + bias,                         clipped to state_bits
    n  = spikes: v > vth << threshold_shift (or >=), then v resets
with d = decay_bits. A synapse delivers (sum of weight * spikes) << exponent one step after the spike
(an arithmetic right shift when the exponent is negative). Sources: `Arithmetic.source`, from the chip's profile.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import numpy as np

from ...network.connections import Weight
from ...network.conventions import Reading
from ...network.kernel import Kernel
from ...network.nodes import Shape
from ...network.readout import described
from ...shown import listed, times
from ..arithmetic import Arithmetic
from .graded import Graded

if TYPE_CHECKING:
    from scipy import sparse

Ints = np.ndarray  # integer arrays that broadcast to a population's shape


@dataclass(frozen=True, eq=False)
class Synapses:
    """One connection in integers.

    weight: as in `Connection`, integers as the chip stores them, low bits already zero
        (8 bit mixed sign: even numbers from -256 to 254).
    exponent: the accumulated sum is shifted left by it (right when negative).
    bits: stored bits per weight; sign: "mixed", "excitatory" or "inhibitory".
    extra_delay: steps beyond the one that every connection takes; (sources,) when it differs.
    message_bits: 0 for plain spikes, more when the source sends graded spikes.
    """

    name: str
    source: str
    target: str
    weight: Weight
    kernel: Kernel | None
    exponent: int
    bits: int
    sign: str
    source_shape: Shape
    target_shape: Shape
    extra_delay: int | np.ndarray = 0
    feedback: bool = False
    message_bits: int = 0

    def matrix(self) -> sparse.csr_array:
        """(targets, sources) csr_array of integers."""
        from scipy import sparse

        if self.kernel is not None:
            return self.kernel.matrix(np.asarray(self.weight))
        return sparse.csr_array(self.weight)


@dataclass(frozen=True, eq=False)
class Population:
    """Neurons in integers. Arrays broadcast to `shape`; units of u, v, bias, reset_by are the chip's own.

    vth is the threshold mantissa (v is compared with vth << threshold_shift).
    bias = bias_mant << bias_exp.
    reset: "zero" sets v to 0; "subtract" takes n * reset_by away for n spikes.
    spikes_per_step: "many" sends floor(v / threshold) as one graded spike (and 0 when v < threshold).
    v_floor: lowest v after the update and the reset, or None.
    two_phase: a neuron whose v is still above its threshold after the last reset must exceed
        threshold + reset_by to fire (v itself is not changed by the test).
    late_reset: the reset follows in the next step, after the decay and the input: by reset_by for each spike of the
        step before, or to zero with all that arrived.
    u_init, v_init: state before the first step of a sample.
    spiking: False for a readout that never spikes; it sends v itself every step.
    latency: steps by which the population runs behind the input, all connections counted.
    unit: of a readout, what a v of 1 is in the model's units.
    """

    name: str
    shape: Shape
    du: Ints
    dv: Ints
    vth: Ints
    bias_mant: Ints
    bias_exp: int = 0
    reset: str = "zero"
    reset_by: Ints | int = 0
    fire: str = ">"
    spikes_per_step: str = "one"
    v_floor: Ints | None = None
    two_phase: bool = False
    late_reset: bool = False
    u_init: Ints | int = 0
    v_init: Ints | int = 0
    spiking: bool = True
    latency: int = 1
    unit: np.ndarray | float = 1.0


P = TypeVar("P", bound="Neurons")
A = TypeVar("A")


class Neurons(Protocol):
    """What every population of a chip has."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> Shape: ...
    @property
    def latency(self) -> int: ...
    @property
    def spiking(self) -> bool: ...


@dataclass(frozen=True, eq=False)
class ChipNetwork(Generic[P, A]):
    """populations in order of computation; the input is not among them. output: the population that is read (the last
    one that the host reads, where it computes what lies behind). notes: named approximations. graded_input: the step by
    which real values become what the input sends; None where it is sent whole numbers as they are. reading: which
    number of its potential gives the class where the output never spikes. host: whether the host computes the
    outputs."""

    input: str
    input_shape: Shape
    output: str
    populations: tuple[P, ...]
    synapses: tuple[Synapses, ...]
    arithmetic: A
    notes: tuple[str, ...] = ()
    input_message_bits: int = 0
    graded_input: Graded | None = None
    reading: Reading = "mean"
    host: bool = False

    def __repr__(self) -> str:
        return listed(f"{type(self).__name__}: input {self.input} {times(self.input_shape)}, output {self.output}, "
                      f"{len(self.synapses)} connections", (f"{p.name}: {times(p.shape)}" for p in self.populations))

    def population(self, name: str) -> P:
        return next(p for p in self.populations if p.name == name)

    @cached_property
    def latency(self) -> int:
        """Steps from the input to the last population."""
        return max(p.latency for p in self.populations)

    @property
    def read_by(self) -> str:
        """How the class is read of the output, for people."""
        return described(self.output, self.population(self.output).spiking, self.reading)

    def aligned_delay(self, synapses: Synapses) -> int | np.ndarray:
        """Steps by which a spike arrives late when every population's clock starts at its own latency."""
        behind = {p.name: p.latency for p in self.populations} | {self.input: 0}
        return behind[synapses.source] + 1 + synapses.extra_delay - behind[synapses.target]


@dataclass(frozen=True, eq=False, repr=False)
class IntegerNetwork(ChipNetwork[Population, Arithmetic]):
    """Everything in integers."""
