"""Compression for one chip: what the profile allows, asked for and granted layer by layer.

This is where compression (which knows no chip) and a chip's number formats (which know no compression) meet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from .chip.build import Features, build, row_gain, step_of
from .chip.integer import IntegerNetwork
from .chip.profile import Profile
from .chip.units import Units, WeightFormat, fit_units, gains
from .compression.calibrate import Calibration, calibrate, population_of
from .compression.layerwise import CompressedLayer, compress_layers
from .compression.refine import Decay
from .errors import refuse
from .grid import Grid
from .network.canonical import canonical
from .network.connections import connections
from .network.discrete import threshold_of
from .network.graph import Network
from .network.nodes import WEIGHTED, Array, Node

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
    method: str
    sparsity: float
    notes: tuple[str, ...]

    @cached_property
    def integer(self) -> IntegerNetwork:
        return self.integer_network()

    def integer_network(self, input_bits: int = 0) -> IntegerNetwork:
        """The network in the chip's integers. Raises `Refused` for everything the chip can not hold."""
        return build(
            self.network, {name: layer.m for name, layer in self.layers.items()}, self.units, self.fmt,
            self.profile.arithmetic, self.features, input_bits)


def weight_format(profile: Profile, bits: int | None) -> WeightFormat:
    """The chip's weight format at `bits` stored bits (its default when None). Raises `Refused` for other bits."""
    weights = profile.weights
    allowed = weights.bits.value or []
    chosen = weights.default_bits.value if bits is None else bits
    if chosen not in allowed:
        raise refuse(f"{profile.name} stores no weights of {chosen} bits", fix=(
            f"Choose --bits among {', '.join(map(str, allowed))}" if allowed else "Its profile names no weight bits"))
    low, high = weights.exponent.value or (0, 0)
    return WeightFormat(chosen, weights.magnitude_bits.value or chosen, weights.mixed_sign_bits.value or 0, low, high,
                        weights.scale.value or "per-connection")


def features(profile: Profile) -> Features:
    graded, delay = profile.neurons.graded_spikes.value, profile.neurons.delay_max.value
    return Features(graded or 0, delay or 0)


def compress_for(
    network: Network, profile: Profile, spikes: np.ndarray | None, *,
    method: str = "sbc", bits: int | None = None, sparsity: float = 0.0, seed: int = 0, device: str = "cpu",
    calibrated: Callable[[int], None] | None = None, layer: Callable[[str], None] | None = None,
) -> Compressed:
    """The network on the chip's grid.

    spikes: calibration data (samples, timesteps, *input shape); None allows only method "rtn".
    calibrated is told the samples done, layer the population about to be compressed.
    Raises `Refused` for bits, methods or networks that the chip has no form for.
    """
    if not 0.0 <= sparsity < 1.0:
        raise refuse(f"sparsity {sparsity} is not a share of zeros", fix="Give a number from 0 up to, but not, 1")
    fmt = weight_format(profile, bits)
    original = canonical(network)
    network, said = expressible(original, features(profile), profile.title)
    found = connections(network)
    calibration = None
    if spikes is not None:
        calibration = calibrate(network, spikes, membrane=method == "sbc", device=device, progress=calibrated)
    into = {p: [c for c in found if c.target == p] for p in network.populations}
    row_gains: dict[str, Array] = {}
    for name, node in network.nodes.items():
        if isinstance(node, WEIGHTED) and population_of(network, name) != network.output:
            population = population_of(network, name)
            gain = _gain(network, population)
            shape = network.shapes[population]
            rows = row_gain(np.broadcast_to(gain, shape), into[population], shape)
            row_gains[name] = np.array(np.broadcast_to(rows, (len(node.weight),)), dtype=np.float64)
    units: dict[str, Units] = {}

    def fit(population: str, wanted: dict[str, Array], sizes: dict[str, int]) -> dict[str, Array]:
        fixed = {c.name: float(np.mean(_gain(network, population))) for c in into[population] if not c.trained}
        asked = wanted | {name: np.asarray(value / Grid.levels(fmt.bits)) for name, value in fixed.items()}
        units[population] = fit_units(asked, sizes | dict.fromkeys(fixed, 1), fmt, profile.arithmetic,
                                      _peak(network, population, calibration), population)
        return units[population].steps

    layers = compress_layers(
        network, row_gains, _decays(network, profile), calibration, fit,
        method=method, bits=fmt.bits, sparsity=sparsity, per_channel=fmt.scale == "per-channel", progress=layer)
    for population in network.populations:  # those that only fixed connections feed
        if population not in units and into[population]:
            fit(population, {}, {})
    changed: dict[str, Node] = {
        name: replace(node, weight=_as(node.weight, layers[name].weight), bias=layers[name].bias)
        for name, node in network.nodes.items() if isinstance(node, WEIGHTED) and name in layers
    }
    return Compressed(original, network.with_nodes(changed), layers, units, fmt, features(profile), profile,
                      method, sparsity, said + _fallbacks(layers))


def expressible(network: Network, chip: Features, title: str) -> tuple[Network, tuple[str, ...]]:
    """The network under conventions that the chip's neurons have, and a sentence for each that was changed."""
    if network.conventions.spikes_per_step == "many" and not chip.graded_bits:
        one = replace(network.conventions, spikes_per_step="one")
        said = (f"{title} sends at most one spike per neuron and step: neurons that sent several in a step "
                "now send one, and the rest in later steps where they reset by subtraction")
        return replace(network, conventions=one), (said,)
    return network, ()


def _as(original: np.ndarray, weight: Array) -> Array:
    return weight.astype(original.dtype) if original.dtype.kind == "f" else weight


def _gain(network: Network, population: str) -> Array:
    node = network.nodes[population]
    return gains(node, step_of(node, network.conventions), network.conventions)


def _peak(network: Network, population: str, calibration: Calibration | None) -> float:
    """Largest potential of a population in thresholds, as calibration saw it."""
    step = step_of(network.nodes[population], network.conventions)
    if calibration is None or population not in calibration.peaks or step is None:
        return PEAK_WITHOUT_DATA
    seen = calibration.peaks[population]
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


def _fallbacks(layers: dict[str, CompressedLayer]) -> tuple[str, ...]:
    notes = []
    for name, layer in layers.items():
        if not np.any(layer.m):
            notes.append(f"layer '{name}' has become all zero: raise --bits or lower --sparsity")
    return tuple(notes)
