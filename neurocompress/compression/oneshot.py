"""Compression without a chip: a network, its data and a recipe give a network of the same kind."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..data.calibration import CalibrationSet
from ..errors import refuse
from ..network.drive import gains, row_gain, step_of
from ..network.ends import with_membrane
from ..network.form import compression_form
from ..network.graph import Network
from ..network.grid import Grid
from ..network.nodes import WEIGHTED, Array, Conv, Linear
from ..network.readout import between
from ..progress import Progress, silent
from ..shown import listed
from ..simulation.float import Peak
from ..version import __version__
from .compressed_layer import CompressedLayer, summary, weights_of
from .layerwise.calibrate import Statistics
from .layerwise.checkpoint import Checkpoint
from .layerwise.grid_search import Granted
from .layerwise.walk import compress, planned
from .model import MEMORY
from .network_model import NetworkModel, population_of
from .recipe import Recipe

if TYPE_CHECKING:
    from .finetuning.finetune import Constraint


@dataclass(frozen=True, eq=False)
class Result:
    """original: the network that was compressed, in the form that compression sees. network: the same, compressed.
    layers: by node of weights. notes: sentences on every fallback."""

    original: Network
    network: Network
    layers: dict[str, CompressedLayer]
    recipe: Recipe
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return listed(f"Compressed by {self.recipe.method}: {self.sparsity:.1%} of all weights are zero",
                      (f"{name}: {summary(layer)}" for name, layer in self.layers.items()), self.notes)

    def save(self, path: str | Path) -> None:
        """Writes the network as a NIR file, see `save`. Raises `Refused`."""
        save(self, Path(path))

    @property
    def kept(self) -> dict[str, Linear | Conv]:
        """Layers of weights that were not to change."""
        return {n: node for n, node in self.network.nodes.items()
                if isinstance(node, WEIGHTED) and n not in self.layers}

    @property
    def sparsity(self) -> float:
        """Share of zeros over all weights of the network."""
        weights = [node.weight for node in self.network.nodes.values() if isinstance(node, WEIGHTED)]
        return 1.0 - sum(int(np.count_nonzero(w)) for w in weights) / max(1, sum(w.size for w in weights))


#: Share of samples whose class one shot changed below which nothing is learned: what so few teach does not hold for
#: others (docs/compression.md).
DISTILL_CHANGED = 0.025
#: Its learning rate: a network of few time steps loses more at 0.005 than 20 epochs bring back.
DISTILL_RATE = 0.003

#: Grid points to each side of a layer without bits.
FINE = 2**40


@dataclass(frozen=True)
class RecipeGrids:
    """Grids as the recipe says; any step is granted, or any power of two."""

    recipe: Recipe

    @property
    def per_row(self) -> bool:
        return self.recipe.grid.scale == "per-channel"

    @property
    def free(self) -> bool:
        return not self.recipe.grid.power_of_two

    def bits(self, layer: str) -> int | None:
        return self.recipe.of(layer).bits

    def grids(
        self, population: str, ends: Mapping[str, Array], sizes: Mapping[str, int], peak: Peak | None = None
    ) -> Granted:
        found = {}
        for name, end in ends.items():
            bits = self.bits(name)
            if bits is None:  # beside a layer with a grid: steps so fine that they are floating point
                found[name] = Grid(end / FINE, FINE)
                continue
            scheme = self.recipe.scheme(bits)
            found[name] = scheme.grid(scheme.steps(end if self.per_row else np.full_like(end, end.max())))
        return Granted(found)


def compress_network(
    network: Network, data: CalibrationSet | np.ndarray | None, recipe: Recipe, *, device: str = "cpu",
    memory: int = MEMORY, statistics: Statistics | None = None, checkpoint: Path | None = None,
    keep_checkpoint: bool = False, progress: Progress | None = None,
) -> Result:
    """The network with the recipe's sparsity and bits.

    data: calibration data, or spikes (samples, timesteps, *input shape) of which a tenth only judges where learning
    follows (`Recipe.distilled`); None allows only methods magnitude and rtn. memory: bytes for Hessians and,
    again, for the rows of the OBS ordering. statistics: of the same network and data, of a `statistics_of` before,
    where several recipes are tried. checkpoint: folder for finished layers; it is removed when all are,
    unless the caller keeps it until the result is saved.
    Raises `Refused`.
    """
    original, asked = compression_form(network), recipe
    if isinstance(data, np.ndarray):
        data = CalibrationSet.of(data, recipe.distilled)
    fit = None if data is None else data.fit
    model = model_of(original, fit, device, memory) if statistics is None else statistics.model
    kept = None
    if checkpoint is not None:
        kept = Checkpoint(checkpoint, model.key(recipe.model_dump_json(), __version__))
    with nullcontext() if kept is None else kept.alone():
        if recipe.budget is not None:
            if not model.samples:
                raise refuse("a byte budget is shared out by loss, which needs calibration data", fix="Give --data")
            statistics = statistics or Statistics(model, recipe.how.membrane, memory)
            recipe = planned(model, statistics, recipe, memory, progress)
        walked = compress(model, recipe, RecipeGrids(recipe), statistics=statistics, memory=memory, checkpoint=kept,
                          progress=progress)
        whole = model.result(walked.layers)
        made = original.with_nodes({name: whole.nodes[name] for name in walked.layers})
        result = Result(original, made, walked.layers, recipe, walked.notes)
        if data is not None and data.judged and asked.distilled:
            if said := nothing_to_learn(result.network, original, data.spikes, asked):
                result = replace(result, notes=(*result.notes, *said))
            else:
                result = finetuned(result, replace(data, labels=None), asked.distilled, 0, progress)
        if kept is not None and not keep_checkpoint:
            kept.remove()
    return result


def nothing_to_learn(network: Network, original: Network, spikes: np.ndarray, recipe: Recipe) -> tuple[str, ...]:
    """A sentence where so few samples have another class than the original gives them that learning its outputs is
    left out; none where outputs are no classes, or the recipe itself says how many epochs learn."""
    from .finetuning.output_loss import changed

    others = None if recipe.distill is not None else changed(network, original, spikes)
    if others is None or others >= DISTILL_CHANGED * len(spikes):
        return ()
    return (f"learning the original's outputs was left out: {others} of {len(spikes)} samples have another class than "
            "before compression (--distill N learns all the same)",)


def with_last_layers(network: Network) -> Network:
    """The network with neurons behind its last layers of weights, so that these are compressed as all others: the
    neurons add up what the layers put out, as the class is read of its sum over time, or keep nothing of it where the
    last or largest output is read."""
    if not any(isinstance(network.nodes[n], WEIGHTED) for n in between(network)):
        return network
    if network.conventions.input_decays:  # neurons that keep nothing would hear nothing
        network = replace(network, conventions=replace(network.conventions, reading="mean"))
    return with_membrane(network)


def statistics_of(
    network: Network, spikes: np.ndarray, recipe: Recipe, *, device: str = "cpu", memory: int = MEMORY
) -> Statistics:
    """Statistics for several calls of `compress_network` with the same network and data, and recipes whose methods
    filter alike (`Method.membrane`) and are all followed by learning, or none."""
    model = model_of(compression_form(network), CalibrationSet.of(spikes, recipe.distilled).fit, device, memory)
    return Statistics(model, recipe.how.membrane, memory)


def model_of(network: Network, spikes: np.ndarray | None, device: str, memory: int) -> NetworkModel:
    """What the walk goes over. network: in `compression_form`."""
    whole = with_last_layers(network)
    return NetworkModel(whole, row_gains(whole), spikes, device, memory)


def row_gains(network: Network) -> dict[str, Array]:
    """By layer, thresholds per unit of input for each row: of each neuron, or the mean of a channel's, float64."""
    found: dict[str, Array] = {}
    for name, node in network.nodes.items():
        if isinstance(node, WEIGHTED) and (population := population_of(network, name)) != network.output:
            conventions, target = network.conventions, network.nodes[population]
            gain = gains(target, step_of(target, conventions), conventions)
            each = row_gain(gain, network.shapes[population])
            found[name] = np.broadcast_to(each, len(node.weight)).astype(np.float64)
    return found


def save(result: Result, path: Path) -> None:
    """Writes the compressed network as a NIR file; facts of each layer's grid and the recipe are in its metadata.

    A layer's real weights are integers x step exactly: "range", "step" (one for each row) and "bits" are there to get
    the integers back. Raises `Refused`.
    """
    from ..backends import backend

    facts: dict[str, dict[str, object]] = {"": {"recipe": result.recipe.model_dump_json(exclude_defaults=True)}}
    for name, layer in result.layers.items():
        facts[name] = {"sparsity": float(np.mean(layer.weight == 0))}
        if layer.step is not None and layer.grid_range is not None and layer.bits is not None:
            facts[name] |= {"bits": layer.bits, "step": layer.step.ravel(), "range": np.array(layer.grid_range)}
    backend("nir").write(result.network, path, metadata=facts)


def finetuned(
    result: Result, data: CalibrationSet, epochs: int, seed: int, progress: Progress | None = None,
) -> Result:
    """The result trained for some epochs with its zeros and grids kept (see finetuning.finetune)."""
    from .finetuning.finetune import Constraint

    constraints = {name: Constraint.of(layer) for name, layer in result.layers.items()}
    network, layers, said = tuned(result.network, result.layers, constraints, data, result.original, epochs, seed,
                                  progress, "fine-tuning")
    return replace(result, network=network, layers=layers, notes=(*result.notes, *said))


def tuned(
    network: Network, layers: Mapping[str, CompressedLayer], constraints: Mapping[str, Constraint],
    data: CalibrationSet, teacher: Network, epochs: int, seed: int, progress: Progress | None, stage: str,
) -> tuple[Network, dict[str, CompressedLayer], tuple[str, ...]]:
    """The network and its layers after some epochs (see finetuning.finetune), and what is to be said of them.

    stage: what progress is told.
    """
    from .finetuning.finetune import finetune

    tell, total = progress or silent, epochs * int((~data.judges).sum())
    rate = 0.005 if data.labels is not None else DISTILL_RATE
    found = finetune(network, constraints, data, teacher=teacher, epochs=epochs, learning_rate=rate, seed=seed,
                     progress=lambda done: tell(stage, done, total))
    return found, trained(layers, found), found.notes[len(network.notes):]


def trained(layers: Mapping[str, CompressedLayer], network: Network) -> dict[str, CompressedLayer]:
    """The layers with the weights and biases that they have in `network`, on their grids."""
    found = {}
    for name, layer in layers.items():
        node = weights_of(network, name)
        weight = np.asarray(node.weight, dtype=np.float64)
        m = layer.m
        if layer.step is not None:
            m = np.rint(weight / layer.step).astype(np.int64)
            weight = m * layer.step
        found[name] = replace(layer, m=m, bias=node.bias, weight=weight)
    return found
