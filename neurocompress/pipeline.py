"""Compression for one chip: what the profile allows, asked for and granted layer by layer.

This is where compression (which knows no chip) and a chip's number formats (which know no compression) meet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from .chip.build import Features, build, step_of
from .chip.integer import Arithmetic, IntegerNetwork
from .chip.profile import Profile
from .chip.units import Units, WeightFormat, fit_units, gains
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
from .oneshot import row_gains
from .simulation.float import Peak

#: Largest potential in thresholds that is expected where no data says.
PEAK_WITHOUT_DATA = 32.0


@dataclass(frozen=True, eq=False)
class Compressed:
    """A network on a chip's grid.

    network: canonical, its weights on the grid, in the model's own units. original: canonical, before compression.
    layers: by node of weights. units: by population. fmt and features: the chip's, from its profile.
    """

    original: Network
    network: Network
    layers: dict[str, CompressedLayer]
    units: dict[str, Units]
    fmt: WeightFormat
    features: Features
    profile: Profile
    recipe: Recipe
    notes: tuple[str, ...]

    @cached_property
    def integer(self) -> IntegerNetwork:
        return self.integer_network()

    def integer_network(self, input_bits: int = 0) -> IntegerNetwork:
        """The network in the chip's integers. Raises `Refused` for everything the chip can not hold."""
        return build(
            self.network, {n: layer.m for n, layer in self.layers.items() if layer.m is not None}, self.units, self.fmt,
            self.profile.arithmetic, self.features, input_bits)


def weight_format(profile: Profile, bits: int | None) -> WeightFormat:
    """The chip's weight format at `bits` stored bits (its default when None). Raises `Refused` for other bits."""
    weights = profile.weights
    allowed = weights.bits.value or []
    chosen = weights.default_bits.value if bits is None else bits
    if chosen not in allowed:
        raise refuse(f"{profile.name} stores no weights of {chosen} bits", fix=(
            f"Choose --bits among {', '.join(map(str, allowed))}" if allowed else "Its profile names no weight bits"))
    low, high = (weights.exponent.value if weights.exponent else None) or (0, 0)
    return WeightFormat(chosen, weights.magnitude_bits.value or chosen, weights.mixed_sign_bits.value or 0, low, high,
                        weights.scale.value or "per-connection")


def features(profile: Profile) -> Features:
    graded, delay = profile.neurons.graded_spikes.value, profile.neurons.delay_max.value
    return Features(graded or 0, delay or 0)


@dataclass(eq=False)
class ChipGrids:
    """Grids that a chip grants: all connections into a population share a threshold, and so their steps.

    units: by population, those granted last.
    """

    network: Network
    fmt: WeightFormat
    arithmetic: Arithmetic
    into: dict[str, list[Connection]]
    peaks: dict[str, Peak]
    units: dict[str, Units] = field(default_factory=dict)

    free = False

    @property
    def per_row(self) -> bool:
        return self.fmt.scale == "per-channel"

    def bits(self, layer: str) -> int:
        return self.fmt.bits

    def grids(self, population: str, ends: Mapping[str, Array], sizes: Mapping[str, int]) -> dict[str, Grid]:
        m_max = Grid.levels(self.fmt.bits)
        wanted = {n: np.asarray(end.reshape(-1) if self.per_row else end.max()) / m_max for n, end in ends.items()}
        gain = float(np.mean(_gain(self.network, population)))
        fixed = {c.name: gain for c in self.into[population] if not c.trained}
        asked = wanted | {name: np.asarray(value / m_max) for name, value in fixed.items()}
        self.units[population] = fit_units(
            asked, dict(sizes) | dict.fromkeys(fixed, 1), self.fmt, self.arithmetic,
            _peak(self.network, population, self.peaks), population)
        steps = self.units[population].steps
        return {n: Grid(np.asarray(steps[n]).reshape(-1, 1), m_max) for n in ends}


def compress_for(
    network: Network, profile: Profile, spikes: np.ndarray | None, recipe: Recipe | None = None, *,
    bits: int | None = None, device: str = "cpu", progress: Progress | None = None,
) -> Compressed:
    """The network on the chip's grid.

    spikes: calibration data (samples, timesteps, *input shape); None allows only methods magnitude and rtn.
    recipe: its grid is the chip's. bits: instead of the recipe's; without either, the chip's default.
    Raises `Refused` for bits, methods or networks that the chip has no form for.
    """
    fmt = weight_format(profile, recipe.bits if bits is None and recipe is not None else bits)
    recipe = recipe_of(recipe, bits=fmt.bits, grid={"levels": "symmetric"})
    original = canonical(network)
    network, said = expressible(original, features(profile), profile.title)
    found = connections(network)
    into = {p: [c for c in found if c.target == p] for p in network.populations}
    tell = progress or (lambda stage, done, total: None)
    groups = compressed_groups(network)
    statistics = Statistics(network, spikes, groups, recipe.how.membrane, MEMORY, device, tell)
    calibration = statistics.of(groups[0]) if groups else None
    grids = ChipGrids(network, fmt, profile.arithmetic, into, {} if calibration is None else calibration.peaks)
    walked = compress_layers(network, row_gains(network), spikes, recipe, grids, decays=_decays(network, profile),
                             statistics=statistics, device=device, progress=tell)
    for population in network.populations:  # those that only fixed connections feed
        if population not in grids.units and into[population]:
            grids.grids(population, {}, {})
    return Compressed(original, walked.network, walked.layers, grids.units, fmt, features(profile), profile,
                      recipe, said + walked.notes)


def expressible(network: Network, chip: Features, title: str) -> tuple[Network, tuple[str, ...]]:
    """The network under conventions that the chip's neurons have, and a sentence for each that was changed."""
    if network.conventions.spikes_per_step == "many" and not chip.graded_bits:
        one = replace(network.conventions, spikes_per_step="one")
        said = (f"{title} sends at most one spike per neuron and step: neurons that sent several in a step "
                "now send one, and the rest in later steps where they reset by subtraction")
        return replace(network, conventions=one), (said,)
    return network, ()


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


def _decays(network: Network, profile: Profile) -> dict[str, Decay]:
    """Decay factors of each population as the chip rounds them (the mean, where neurons differ)."""
    unity = 2**profile.arithmetic.decay_bits
    found = {}
    for name in network.populations:
        step = step_of(network.nodes[name], network.conventions)
        if step is not None:
            alpha = None
            if step.alpha is not None:
                alpha = 1 - max(1.0, float(np.rint(unity * (1 - float(np.mean(step.alpha)))))) / unity
            found[name] = Decay(alpha, 1 - float(np.rint(unity * (1 - float(np.mean(step.beta))))) / unity)
    return found
