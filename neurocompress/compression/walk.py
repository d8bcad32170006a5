"""One shot over a whole network: statistics, allocation, then population after population."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from glob import escape

import numpy as np

from ..errors import refuse
from ..network.graph import Network
from ..network.nodes import Array, Conv
from ..progress import Progress, silent
from .allocate import amplification, by_curves, kept, lamp, temporal_lamp, uniform, within_budget
from .calibrate import Calibration, Group, calibrate, hessian_bytes
from .checkpoint import Checkpoint
from .curves import loss_curves, options
from .layer import CompressedLayer, weights_of, with_layers
from .layerwise import compress_population
from .module import Module, modules
from .onto_grid import Grids
from .recipe import LayerRecipe, Recipe
from .refine import Decay

#: Bytes for Hessians and for the rows of the OBS ordering, each, where no budget is stated.
MEMORY = 2**31

#: Calibration rows (samples x time steps x windows) for each input of a layer below which a fallback is reported.
ROWS_PER_INPUT = 1.0


@dataclass(frozen=True, eq=False)
class Walked:
    """network: with the compressed weights. layers: by node of weights. notes: sentences on every fallback."""

    network: Network
    layers: dict[str, CompressedLayer]
    notes: tuple[str, ...]


class Statistics:
    """Calibration of the original network, as many layers at a time as their Hessians fit into `memory` bytes."""

    def __init__(self, network: Network, spikes: np.ndarray | None, groups: list[Group], membrane: bool, memory: int,
                 device: str, progress: Progress):
        self.network, self.spikes, self.membrane, self.device = network, spikes, membrane, device
        self.progress = progress
        self.chunks: list[list[Group]] = []
        used = memory
        for group in groups:
            size = hessian_bytes(network, group)
            if used + size > memory:
                self.chunks.append([])
                used = 0
            self.chunks[-1].append(group)
            used += size
        self._found: tuple[list[Group], Calibration] | None = None

    def of(self, group: Group) -> Calibration | None:
        """Statistics that hold this group; None without data."""
        if self.spikes is None:
            return None
        if self._found is None or group not in self._found[0]:
            chunk = next(c for c in self.chunks if group in c)
            total = len(self.spikes)
            self._found = None  # make room first
            self._found = chunk, calibrate(
                self.network, self.spikes, membrane=self.membrane, groups=chunk, device=self.device,
                progress=lambda done: self.progress("calibrating", done, total))
        return self._found[1]


def compress_layers(
    network: Network, row_gains: dict[str, Array], spikes: np.ndarray | None, recipe: Recipe, grids: Grids, *,
    decays: Mapping[str, Decay] | None = None, statistics: Statistics | None = None, device: str = "cpu",
    memory: int = MEMORY, checkpoint: Checkpoint | None = None, progress: Progress | None = None,
) -> Walked:
    """Every Linear and Conv node that feeds neurons, as the recipe says, on the grids that `grids` grants.

    network: at most one node of weights on each path between populations. row_gains: by layer, thresholds per unit
    of input for each row (neuron or channel), float64 (rows,). decays: by population, the factors that a chip will
    really use; with them small layers are refined. checkpoint: finished populations are taken from it and put there.
    """
    tell = progress or silent
    recipe.check([n for m in modules(network, row_gains) for n in m.layers])
    every = modules(network, row_gains, lambda name: recipe.of(name).keep)
    names = [n for m in every for n in m.layers]
    if spikes is None and recipe.how.compensate:
        raise refuse(f"method '{recipe.method}' needs calibration data",
                     fix="Give --data, or use --method magnitude or rtn")
    statistics = statistics or Statistics(
        network, spikes, [m.group for m in every], recipe.how.membrane, memory, device, tell)
    keep = kept_in_layers(every, statistics, recipe, memory)
    done: dict[str, CompressedLayer] = {}
    current = network
    populations = list(dict.fromkeys(m.population for m in every))
    for place, population in enumerate(populations):
        tell("compressing", place, len(populations))
        into = [m for m in every if m.population == population]
        layers = checkpoint.get(population) if checkpoint else None
        if layers is None:
            layers = compress_population(
                current, network, into, keep, spikes, statistics.of(into[0].group), recipe, grids,
                decay=(decays or {}).get(population), device=device, memory=memory,
                progress=partial(_ordered, tell, population, len(into[0].weight)))
            if checkpoint:
                checkpoint.put(population, layers)
        done |= layers
        current = with_layers(network, done)
    assert set(done) == set(names)
    return Walked(current, done, fallbacks(network, done, every, spikes, recipe))


def _ordered(tell: Progress, population: str, rows: int, done: int) -> None:
    tell(f"ordering the weights into '{population}'", done, rows)


def kept_in_layers(every: list[Module], statistics: Statistics, recipe: Recipe, memory: int) -> dict[str, int]:
    """Weights that stay in each layer."""
    weights = {n: w.numpy() for m in every for n, w in m.split(m.weight).items()}
    own = {n: s for n in weights if (s := recipe.of(n).sparsity) is not None}
    out = {n: kept({n: weights[n].size}, s) for n, s in own.items()}
    shared = {n: w for n, w in weights.items() if n not in own}
    if not recipe.sparsity or not shared:
        return out | {n: w.size for n, w in shared.items()}
    kind = recipe.shared_out
    if kind == "uniform":
        return out | uniform({n: w.size for n, w in shared.items()}, recipe.sparsity)
    if kind == "lamp":
        return out | lamp(shared, recipe.sparsity)
    if kind == "temporal-lamp":
        factors: dict[str, float] = {}
        for module in every:
            found = statistics.of(module.group)
            if found is None:
                raise refuse("allocation 'temporal-lamp' needs calibration data", fix="Give --data")
            factors |= dict.fromkeys(module.layers, amplification(*found.energies[module.group]))
        return out | temporal_lamp(shared, factors, recipe.sparsity)
    curves = {}
    for module in every:
        if not all(n in shared for n in module.layers):  # a curve is of all layers of a module
            out |= uniform({n: shared[n].size for n in module.layers if n in shared}, recipe.sparsity)
            continue
        found = statistics.of(module.group)
        if found is None:
            raise refuse("allocation 'loss' needs calibration data", fix="Give --data")
        hessian = module.of_hessian(found.hessians[module.group])
        curves[module.layers] = loss_curves(module, hessian, recipe, memory)
    if not curves:
        return out
    return out | by_curves(curves, kept({n: shared[n].size for m in curves for n in m}, recipe.sparsity))


def planned(
    network: Network, row_gains: dict[str, Array], statistics: Statistics, recipe: Recipe, memory: int = MEMORY
) -> Recipe:
    """The recipe with the bits and the sparsity of each layer that lose least within its byte budget; itself where it
    has none."""
    recipe.check([n for m in modules(network, row_gains) for n in m.layers])
    every = modules(network, row_gains, lambda name: recipe.of(name).keep)
    if recipe.budget is None:
        return recipe
    found, what, curves = {}, {}, {}
    for module in every:
        calibration, name = statistics.of(module.group), module.layers[0]
        if calibration is None:
            raise refuse("a byte budget is shared out by loss, which needs calibration data", fix="Give --data")
        hessian = module.of_hessian(calibration.hessians[module.group])
        curves[name] = loss_curves(module, hessian, recipe, memory)
        found[name], what[name] = options(module, curves[name], hessian, recipe)
    chosen = within_budget(found, recipe.budget)
    if chosen is None:
        least = sum(min(o.bytes for o in group) for group in found.values())
        raise refuse(f"the budget of {recipe.budget} bytes can not be met: the least is about {least} bytes",
                     fix="Raise the budget, or allow fewer bits")
    layers = list(recipe.layers)
    for module in every:
        bits, keep = what[module.layers[0]][chosen[module.layers[0]]]
        curve = curves[module.layers[0]]
        at = int(np.flatnonzero(curve.keep == keep)[0])
        layers += [LayerRecipe(match=escape(n), bits=bits, sparsity=1.0 - curve.layers[n][at] / curve.layers[n][0])
                   for n in module.layers]
    return recipe.model_copy(update={"layers": tuple(layers), "budget": None})


def fallbacks(
    network: Network, layers: Mapping[str, CompressedLayer], every: list[Module], spikes: np.ndarray | None,
    recipe: Recipe,
) -> tuple[str, ...]:
    """What did not go as asked, one sentence each."""
    notes = []
    hears = {n: m.hears for m in every for n in m.layers}
    for name, layer in layers.items():
        node, heard = weights_of(network, name), hears[name]
        if not heard.all():
            notes.append(f"layer '{name}': {np.count_nonzero(~heard)} of its {len(heard)} rows lead to neurons that "
                         "take no input (r or w_in is 0), so their weights changed nothing and are zero now")
        windows = int(np.prod(network.shapes[name][1:])) if isinstance(node, Conv) else 1
        inputs = int(np.prod(layer.mask.shape[1:]))
        if spikes is not None and recipe.how.compensate:
            rows = len(spikes) * spikes.shape[1] * windows
            if rows < ROWS_PER_INPUT * inputs:
                notes.append(f"layer '{name}' has {inputs} inputs and only {rows} calibration rows (samples x time "
                             "steps x windows): its Hessian rests on damping; give more samples")
            if layer.dead_inputs:
                went = "rounded to the nearest" if layer.mask[heard].all() else "the first to go"
                notes.append(f"layer '{name}': {layer.dead_inputs} of its inputs never spiked in calibration; their "
                             f"weights were {went}")
            if layer.damping > recipe.damping:
                notes.append(f"layer '{name}': its Hessian could not be inverted with damping {recipe.damping:g}; "
                             f"{layer.damping:g} was used")
        if heard.any() and not np.any(layer.weight):
            notes.append(f"layer '{name}' has become all zero: raise --bits or lower --sparsity")
        empty, before = (int((~w.reshape(len(w), -1).any(axis=1) & heard).sum()) for w in (layer.weight, node.weight))
        if empty > before:
            notes.append(f"layer '{name}': no weight is left in {empty - before} of its {len(layer.weight)} rows")
    return tuple(notes)
