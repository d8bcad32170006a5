"""Compression for one chip: what the profile allows, asked for and granted layer by layer.

This is where compression (which knows no chip) and a chip's number formats (which know no compression) meet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from glob import escape

import numpy as np

from .by_layer import ALL, split
from .chip.analog import on_circuits
from .chip.build import build
from .chip.drive import gains, step_of
from .chip.features import Features, features, with_conventions
from .chip.formats import ChipArithmetic
from .chip.integer import Arithmetic
from .chip.profile import Profile
from .chip.real import Analog, OnChip, Unknown
from .chip.units import Units, WeightFormat, fit_units
from .compression.layer import CompressedLayer
from .compression.module import compressed_groups
from .compression.recipe import Recipe, recipe_of
from .compression.refine import Decay
from .compression.walk import MEMORY, Progress, Statistics, compress_layers
from .errors import refuse
from .grid import Grid
from .network.canonical import canonical
from .network.connections import Connection, connections
from .network.discrete import threshold_of
from .network.graph import Network
from .network.nodes import Array
from .oneshot import DISTILL_SAMPLES, nothing_to_learn, row_gains, tuned
from .simulation.float import Peak

#: Largest potential in thresholds that is expected where no data says.
PEAK_WITHOUT_DATA = 32.0
#: Decay factors of real-valued neurons are not rounded: so fine a fraction that it does not matter.
REAL = 2**40


@dataclass(frozen=True, eq=False)
class Compressed:
    """A network on a chip's grid.

    network: canonical, its weights on the grid, in the model's own units. original: canonical, before compression.
    layers: by node of weights. units: by population. fmt and features: the chip's, from its profile.
    arithmetic: what its neurons compute with; where that is not public real numbers stand for it, and the chip's
    network is written but not emulated.
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
            {n: weight_format(self.profile, x.bits) for n, x in self.layers.items() if x.bits != self.fmt.bits})

    @property
    def bits(self) -> int | dict[str, int]:
        """Stored bits of all layers, or by layer where they differ ("*": of whatever else is stored)."""
        own = {escape(n): x.bits for n, x in self.layers.items() if x.bits and x.bits != self.fmt.bits}
        return {ALL: self.fmt.bits} | own if own else self.fmt.bits


def weight_format(profile: Profile, bits: int | None) -> WeightFormat:
    """The chip's weight format at `bits` stored bits (its default when None). Raises `Refused` for other bits."""
    weights = profile.weights
    allowed = weights.bits.value or []
    chosen = weights.default_bits.value if bits is None else bits
    if chosen not in allowed:
        raise refuse(f"{profile.name} stores no weights of {chosen} bits", fix=(
            f"Choose --bits among {', '.join(map(str, allowed))}" if allowed else "Its profile names no weight bits"))
    low, high = (weights.exponent.value if weights.exponent else None) or (0, 0)
    scale = weights.scale.value or "per-connection"
    magnitude = chosen if scale == "per-population" else weights.magnitude_bits.value or chosen
    beside = weights.mixed_range is not None and weights.mixed_range.value == "beside"
    return WeightFormat(
        chosen, (1 << chosen) - 1 if beside else Grid.levels(chosen), magnitude, weights.mixed_sign_bits.value or 0,
        low, high, scale, "beside" if beside else "mixed")


def arithmetic_of(profile: Profile) -> tuple[ChipArithmetic, tuple[str, ...]]:
    """What the chip computes with, and a sentence where that is not public."""
    if profile.formats is not None:
        return profile.arithmetic, ()
    return Unknown(), (f"the arithmetic of {profile.title} is not public: weights are put on its grid, neurons are "
                          "not emulated",)


@dataclass(eq=False)
class ChipGrids:
    """Grids that a chip grants: all connections into a population share a threshold, and so their steps.

    formats: by layer, where they are not `fmt`. units: by population, those granted last.
    """

    network: Network
    fmt: WeightFormat
    formats: Mapping[str, WeightFormat]
    arithmetic: ChipArithmetic
    into: dict[str, list[Connection]]
    peaks: dict[str, Peak]
    units: dict[str, Units] = field(default_factory=dict)

    free = False

    @property
    def per_row(self) -> bool:
        return self.fmt.scale == "per-channel"

    def bits(self, layer: str) -> int:
        return self.of(layer).bits

    def of(self, layer: str) -> WeightFormat:
        """How a layer's weights are stored."""
        return self.formats.get(layer, self.fmt)

    def grids(self, population: str, ends: Mapping[str, Array], sizes: Mapping[str, int]) -> dict[str, Grid]:
        wanted = {n: np.asarray(end.reshape(-1) if self.per_row else end.max()) / self.of(n).m_max
                  for n, end in ends.items()}
        gain = float(np.mean(_gain(self.network, population))) or 1.0  # of neurons that hear nothing any will do
        fixed = {c.name: gain for c in self.into[population] if not c.trained}
        asked = wanted | {name: np.asarray(value / self.fmt.m_max) for name, value in fixed.items()}
        self.units[population] = fit_units(
            asked, dict(sizes) | dict.fromkeys(fixed, 1), self.fmt, self.arithmetic,
            _peak(self.network, population, self.peaks), population, {n: self.of(n).lsb for n in ends})
        steps = self.units[population].steps
        return {n: Grid(np.asarray(steps[n]).reshape(-1, 1), self.of(n).m_max) for n in ends}


def statistics_for(
    network: Network, profile: Profile, spikes: np.ndarray | None, recipe: Recipe, *, device: str = "cpu",
    progress: Progress | None = None,
) -> Statistics:
    """Statistics of the network as a chip's neurons are, for several calls of `compress_for` with the same data."""
    there = on_chip(network, profile)[0]
    return Statistics(there, spikes, compressed_groups(there), recipe.how.membrane, MEMORY, device,
                      progress or (lambda stage, done, total: None))


def on_chip(network: Network, profile: Profile) -> tuple[Network, tuple[str, ...]]:
    """The canonical network with conventions and neurons that a chip has, and a sentence for each change."""
    return expressible(canonical(network), features(profile), arithmetic_of(profile)[0], profile.title)


def compress_for(
    network: Network, profile: Profile, spikes: np.ndarray | None, recipe: Recipe | None = None, *,
    bits: int | Mapping[str, int] | None = None, device: str = "cpu", statistics: Statistics | None = None,
    progress: Progress | None = None,
) -> Compressed:
    """The network on the chip's grid.

    spikes: calibration data (samples, timesteps, *input shape); None allows only methods magnitude and rtn.
    recipe: its grid is the chip's. bits: instead of the recipe's, of all layers or by patterns of their names; without
    either, the chip's default. statistics: of `statistics_for` the same network, chip and data, where there are some
    already.
    Raises `Refused` for bits, methods or networks that the chip has no form for.
    """
    base, by_layer = split(bits)
    fmt = weight_format(profile, recipe.bits if base is None and recipe is not None else base)
    recipe = recipe_of(recipe, bits={ALL: fmt.bits} | by_layer,
                       grid={"levels": "pairs" if fmt.sign == "beside" else "symmetric"})
    original = canonical(network)
    arithmetic, unknown = arithmetic_of(profile)
    if statistics is None:
        statistics = statistics_for(network, profile, spikes, recipe, device=device, progress=progress)
    network, said = statistics.network, on_chip(network, profile)[1]
    found = connections(network)
    into = {p: [c for c in found if c.target == p] for p in network.populations}
    tell = progress or (lambda stage, done, total: None)
    groups = compressed_groups(network)
    calibration = statistics.of(groups[0]) if groups else None
    formats = {n: weight_format(profile, b) for group in groups for n in group
               if (b := recipe.of(n).bits) not in (None, fmt.bits)}
    grids = ChipGrids(network, fmt, formats, arithmetic, into, {} if calibration is None else calibration.peaks)
    walked = compress_layers(network, row_gains(network), spikes, recipe, grids, decays=_decays(network, arithmetic),
                             statistics=statistics, device=device, progress=tell)
    for population in network.populations:  # those that only fixed connections feed
        if population not in grids.units and into[population]:
            grids.grids(population, {}, {})
    return Compressed(original, walked.network, walked.layers, grids.units, fmt, features(profile), profile,
                      arithmetic, recipe, unknown + said + walked.notes)


def learned(made: Compressed, spikes: np.ndarray, progress: Progress | None = None) -> Compressed:
    """A pruned network whose weights have learned the original's outputs on the calibration data, on the chip's grid.

    What is zero stays zero, so what fits still fits. The network itself where its recipe asks for no such epochs, the
    data are too few, or nearly all classes stayed (`oneshot.nothing_to_learn`).
    """
    epochs = made.recipe.distilled
    if not epochs or len(spikes) < DISTILL_SAMPLES:
        return made
    if left_out := nothing_to_learn(made.network, made.original, spikes, made.recipe):
        return replace(made, notes=(*made.notes, *left_out))
    from .compression.finetune import Constraint

    constraints = {name: replace(Constraint.of(layer), mask=layer.weight != 0) for name, layer in made.layers.items()}
    network, layers, said = tuned(made.network, made.layers, constraints, spikes, None, made.original, epochs, 0,
                                  progress, "learning")
    return replace(made, network=network, layers=layers, notes=(*made.notes, *said))


def expressible(
    network: Network, chip: Features, arithmetic: ChipArithmetic, title: str
) -> tuple[Network, tuple[str, ...]]:
    """The network with conventions and neurons that the chip has, and a sentence for each change."""
    network, said = with_conventions(network, chip, title)
    network = replace(network, conventions=replace(network.conventions, weights="float"))  # they are on the grid now
    if not isinstance(arithmetic, Analog):
        return network, said
    network, more = on_circuits(network, arithmetic)
    return network, (*said, *more)


def _gain(network: Network, population: str) -> Array:
    node = network.nodes[population]
    return gains(node, step_of(node, network.conventions), network.conventions)


def _peak(network: Network, population: str, peaks: Mapping[str, Peak]) -> float:
    """Largest potential of a population in thresholds, as calibration saw it."""
    step = step_of(network.nodes[population], network.conventions)
    if population not in peaks or step is None:
        return PEAK_WITHOUT_DATA
    seen = peaks[population]
    return max(seen.v, seen.u) / float(np.min(np.abs(threshold_of(step))))


def _decays(network: Network, arithmetic: ChipArithmetic) -> dict[str, Decay]:
    """Decay factors of each population as the chip rounds them (the mean, where neurons differ)."""
    unity = 2**arithmetic.decay_bits if isinstance(arithmetic, Arithmetic) else REAL
    found = {}
    for name in network.populations:
        step = step_of(network.nodes[name], network.conventions)
        if step is not None:
            alpha = None
            if step.alpha is not None:
                alpha = 1 - max(1.0, float(np.rint(unity * (1 - float(np.mean(step.alpha)))))) / unity
            found[name] = Decay(alpha, 1 - float(np.rint(unity * (1 - float(np.mean(step.beta))))) / unity)
    return found
