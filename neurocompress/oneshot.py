"""Compression without a chip: a network, its data and a recipe give a network of the same kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import __version__
from .chip.build import step_of
from .chip.units import gains
from .compression.checkpoint import Checkpoint, key_of
from .compression.layer import CompressedLayer
from .compression.module import joint_layers, population_of
from .compression.recipe import Recipe
from .compression.walk import MEMORY, Progress, Statistics, compress_layers
from .grid import Grid
from .network.canonical import canonical
from .network.graph import Network
from .network.nodes import WEIGHTED, Array, Flatten


@dataclass(frozen=True, eq=False)
class Result:
    """original: the network that was compressed, in the form that compression sees. network: the same, compressed.
    layers: by node of weights. notes: sentences on every fallback."""

    original: Network
    network: Network
    layers: dict[str, CompressedLayer]
    recipe: Recipe
    notes: tuple[str, ...]

    @property
    def sparsity(self) -> float:
        """Share of zeros over all compressed layers."""
        sizes = sum(layer.weight.size for layer in self.layers.values())
        return 1.0 - sum(int(np.count_nonzero(layer.weight)) for layer in self.layers.values()) / max(1, sizes)


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

    def grids(self, population: str, ends: Mapping[str, Array], sizes: Mapping[str, int]) -> dict[str, Grid]:
        found = {}
        for name, end in ends.items():
            bits = self.bits(name)
            assert bits is not None
            scheme = self.recipe.scheme(bits)
            found[name] = scheme.grid(scheme.steps(end if self.per_row else np.full_like(end, end.max())))
        return found


def compress_network(
    network: Network, spikes: np.ndarray | None, recipe: Recipe, *, device: str = "cpu", memory: int = MEMORY,
    statistics: Statistics | None = None, checkpoint: Path | None = None, progress: Progress | None = None,
) -> Result:
    """The network with the recipe's sparsity and bits.

    spikes: calibration data (samples, timesteps, *input shape); None allows only methods magnitude and rtn.
    memory: bytes for Hessians and, again, for the rows of the OBS ordering. statistics: of the same network and data,
    of a `statistics_of` before, where several recipes are tried. checkpoint: folder for finished layers; it is removed
    when all are. Raises `Refused`.
    """
    original = compressible(network)
    kept = None
    if checkpoint is not None:
        kept = Checkpoint(checkpoint, key_of(original, spikes, recipe.model_dump_json(), __version__))
    walked = compress_layers(original, row_gains(original), spikes, recipe, RecipeGrids(recipe),
                             statistics=statistics, device=device, memory=memory, checkpoint=kept, progress=progress)
    if kept is not None:
        kept.remove()
    return Result(original, walked.network, walked.layers, recipe, walked.notes)


def compressible(network: Network) -> Network:
    """The network itself, or where it has products of layers or pooling behind weights its canonical form."""
    return network if is_direct(network) else canonical(network)


def statistics_of(
    network: Network, spikes: np.ndarray, membrane: bool, *, device: str = "cpu", memory: int = MEMORY
) -> Statistics:
    """Statistics for several calls of `compress_network` with the same network and data. membrane: as the method's."""
    network = compressible(network)
    groups = [g for g in joint_layers(network) if population_of(network, g[0]) != network.output]
    return Statistics(network, spikes, groups, membrane, memory, device, lambda stage, done, total: None)


def is_direct(network: Network) -> bool:
    """Whether every node of weights feeds one population, with nothing but flattening between: then the network keeps
    its own form (pooling before a layer stays pooling)."""
    for name, node in network.nodes.items():
        if not isinstance(node, WEIGHTED):
            continue
        at = name
        while at not in network.populations and at != network.output:
            after = network.outputs_of(at)
            if len(after) != 1 or (at != name and not isinstance(network.nodes[at], Flatten)):
                return False
            (at,) = after
        if len(network.inputs_of(name)) != 1:
            return False
    return True


def row_gains(network: Network) -> dict[str, Array]:
    """By layer, thresholds per unit of input for each row: of each neuron, or the mean of a channel's, float64."""
    found = {}
    for name, node in network.nodes.items():
        if isinstance(node, WEIGHTED) and (population := population_of(network, name)) != network.output:
            conventions, target = network.conventions, network.nodes[population]
            gain = np.broadcast_to(gains(target, step_of(target, conventions), conventions), network.shapes[population])
            found[name] = gain.reshape(len(node.weight), -1).mean(axis=1).astype(np.float64)
    return found
