"""What a profile holds: a chip as data, every number with its source.

A number that is not public is null with confidence "unknown"; a check against it answers "unchecked", never "fits".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from ...errors import refuse
from ...files.yaml_file import Part
from ...shown import listed
from .fact import Amount, Count, Entry, MemorySize, Text, Width
from .number_formats import AnalogFormats, ChipArithmetic, FloatStateFormats, Formats, IntegerFormats, arithmetic_of

__all__ = ["AnalogFormats", "Entry", "FloatStateFormats", "IntegerFormats", "Profile", "describe", "entries"]

Reset = Literal["native", "custom", "two compartments"]
Exponent = Annotated[int, Field(ge=-62, le=62)]
Counts = Annotated[list[Count], Field(min_length=1)]
FanInPolicy = Literal["refuse", "prune", "split", "join"]


class Topology(Part):
    """memory_per_chip: memory that all cores of a chip share. one_layer_per_core: a core holds one layer whole and a
    layer is never cut; the cores then may differ (see `Core.kernel_words`). layers_share_cores: pieces of several
    layers may lie on one core; without it every piece has a core of its own. inputs, outputs: channels into and out of
    a chip; hidden: neurons that are no output; input_side_max: height and width of an image."""

    cores_per_chip: Entry[Count]
    chips: Entry[Count]
    synapses_per_chip: Entry[Count] | None = None
    memory_per_chip: MemorySize | None = None
    one_layer_per_core: Entry[bool] | None = None
    layers_share_cores: Entry[bool] | None = None
    inputs: Entry[Count] | None = None
    input_side_max: Entry[Count] | None = None
    hidden: Entry[Count] | None = None
    outputs: Entry[Count] | None = None
    boards: dict[str, Entry[Count]] = Field(default_factory=dict)


class Core(Part):
    """Limits of one core. An absent key is no limit of this chip; a null value is a limit nobody published.

    fan_in: the most synapses into one neuron, signed weights counted; fan_in_policy: what is done about a neuron with
    more (refused; pruned to the limit; its sum split over cores; several neurons joined to one).
    kernel_words, neuron_words, bias_words: of each core, on a chip with one layer on each core. channels_max,
    kernel_size_max, strides, padding_max, pools: convolutions that a core computes; map_side_max: height and width of
    what it puts out. targets_per_layer: layers that one layer can send to. axon_types: types of axon on a crossbar of
    one bit, each of which is one weight of every neuron. destinations: axons that one neuron can send to.
    """

    neurons: Entry[Count]
    synapse_memory: MemorySize | None = None
    synapse_memory_reserved: MemorySize | None = None
    memory_per_axon: MemorySize | None = None
    axons_in: Entry[Count] | None = None
    axons_out: Entry[Count] | None = None
    axon_out_entries_same_chip: Entry[Count] | None = None
    axon_out_entries_cross_chip: Entry[Count] | None = None
    fan_in: Entry[Count] | None = None
    fan_in_policy: Entry[FanInPolicy] | None = None
    fan_out: Entry[Count] | None = None
    delay_slots: Entry[Count] | None = None
    kernel_words: Entry[Counts] | None = None
    neuron_words: Entry[Counts] | None = None
    bias_words: Entry[Counts] | None = None
    channels_max: Entry[Count] | None = None
    kernel_size_max: Entry[Count] | None = None
    strides: Entry[Counts] | None = None
    padding_max: Entry[Count] | None = None
    pools: Entry[Counts] | None = None
    map_side_max: Entry[Count] | None = None
    targets_per_layer: Entry[Count] | None = None
    axon_types: Entry[Count] | None = None
    destinations: Entry[Count] | None = None

    @property
    def memory_bits(self) -> int | None:
        """Bits that a core has for what it stores, or None when unknown or when there is no such limit."""
        reserved = self.synapse_memory_reserved
        total = self.synapse_memory.bits if self.synapse_memory else None
        return None if total is None else total - ((reserved.bits or 0) if reserved else 0)


class Storage(Part):
    """How weights are stored. formula: a name of `neurocompress.chip.profile.memory_formulas.FORMULAS`."""

    formula: Entry[str]
    shared_kernels: Entry[bool]
    neuron_bits: Entry[Count] | None = None


class Weights(Part):
    """magnitude_bits: a weight stored in `bits` is a multiple of 2^(magnitude_bits - bits), shifted once more by
    mixed_sign_bits when both signs share a connection.

    scale: what a weight of one step may be worth: a power of two for each connection, a power of two for each output
    channel, or a free number for each population. mixed_range: the integers of mixed weights in b bits:
    "twos-complement" (-2^(b-1) to 2^(b-1) - 1, the default), "symmetric" (without the lowest of these), or "beside"
    (the sign is stored beside b bits of magnitude: -(2^b - 1) to 2^b - 1)."""

    bits: Entry[Annotated[list[Annotated[int, Field(ge=1, le=64)]], Field(min_length=1)]]
    default_bits: Entry[Annotated[int, Field(ge=1, le=64)]]
    magnitude_bits: Entry[Annotated[int, Field(ge=1, le=64)]]
    mixed_sign_bits: Entry[Width]
    signs: Entry[list[Literal["mixed", "excitatory", "inhibitory"]]]
    scale: Entry[Literal["per-connection", "per-channel", "per-population"]]
    mixed_range: Entry[Literal["twos-complement", "symmetric", "beside"]] | None = None
    exponent: Entry[Annotated[list[Exponent], Field(min_length=2, max_length=2)]] | None = None


class Neurons(Part):
    """reset_delay: whether a reset can come in the step after the spike, behind the decay; not where it is absent.
    membrane_readout: whether the potential of neurons that never spike can be read off the chip."""

    models: Entry[list[Literal["I", "IF", "LI", "LIF", "CubaLI", "CubaLIF", "Threshold"]]]
    reset: Entry[dict[Literal["zero", "subtract"], Reset]]
    reset_delay: Entry[bool] | None = None
    graded_spikes: Entry[Width]
    delay_max: Entry[Count]
    membrane_readout: Entry[bool] | None = None


class Energy(Part):
    """Energy of one event, with the conditions under which it was measured."""

    conditions: Text
    per_synaptic_operation: Entry[Amount]
    per_neuron_update_active: Entry[Amount] | None = None
    per_neuron_update_inactive: Entry[Amount] | None = None
    per_hop_east_west: Entry[Amount] | None = None
    per_hop_north_south: Entry[Amount] | None = None
    per_spike_within_tile: Entry[Amount] | None = None


class Profile(Part):
    """A chip. Made by `neurocompress.chip.profile.load.load_profile`, which names file, line and key of every error.

    extends: the profile that this one changes: an installed one by name, or a file beside it (NAME.yaml).
    """

    def __repr__(self) -> str:
        return listed(f"Profile {self.name}: {self.title} ({self.vendor}, {self.year}); `neurocompress targets "
                      f"{self.name}` shows its limits")

    extends: Text | None = None
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=64)]
    title: Text
    vendor: Text
    year: int
    emits: list[Text]
    sources: dict[str, Text] = Field(default_factory=dict)
    topology: Topology
    core: Core
    memory: Storage
    weights: Weights
    neurons: Neurons
    formats: Annotated[Formats | None, Field(alias="arithmetic")] = None
    energy: Energy

    @property
    def cores(self) -> int | None:
        """Cores of all chips together, or None when unknown."""
        per_chip, chips = self.topology.cores_per_chip.value, self.topology.chips.value
        return None if per_chip is None or chips is None else per_chip * chips

    @property
    def default_bits(self) -> int:
        """Bits per weight when the user names none. Raises `Refused` when the profile leaves them unknown."""
        if self.weights.default_bits.value is None:
            raise refuse(f"{self.title} has no known weight width", where="weights.default_bits",
                         fix="Name the bits per weight with --bits")
        return self.weights.default_bits.value

    def neurons_per_neuron(self, reset: str) -> int:
        """Neurons of the chip that one neuron with this reset takes ("zero" or "subtract")."""
        return 2 if (self.neurons.reset.value or {}).get(reset) == "two compartments" else 1  # type: ignore[call-overload]

    def weight_range(self, bits: int, sign: str) -> tuple[int, int, int]:
        """(lowest, highest, step) of the integers that `bits` stored bits hold for sign mixed, excitatory, inhibitory.

        8 bit mixed on a chip with 8 magnitude bits and 1 mixed sign bit: (-256, 254, 2); 6 bit mixed with the sign
        beside 6 magnitude bits: (-63, 63, 1).
        """
        magnitude, mixed = self.weights.magnitude_bits.value, self.weights.mixed_sign_bits.value
        if magnitude is None or mixed is None:
            raise refuse(f"{self.title} has no known weight format", where="weights.magnitude_bits",
                         fix="Choose another target")
        if bits > magnitude:
            raise refuse(f"{bits} bits per weight are more than the {magnitude} that {self.title} stores",
                         where="weights.magnitude_bits", fix=f"Use at most {magnitude} bits")
        form = self.weights.mixed_range.value if self.weights.mixed_range else "twos-complement"
        inside = sign == "mixed" and form != "beside"  # the sign is one of the bits
        step = 1 << (magnitude - bits + (mixed if sign == "mixed" else 0))
        top = 1 << (magnitude - 1 + mixed if inside else magnitude)
        low = 0 if sign == "excitatory" else -top if inside and form == "twos-complement" else step - top
        return low, (0 if sign == "inhibitory" else top - step), step

    @property
    def arithmetic(self) -> ChipArithmetic:
        """What its neurons compute with. Raises `Refused` when that is not (all) public."""
        if self.formats is None:
            raise refuse(f"the arithmetic of {self.title} is not public", where="arithmetic",
                         fix="Emulate another target, or complete a profile of your own")
        exponent = self.weights.exponent.value if self.weights.exponent else None
        return arithmetic_of(self.formats, exponent, self.neurons.delay_max.value, self.expand)

    def expand(self, source: str) -> str:
        """A source with every "@key" written out, once: what a source of `sources` names itself stays."""
        return re.sub(r"@([a-z][a-z0-9-]*)", lambda found: self.sources.get(found[1], found[0]), source)


def entries(part: Any, path: str = "") -> Iterator[tuple[str, Entry[Any]]]:
    """Every fact of a profile (or of a part of one) with its key, such as "core.axons_in", in the schema's order."""
    if isinstance(part, Entry):
        yield path, part
    elif isinstance(part, Part):
        for name, field in type(part).model_fields.items():
            yield from entries(getattr(part, name), f"{path}.{field.alias or name}".lstrip("."))
    elif isinstance(part, dict):
        for name, value in part.items():
            yield from entries(value, f"{path}.{name}")


def describe(profile: Profile) -> list[dict[str, Any]]:
    """One row for each fact: key ("core.axons_in"), value, unit, confidence, kind, source (written out), note."""
    return [
        {"key": key, **entry.model_dump(), "source": profile.expand(entry.source)} for key, entry in entries(profile)
    ]
