"""A network on a chip's grid, and how it is written down."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np

from ..backends import backend
from ..by_layer import ALL
from ..chip.arithmetic import Unknown
from ..chip.on_chip.build import build
from ..chip.on_chip.real_network import OnChip
from ..chip.on_chip.units import Units, WeightFormat, weight_format
from ..chip.profile.features import Features
from ..chip.profile.load import Profile
from ..chip.profile.number_formats import ChipArithmetic
from ..compression.compressed_layer import CompressedLayer, summary
from ..compression.recipe import Recipe
from ..network.connections import connections
from ..network.graph import Network
from ..network.readout import Tail
from ..shown import listed


@dataclass(frozen=True, eq=False)
class Compressed:
    """A network on a chip's grid.

    network: in `chip_form`, its weights on the grid, in the model's own units. original: the same before compression.
    layers: by node of weights. units: by population. fmt and features: the chip's, from its profile.
    arithmetic: what its neurons compute with; where that is not public real numbers stand for it, and the chip's
    network is written but not emulated. tail: how the network ends; without it all of it lies on the chip.
    """

    original: Network
    network: Network
    layers: dict[str, CompressedLayer]
    units: dict[str, Units]
    fmt: WeightFormat
    features: Features
    profile: Profile
    arithmetic: ChipArithmetic
    recipe: Recipe
    notes: tuple[str, ...]
    tail: Tail | None = None

    @property
    def whole(self) -> Network:
        """The compressed network with what the host computes behind it."""
        return self.network if self.tail is None else self.tail.whole(self.network)

    @property
    def whole_original(self) -> Network:
        """The same before compression."""
        return self.original if self.tail is None else self.tail.whole(self.original)

    def __repr__(self) -> str:
        return listed(f"Compressed for {self.profile.title} by {self.recipe.method}",
                      (f"{name}: {summary(layer)}" for name, layer in self.layers.items()), self.notes)

    def save(self, path: str | Path) -> None:
        """Writes the network as a NIR file, with what gives the chip's integers back. Raises `Refused`."""
        backend("nir").write(self.network, path, metadata=quantization_facts(self, self.integer))

    @property
    def emulated(self) -> bool:
        """Whether the chip's arithmetic is known."""
        return not isinstance(self.arithmetic, Unknown)

    @cached_property
    def integer(self) -> OnChip:
        return self.integer_network()

    def integer_network(self, input_bits: int = 0) -> OnChip:
        """The network as the chip stores it. Raises `Refused` for everything the chip can not hold."""
        return build(
            self.network, {n: layer.m for n, layer in self.layers.items() if layer.m is not None}, self.units, self.fmt,
            self.arithmetic, self.features, input_bits,
            {n: weight_format(self.profile, x.bits) for n, x in self.layers.items() if x.bits != self.fmt.bits},
            host=self.tail is not None and bool(self.tail.edges))

    @property
    def bits(self) -> int | dict[str, int]:
        """Stored bits of all layers, or by layer where they differ ("*": of whatever else is stored)."""
        own = {escape(n): x.bits for n, x in self.layers.items() if x.bits and x.bits != self.fmt.bits}
        return {ALL: self.fmt.bits} | own if own else self.fmt.bits


def quantization_facts(compressed: Compressed, integer: OnChip) -> dict[str, dict[str, Any]]:
    """What a reader needs to get the chip's integers back from the weights: by node of weights."""
    facts: dict[str, dict[str, Any]] = {}
    layer_of = {c.name: c.layer for c in connections(compressed.network)}
    for connection in integer.synapses:
        name = layer_of.get(connection.name, connection.name)
        layer = compressed.layers.get(name)
        if layer is not None:
            facts[name] = {
                "quant_weight_int": layer.m, "quant_weight_scale": np.asarray(layer.step, dtype=np.float64).reshape(-1),
                "quant_bits": layer.bits, "quant_sign_mode": connection.sign, "quant_exponent": connection.exponent,
                "quant_target": compressed.profile.name}
    return facts
