"""One shot over a whole model: allocation, then stage after stage, once through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from glob import escape

import numpy as np

from ...errors import refuse
from ...progress import Progress, silent
from ..compressed_layer import CompressedLayer
from ..maths.allocate import amplification, by_curves, kept, lamp, temporal_lamp, uniform, within_budget
from ..model import MEMORY, Model, Stage
from ..recipe import LayerRecipe, Recipe
from .calibrate import Statistics
from .checkpoint import Checkpoint
from .grid_search import Granted, Grids
from .loss_curves import loss_curves, options
from .population import Around, compress_stage
from .spike_matching import Decay

#: Calibration rows (samples x time steps x windows) for each input of a layer below which a fallback is reported.
ROWS_PER_INPUT = 1.0


@dataclass(frozen=True, eq=False)
class Walked:
    """layers: by name. granted: by population, the grids that its layers are on. notes: sentences on every fallback."""

    layers: dict[str, CompressedLayer]
    granted: dict[str, Granted]
    notes: tuple[str, ...]


def compress(
    model: Model, recipe: Recipe, grids: Grids, *, decays: Mapping[str, Decay] | None = None,
    statistics: Statistics | None = None, memory: int = MEMORY, checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
) -> Walked:
    """Every layer of a model as the recipe says, on the grids that `grids` grants, in one walk.

    decays: by population, the factors that a chip will really use; with them small layers are refined. statistics: of
    the same model, where several recipes are tried. memory: bytes for Hessians that are used again and, again, for the
    rows of the OBS ordering. checkpoint: finished populations are taken from it and put there.
    Raises `Refused` for a recipe that does not suit the model.
    """
    tell = progress or silent
    recipe.check(model.layers)
    stages = model.stages(frozenset(n for n in model.layers if recipe.of(n).keep))
    if not model.samples and recipe.how.compensate:
        raise refuse(f"method '{recipe.method}' needs calibration data",
                     fix="Give --data, or use --method magnitude or rtn")
    if statistics is None and model.samples:
        again = bool(recipe.sparsity) and recipe.shared_out not in ("uniform", "lamp")  # in the pass before
        statistics = Statistics(model, recipe.how.membrane, memory if again else 0)
    keep = kept_in_layers(stages, statistics, recipe, memory, tell)
    original = compressed = None
    if model.samples:
        original, compressed = model.stream(), model.stream()
    done: dict[str, CompressedLayer] = {}
    granted: dict[str, Granted] = {}
    for place, stage in enumerate(stages):
        around = None
        if statistics is not None and original is not None and compressed is not None:
            around = Around(statistics.of(stage, original, tell), statistics, original, compressed)
        tell("compressing", place, len(stages))
        if not stage.modules:
            peak = None if around is None else around.calibration.peak
            granted[stage.population] = grids.grids(stage.population, {}, {}, peak)
            continue
        found = checkpoint.get(stage.population) if checkpoint else None
        if found is None:
            found, chosen = compress_stage(
                stage, keep, around, recipe, grids, decay=(decays or {}).get(stage.population), memory=memory,
                progress=partial(_ordered, tell, stage.population, len(stage.modules[0].weight)))
            if chosen is not None:
                granted[stage.population] = chosen
            if checkpoint:
                checkpoint.put(stage.population, found)
        done |= found
        if compressed is not None and recipe.how.follows:
            compressed.put(found)
    return Walked(done, granted, fallbacks(done, stages, model, recipe))


def _ordered(tell: Progress, population: str, rows: int, done: int) -> None:
    tell(f"ordering the weights into '{population}'", done, rows)


def kept_in_layers(
    stages: tuple[Stage, ...], statistics: Statistics | None, recipe: Recipe, memory: int, progress: Progress
) -> dict[str, int]:
    """Weights that stay in each layer. Shares by loss or by energy take one pass over the data before the walk."""
    weights = {n: w.numpy() for stage in stages for m in stage.modules for n, w in m.split(m.weight).items()}
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
    if statistics is None:
        raise refuse(f"allocation '{kind}' needs calibration data", fix="Give --data")
    if kind == "temporal-lamp":
        factors: dict[str, float] = {}
        for stage, found in statistics.each(stages, progress):
            for module in stage.modules:
                factors |= dict.fromkeys(module.layers, amplification(*found.energies[module.group]))
        return out | temporal_lamp(shared, factors, recipe.sparsity)
    curves = {}
    for stage, found in statistics.each(stages, progress):
        for module in stage.modules:
            if not all(n in shared for n in module.layers):  # a curve is of all layers of a module
                out |= uniform({n: shared[n].size for n in module.layers if n in shared}, recipe.sparsity)
                continue
            curves[module.layers] = loss_curves(
                module, module.of_hessian(found.hessians[module.group]), recipe, memory)
    if not curves:
        return out
    return out | by_curves(curves, kept({n: shared[n].size for m in curves for n in m}, recipe.sparsity))


def planned(
    model: Model, statistics: Statistics, recipe: Recipe, memory: int = MEMORY, progress: Progress | None = None
) -> Recipe:
    """The recipe with the bits and the sparsity of each layer that lose least within its byte budget; itself where it
    has none."""
    recipe.check(model.layers)
    if recipe.budget is None:
        return recipe
    found, what, curves = {}, {}, {}
    stages = model.stages(frozenset(n for n in model.layers if recipe.of(n).keep))
    modules = [module for stage in stages for module in stage.modules]
    for stage, calibration in statistics.each(stages, progress):
        for module in stage.modules:
            hessian = module.of_hessian(calibration.hessians[module.group])
            name = module.layers[0]
            curves[name] = loss_curves(module, hessian, recipe, memory)
            found[name], what[name] = options(module, curves[name], hessian, recipe)
    chosen = within_budget(found, recipe.budget)
    if chosen is None:
        least = sum(min(o.bytes for o in group) for group in found.values())
        raise refuse(f"the budget of {recipe.budget} bytes can not be met: the least is about {least} bytes",
                     fix="Raise the budget, or allow fewer bits")
    layers = list(recipe.layers)
    for module in modules:
        bits, keep = what[module.layers[0]][chosen[module.layers[0]]]
        curve = curves[module.layers[0]]
        at = int(np.flatnonzero(curve.keep == keep)[0])
        layers += [LayerRecipe(match=escape(n), bits=bits, sparsity=1.0 - curve.layers[n][at] / curve.layers[n][0])
                   for n in module.layers]
    return recipe.model_copy(update={"layers": tuple(layers), "budget": None})


def fallbacks(
    layers: Mapping[str, CompressedLayer], stages: tuple[Stage, ...], model: Model, recipe: Recipe
) -> tuple[str, ...]:
    """What did not go as asked, one sentence each."""
    notes = []
    modules = {n: m for stage in stages for m in stage.modules for n in m.layers}
    originals = {n: w for m in dict.fromkeys(modules.values()) for n, w in m.split(m.weight).items()}
    for name, layer in layers.items():
        module = modules[name]
        heard = module.hears
        if not heard.all():
            notes.append(f"layer '{name}': {np.count_nonzero(~heard)} of its {len(heard)} rows lead to neurons that "
                         "take no input (r or w_in is 0), so their weights changed nothing and are zero now")
        inputs = int(np.prod(layer.mask.shape[1:]))
        if model.samples and recipe.how.compensate:
            rows = model.samples * model.timesteps * module.parts[name].windows
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
        empty, before = (int((~w.reshape(len(w), -1).any(axis=1) & heard).sum())
                         for w in (layer.weight, originals[name].numpy()))
        if empty > before:
            notes.append(f"layer '{name}': no weight is left in {empty - before} of its {len(layer.weight)} rows")
    return tuple(notes)
