"""Modules: the weights into one population, as one matrix (the Linear -> LIF modules of SBC, section 3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..network.discrete import hears
from ..network.graph import SOURCES, Network
from ..network.nodes import Array, Conv, Linear, Neuron
from .hessian import Bias


@dataclass(frozen=True, eq=False)
class Module:
    """Layers side by side: rows are neurons or channels of the population, columns the inputs of all layers.

    group: layers that share the Hessian; layers: those of them that are compressed, whose inputs are `columns` of it.

    weight: (rows, d) float64 in threshold units (see chip.units). groups: of a convolution; every group has
    rows / groups rows and a Hessian of its own. bias: (rows,) likewise, or None where no layer has one.
    gains: by layer, thresholds per unit of input for each row, float64 (rows,). importance: (rows,) what a row's error
    means to the layers behind it, of mean 1.
    """

    population: str
    group: tuple[str, ...]
    layers: tuple[str, ...]
    columns: Tensor
    widths: tuple[int, ...]
    weight: Tensor
    groups: int
    bias: Array | None
    gains: dict[str, Array]
    importance: Tensor

    @property
    def hears(self) -> np.ndarray:
        """(rows,) bool, whether the row's weights move any membrane: not where r or w_in of its neurons is 0."""
        return hears(self.gains[self.layers[0]])

    def split(self, matrix: Tensor) -> dict[str, Tensor]:
        """A (rows, d) matrix by layer."""
        return dict(zip(self.layers, torch.split(matrix, list(self.widths), dim=1), strict=True))

    def of_hessian(self, matrix: Tensor) -> Tensor:
        """The part of the group's (groups, d, d) matrix that is of these layers."""
        return matrix[:, self.columns][:, :, self.columns]

    def of_bias(self, bias: Bias) -> Bias:
        return Bias(bias.drive[:, self.columns], bias.unit)

    def join(self, parts: dict[str, Tensor]) -> Tensor:
        return torch.cat([parts[name] for name in self.layers], dim=1)

    @property
    def rows(self) -> list[slice]:
        """Rows of each group."""
        size = len(self.weight) // self.groups
        return [slice(g * size, (g + 1) * size) for g in range(self.groups)]


def population_of(network: Network, layer: str) -> str:
    """The first population, in order of computation, that a layer of weights feeds: the one it is compressed for. The
    output, where it feeds none."""
    found, waiting, seen = [], [layer], {layer}
    while waiting:
        for name in network.outputs_of(waiting.pop()):
            if name in seen:
                continue
            seen.add(name)
            if isinstance(network.nodes[name], SOURCES):
                found.append(name)
            else:
                waiting.append(name)
    return min(found, key=network.order.index, default=network.output)


def joint_layers(network: Network) -> list[tuple[str, ...]]:
    """Layers of weights that share one Hessian, in network order.

    Inputs that meet in one membrane (feed-forward and recurrent ones, branches) are correlated: their concatenated
    Hessian knows it (SBC, appendix B). Linear layers into the same neurons are joined, and convolutions of equal
    groups.
    """
    kinds: dict[str, dict[int, list[str]]] = {population: {} for population in network.populations}
    for name in network.order:
        node = network.nodes[name]
        if isinstance(node, (Linear, Conv)) and (population := population_of(network, name)) in kinds:
            groups = node.groups if isinstance(node, Conv) else 0
            kinds[population].setdefault(groups, []).append(name)
    return [tuple(names) for found in kinds.values() for _, names in sorted(found.items())]


def compressed_groups(network: Network) -> list[tuple[str, ...]]:
    """The groups of `joint_layers` that feed neurons: what compression can change."""
    return [group for group in joint_layers(network) if population_of(network, group[0]) != network.output]


def modules(
    network: Network, row_gains: dict[str, Array], kept: Callable[[str], bool] = lambda name: False
) -> list[Module]:
    """The modules of a canonical network whose population spikes or integrates, in network order.

    row_gains: by layer, thresholds per unit of input for each row, float64 (rows,). kept: layers to leave out.
    """
    found = []
    for group in compressed_groups(network):
        population = population_of(network, group[0])
        layers = tuple(name for name in group if not kept(name))
        if not layers:
            continue
        ends = np.cumsum([0, *(_matrix(network, name).shape[1] for name in group)])
        columns = np.concatenate([np.arange(ends[k], ends[k + 1]) for k, name in enumerate(group) if name in layers])
        parts = [_matrix(network, name) * row_gains[name][:, None] for name in layers]
        biases = [np.broadcast_to(b, len(parts[0])) * row_gains[n] for n in group
                  if (b := network.nodes[n].bias) is not None]  # type: ignore[union-attr]
        node = network.nodes[group[0]]
        found.append(Module(
            population, group, layers, torch.from_numpy(columns), tuple(p.shape[1] for p in parts),
            torch.from_numpy(np.concatenate(parts, axis=1)),
            node.groups if isinstance(node, Conv) else 1, np.sum(biases, axis=0) if biases else None,
            {name: row_gains[name] for name in layers}, _importance(network, population, len(parts[0]), row_gains)))
    return found


def _matrix(network: Network, layer: str) -> Array:
    node = network.nodes[layer]
    assert isinstance(node, (Linear, Conv))
    return np.asarray(node.weight, dtype=np.float64).reshape(len(node.weight), -1)


def _importance(network: Network, population: str, rows: int, row_gains: dict[str, Array]) -> Tensor:
    """Squared norm of the weights that each neuron or channel sends, in thresholds of what they feed; mean 1.

    A neuron's missed spike moves every potential behind it by one of these weights.
    """
    total = np.zeros(rows)
    stack, seen = list(network.outputs_of(population)), set()
    while stack:
        name = stack.pop()
        if name in seen or isinstance(network.nodes[name], Neuron):
            continue
        seen.add(name)
        node = network.nodes[name]
        if not isinstance(node, (Linear, Conv)):
            stack += network.outputs_of(name)
            continue
        gain = row_gains.get(name, np.ones(len(node.weight)))
        square = np.square(np.asarray(node.weight, dtype=np.float64))
        square *= np.square(gain).reshape(-1, *(1,) * (square.ndim - 1))
        if isinstance(node, Conv):
            grouped = square.reshape(node.groups, len(square) // node.groups, square.shape[1], -1)
            sent = grouped.sum(axis=(1, 3)).reshape(-1)
        else:
            sent = square.sum(axis=0)
        if len(sent) % rows == 0:  # a flattened (channels, height, width) has a channel's neurons in a row
            total += sent.reshape(rows, -1).sum(axis=1)
    mean = float(total.mean())
    return torch.from_numpy(total / mean) if mean > 0 else torch.ones(rows, dtype=torch.float64)
