"""What the neurons of a chip compute with: integers, real numbers, circuits, or what is not public."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Arithmetic:
    """Number formats of a chip's neurons, as its profile gives them. u_wraps: else it is clipped as v is. assumed:
    sentences on what is not public."""

    state_bits: int = 24
    decay_bits: int = 12
    activation_shift: int = 6
    threshold_bits: int = 17
    threshold_shift: int = 6
    bias_mantissa_bits: int = 13
    bias_exponent_max: int = 7
    bias_exponent_min: int = 0
    weight_exponent_min: int = -7
    weight_exponent_max: int = 7
    delay_max: int = 63
    u_wraps: bool = True
    source: str = ""
    assumed: tuple[str, ...] = ()

    @property
    def state_max(self) -> int:
        return 1 << (self.state_bits - 1)


@dataclass(frozen=True)
class FloatState:
    """States in float32. assumed: sentences on what is not public."""

    source: str = ""
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unknown(FloatState):
    """Stands where a chip's arithmetic is not public: its numbers are stored, and nothing is emulated."""


@dataclass(frozen=True)
class Analog:
    """Circuits in continuous time, each a little different.

    acceleration: seconds of the model in one second of the chip. tau_mem, tau_syn: shortest and longest time constants
    in seconds of the chip; refractory: shortest pause after a spike, likewise.
    spread_*: standard deviation of the fixed pattern, relative to the value, after the chip's own calibration.
    """

    acceleration: float
    tau_mem: tuple[float, float]
    tau_syn: tuple[float, float]
    refractory: float
    spread_weight: float
    spread_synapse: float
    spread_threshold: float
    spread_tau_mem: float
    spread_tau_syn: float
    source: str = ""
    assumed: tuple[str, ...] = ()
