"""The `arithmetic` block of a profile: what the chip's neurons compute with, in one of four forms.

loihi        integer current and membrane with shifts, exponents and a current that wraps (see on_chip.integer_network)
integer      the same without the wrap: a plain integer membrane
float-state  integer weights, states in float32 (see on_chip.real_network)
analog       weights of a few bits, circuits in continuous time that all differ a little (see on_chip.real_network)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import Field

from ...errors import refuse
from ...files.yaml_file import Part
from ..arithmetic import Analog, Arithmetic, FloatState
from .fact import Amount, Entry, Width

Range = Annotated[list[Amount], Field(min_length=2, max_length=2)]


class IntegerFormats(Part):
    """Number formats of digital neurons; the field names are those of
    `neurocompress.chip.on_chip.integer_network.Arithmetic`."""

    form: Literal["loihi", "integer"]
    state_bits: Entry[Annotated[int, Field(ge=2, le=30)]]
    decay_bits: Entry[Annotated[int, Field(ge=1, le=20)]]
    activation_shift: Entry[Width]
    threshold_bits: Entry[Width]
    threshold_shift: Entry[Width]
    bias_mantissa_bits: Entry[Width]
    bias_exponent_max: Entry[Width]
    bias_exponent_min: Entry[Width] | None = None


class FloatStateFormats(Part):
    """states: the number format of u, v and thresholds. bias: where a constant input enters."""

    form: Literal["float-state"]
    states: Entry[Literal["float32"]]
    bias: Entry[Literal["membrane"]]


class AnalogFormats(Part):
    """Fields are those of `neurocompress.chip.on_chip.real_network.Analog`; time constants in microseconds of the chip,
    spreads as shares of the value."""

    form: Literal["analog"]
    acceleration: Entry[Amount]
    tau_mem: Entry[Range]
    tau_syn: Entry[Range]
    refractory: Entry[Range]
    spread_weight: Entry[Amount]
    spread_synapse: Entry[Amount]
    spread_threshold: Entry[Amount]
    spread_tau_mem: Entry[Amount]
    spread_tau_syn: Entry[Amount]


Formats = Annotated[IntegerFormats | FloatStateFormats | AnalogFormats, Field(discriminator="form")]
ChipArithmetic = Arithmetic | FloatState | Analog

#: Microseconds in a second.
MICROSECONDS = 1e6


def arithmetic_of(
    formats: IntegerFormats | FloatStateFormats | AnalogFormats, exponent: list[int] | None, delay_max: int | None,
    expand: Callable[[str], str],
) -> ChipArithmetic:
    """The numbers of a block. exponent: of the weights, None where there is none. delay_max: None when it is unknown,
    and then nothing is delayed. expand: writes out "@key" sources. Raises `Refused` when one of them is not public."""
    facts: dict[str, Entry[Any]] = {
        name: entry for name in type(formats).model_fields if isinstance(entry := getattr(formats, name), Entry)}
    values: dict[str, Any] = {name: entry.value for name, entry in facts.items()}
    unknown = [f"arithmetic.{name}" for name, value in values.items() if value is None]
    if unknown:
        raise refuse("the chip's arithmetic is not public", where=", ".join(unknown),
                     fix="Emulate another target, or complete a profile of your own")
    source = expand(next(iter(facts.values())).source)
    assumed = tuple(f"assumed, not public: {name.replace('_', ' ')}: {entry.value}{_unit(entry)}"
                    + (f" ({entry.note})" if entry.note else "")
                    for name, entry in facts.items() if entry.confidence == "derived")
    if isinstance(formats, IntegerFormats):
        low, high = exponent or (0, 0)
        return Arithmetic(**values, u_wraps=formats.form == "loihi", weight_exponent_min=low, weight_exponent_max=high,
                          delay_max=delay_max or 0, source=source, assumed=assumed)
    if isinstance(formats, FloatStateFormats):
        return FloatState(source, assumed)
    (mem_low, mem_high), (syn_low, syn_high) = values["tau_mem"], values["tau_syn"]
    spreads = {name: value for name, value in values.items() if name.startswith("spread_")}
    return Analog(
        values["acceleration"], (mem_low / MICROSECONDS, mem_high / MICROSECONDS),
        (syn_low / MICROSECONDS, syn_high / MICROSECONDS), values["refractory"][0] / MICROSECONDS, **spreads,
        source=source, assumed=assumed)


def _unit(entry: Entry[Any]) -> str:
    return f" {entry.unit}" if entry.unit else ""
