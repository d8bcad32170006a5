"""Compression for one chip: what the profile allows, asked for and granted layer by layer.

This is where compression (which knows no chip) and a chip's number formats (which know no compression) meet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..by_layer import ALL, split
from ..chip.arithmetic import Analog, Arithmetic, Unknown
from ..chip.on_chip.analog_circuits import on_circuits
from ..chip.on_chip.reach import Reach, overlap, reach
from ..chip.on_chip.units import Units, WeightFormat, fit_units, weight_format
from ..chip.profile.features import Features, features, with_conventions
from ..chip.profile.load import Profile
from ..chip.profile.number_formats import ChipArithmetic
from ..compression.compressed_layer import weights_of
from ..compression.layerwise.calibrate import Statistics
from ..compression.layerwise.grid_search import Granted
from ..compression.layerwise.spike_matching import Decay
from ..compression.layerwise.walk import compress
from ..compression.model import MEMORY
from ..compression.network_model import NetworkModel, compressed_groups
from ..compression.oneshot import nothing_to_learn, row_gains, tuned
from ..compression.recipe import Recipe, recipe_of
from ..data.calibration import CalibrationSet
from ..fit.check import plan_of, refuse_unbuildable
from ..network.chip_form import chip_form
from ..network.connections import Connection, connections
from ..network.discrete import threshold_of
from ..network.drive import step_of
from ..network.graph import Network
from ..network.grid import Grid
from ..network.nodes import Array
from ..progress import Progress
from ..simulation.float import Peak
from .compressed import Compressed

#: Largest potential in thresholds that is expected where no data says.
PEAK_WITHOUT_DATA = 32.0
#: Decay factors of real-valued neurons are not rounded: so fine a fraction that it does not matter.
REAL = 2**40
#: A grid with a smaller share of its levels in use is worth a sentence.
COARSE = 0.4


def arithmetic_of(profile: Profile) -> tuple[ChipArithmetic, tuple[str, ...]]:
    """What the chip computes with, and a sentence where that is not public."""
    if profile.formats is not None:
        return profile.arithmetic, ()
    return Unknown(), (f"the arithmetic of {profile.title} is not public: weights are put on its grid, neurons are "
                          "not emulated",)


@dataclass(frozen=True, eq=False)
class Choice:
    """What a population's grids stand on. units: of the chip. shares: by layer of weights or
    fixed connection, the step asked for as a share of the one granted."""

    units: Units
    shares: dict[str, float]


@dataclass(frozen=True, eq=False)
class ChipGrids:
    """Grids that a chip grants: all connections into a population share a threshold, and so their steps.

    formats: by layer, where they are not `fmt`. into: connections by the population they lead to; reaches: what these
    ask of its thresholds.
    """

    network: Network
    fmt: WeightFormat
    formats: Mapping[str, WeightFormat]
    arithmetic: ChipArithmetic
    into: Mapping[str, list[Connection]]
    reaches: Mapping[str, Reach]

    free = False

    @classmethod
    def of(cls, network: Network, fmt: WeightFormat, formats: Mapping[str, WeightFormat], arithmetic: ChipArithmetic
           ) -> ChipGrids:
        into: dict[str, list[Connection]] = {p: [] for p in network.populations}
        for connection in connections(network):
            into[connection.target].append(connection)
        reaches = {p: reach(network.nodes[p], found, network.shapes[p], network.conventions)
                   for p, found in into.items() if found}
        return cls(network, fmt, formats, arithmetic, into, reaches)

    @property
    def per_row(self) -> bool:
        return self.fmt.scale == "per-channel"

    def bits(self, layer: str) -> int:
        return self.format_of(layer).bits

    def format_of(self, layer: str) -> WeightFormat:
        """How a layer's weights are stored."""
        return self.formats.get(layer, self.fmt)

    def grids(
        self, population: str, ends: Mapping[str, Array], sizes: Mapping[str, int], peak: Peak | None = None
    ) -> Granted:
        if not self.into[population]:
            return Granted({})
        m_max: dict[str, int] = {}
        for c in self.into[population]:
            m_max[c.layer] = min(self._m_max(c), m_max.get(c.layer, self.format_of(c.layer).m_max))
        wanted = {n: np.asarray(e.reshape(-1) if self.per_row else e.max()) / m_max[n] for n, e in ends.items()}
        found = self.reaches[population]
        fixed = {c.name: found.weights[c.name] for c in self.into[population] if not c.trained}
        asked = wanted | {name: np.asarray((value or 1.0) / self.fmt.m_max) for name, value in fixed.items()}
        largest = _peak(self.network, population, peak)
        if not found.spiking and (not largest or peak is None):
            largest = PEAK_WITHOUT_DATA * max(self.fmt.m_max * float(np.max(step)) for step in asked.values())
        most = found.most(self.arithmetic, largest) if isinstance(self.arithmetic, Arithmetic) else 1.0
        units = fit_units(
            asked, dict(sizes) | dict.fromkeys(fixed, 1), self.fmt, self.arithmetic, most, bool(fixed),
            {n: self.format_of(n).lsb for n in ends}, not found.spiking)
        shares = {n: float(np.max(asked[n] / units.steps[n])) for n in asked}
        return Granted({n: Grid(np.asarray(units.steps[n]).reshape(-1, 1), m_max[n]) for n in ends},
                       Choice(units, shares))

    def _m_max(self, c: Connection) -> int:
        """The largest integer of a connection's own weights: where windows of a pool overlap a synapse stores the sum
        of several, each of which may be half a step off."""
        most = self.format_of(c.layer).m_max
        times = overlap(c, weights_of(self.network, c.layer).weight) if c.trained and c.repeats > 1 else 1.0
        return most if times == 1 else max(1, int((most - (np.ceil(times) + 1) / 2) / times))

    def notes(self, choices: Mapping[str, Choice]) -> tuple[str, ...]:
        """Sentences on grids that are much coarser than asked for, or end below the largest weight. choices: by
        population."""
        said = []
        for population, choice in choices.items():
            for name, share in choice.shares.items():
                most = self.format_of(name).m_max
                if share < COARSE:
                    said.append(f"'{name}': its weights are small beside the thresholds of '{population}', and take "
                                f"{max(0, int(share * most))} of {most} steps on either side of 0")
                if share > 1 + 1 / most:
                    said.append(f"'{name}': its weights reach {share:.3g} times as far as the chip's largest beside "
                                f"the thresholds of '{population}', and end there")
        return tuple(said)


def statistics_for(
    network: Network, profile: Profile, spikes: np.ndarray | None, recipe: Recipe, *, device: str = "cpu"
) -> Statistics:
    """Statistics of the network as a chip's neurons are, for several calls of `compress_for` with the same data."""
    return _statistics(on_chip(network, profile)[0], spikes, recipe, device)


def _statistics(there: Network, spikes: np.ndarray | None, recipe: Recipe, device: str) -> Statistics:
    return Statistics(NetworkModel(there, row_gains(there), spikes, device), recipe.how.membrane, MEMORY)


def for_rules(network: Network, profile: Profile) -> Network:
    """The network with conventions that the chip has and its own neurons: what `check` holds against the rules."""
    return with_conventions(network, features(profile), profile.title)[0]


def on_chip(network: Network, profile: Profile) -> tuple[Network, tuple[str, ...]]:
    """The network in `chip_form` with conventions and neurons that a chip has, and a sentence for each change."""
    return expressible(chip_form(network), features(profile), arithmetic_of(profile)[0], profile.title)


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
    original = chip_form(network)
    arithmetic, unknown = arithmetic_of(profile)
    there, said = expressible(original, features(profile), arithmetic, profile.title)
    if statistics is None:
        refuse_unbuildable(plan_of(for_rules(network, profile), profile, {ALL: fmt.bits} | by_layer))
        statistics = _statistics(there, spikes, recipe, device)
    formats = {n: weight_format(profile, b) for group in compressed_groups(there) for n in group
               if (b := recipe.of(n).bits) not in (None, fmt.bits)}
    grids = ChipGrids.of(there, fmt, formats, arithmetic)
    walked = compress(statistics.model, recipe, grids, decays=_decays(there, arithmetic), statistics=statistics,
                      progress=progress)
    choices = {p: found.choice for p, found in walked.granted.items() if isinstance(found.choice, Choice)}
    return Compressed(original, statistics.model.result(walked.layers), walked.layers,
                      {p: choice.units for p, choice in choices.items()}, fmt, features(profile), profile,
                      arithmetic, recipe, unknown + said + walked.notes + grids.notes(choices))


def learned(made: Compressed, data: CalibrationSet, progress: Progress | None = None) -> Compressed:
    """A pruned network whose weights have learned the original's outputs on the calibration data, on the chip's grid.

    data: what it was compressed with. What is zero stays zero, so what fits still fits. The network itself where its
    recipe asks for no such epochs, no samples judge, or nearly all classes stayed
    (`compression.oneshot.nothing_to_learn`).
    """
    epochs = made.recipe.distilled
    if not epochs or not data.judged:
        return made
    if left_out := nothing_to_learn(made.whole, made.whole_original, data.spikes, made.recipe):
        return replace(made, notes=(*made.notes, *left_out))
    from ..compression.finetuning.finetune import Constraint

    constraints = {name: replace(Constraint.of(layer), mask=layer.weight != 0) for name, layer in made.layers.items()}
    found, layers, said = tuned(made.whole, made.layers, constraints, replace(data, labels=None), made.whole_original,
                                epochs, 0, progress, "learning")
    network = made.network.with_nodes({name: found.nodes[name] for name in layers})
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


def _peak(network: Network, population: str, peak: Peak | None) -> float:
    """Largest potential of a population in thresholds, as calibration saw it."""
    step = step_of(network.nodes[population], network.conventions)
    if peak is None or step is None:
        return PEAK_WITHOUT_DATA
    return max(peak.v, peak.u) / float(np.min(np.abs(threshold_of(step))))


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
