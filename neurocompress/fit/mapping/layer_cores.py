"""Layers of a network as chips with one layer on each core see them: one convolution in front of its neurons (Speck).

Source: synsense/sinabs @904eb89398cc, sinabs/backend/dynapcnn/dynapcnn_layer.py memory_summary l.213-244.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...chip.profile.schema import Profile
from ...network.graph import Network
from ...network.nodes import Conv, Flatten, Linear, Scale, Shape


@dataclass(frozen=True)
class LayerCore:
    """name: node of the weights. population: the neurons behind it. channels: in and out. kernel, out: (height, width)
    of the taps and of the neurons; a matrix is a convolution whose kernel covers its whole input."""

    name: str
    population: str
    channels: tuple[int, int]
    kernel: Shape
    out: Shape
    bias: bool
    stride: Shape = (1, 1)
    padding: Shape = (0, 0)

    @property
    def kernel_words(self) -> int:
        return kernel_words(*self.channels, *self.kernel)

    @property
    def neuron_words(self) -> int:
        return neuron_words(self.channels[1], *self.out)

    @property
    def bias_words(self) -> int:
        return self.channels[1] if self.bias else 0


def kernel_words(channels_in: int, channels_out: int, height: int, width: int) -> int:
    """Words that the weights of a convolution take: taps and output channels are padded to powers of two.

    40 to 100 channels with 3 x 3 taps, 36,000 weights: 81,920 words.
    """
    return channels_in << (_log2(height * width) + _log2(channels_out))


def neuron_words(channels: int, height: int, width: int) -> int:
    """Words that the states of (channels, height, width) neurons take: height and width are padded to powers of two."""
    return channels << (_log2(height) + _log2(width))


def _log2(n: int) -> int:
    """Rounded up; n of at least 1."""
    return (n - 1).bit_length()


def layer_cores(network: Network) -> tuple[LayerCore, ...]:
    """One for each node of weights with neurons behind it, in the order of computation of their populations."""
    found = []
    for population in network.populations:
        shape = _map(network.shapes[population])
        for name in weights_into(network, population):
            node = network.nodes[name]
            if isinstance(node, Conv):
                taps = (1,) * (4 - node.weight.ndim) + node.weight.shape[2:]
                flat = (1,) * (2 - len(node.stride))
                padding = (0,) * len(flat) + tuple(max(pair) for pair in node.padding)
                channels = (node.weight.shape[1] * node.groups, node.weight.shape[0])
                found.append(LayerCore(name, population, channels, taps, shape[1:], node.bias is not None,
                                       flat + node.stride, padding))
            elif isinstance(node, Linear):
                before = _map(_unflattened(network, name))
                found.append(LayerCore(name, population, (before[0], shape[0]), before[1:], shape[1:],
                                       node.bias is not None))
    return tuple(found)


def weights_into(network: Network, population: str) -> tuple[str, ...]:
    """Names of the nodes of weights that feed a population, whatever reshapes and scales lie between."""
    found, waiting = [], list(network.inputs_of(population))
    while waiting:
        name = waiting.pop(0)
        if isinstance(network.nodes[name], (Conv, Linear)):
            found.append(name)
        elif isinstance(network.nodes[name], (Flatten, Scale)):
            waiting += network.inputs_of(name)
    return tuple(found)


def _unflattened(network: Network, name: str) -> Shape:
    """The shape of what a matrix reads, before it was flattened."""
    source = network.inputs_of(name)[0]
    while isinstance(network.nodes[source], (Flatten, Scale)):
        source = network.inputs_of(source)[0]
    return network.shapes[source]


def _map(shape: Shape) -> Shape:
    """(channels, height, width) of any shape; a flat one has one pixel in every channel."""
    return (*shape, 1, 1)[:3] if len(shape) == 1 else (shape[0], *(1,) * (3 - len(shape)), *shape[1:])


def words_of(profile: Profile) -> dict[str, list[int] | None]:
    """What each core has, by resource; None where the chip has no such limit or it is unknown."""
    core = profile.core
    limits = {"kernel_words": core.kernel_words, "neuron_words": core.neuron_words, "bias_words": core.bias_words}
    return {name: limit.value if limit else None for name, limit in limits.items()}


def own_cores(network: Network, profile: Profile, chips: int) -> dict[str, tuple[int, LayerCore]]:
    """The core of each layer by population; empty for chips of another kind, or where not all layers fit."""
    entry, per_chip = profile.topology.one_layer_per_core, profile.topology.cores_per_chip.value
    layers = layer_cores(network)
    if entry is None or not entry.value or per_chip is None or len(layers) > per_chip * chips:
        return {}
    at = assigned(layers, words_of(profile), per_chip * chips)
    return {} if min(at, default=-1) < 0 else {x.population: (k, x) for k, x in zip(at, layers, strict=True)}


def core_list(network: Network, profile: Profile, chips: int) -> str | None:
    """Which core computes which layer, as a sentence; None for chips of another kind, or where not all layers fit."""
    each = ", ".join(f"'{layer.name}' core {core} ({layer.kernel_words:,} kernel, {layer.neuron_words:,} neuron words)"
                     for core, layer in own_cores(network, profile, chips).values())
    return f"cores with room, not all are alike: {each}" if each else None


def assigned(layers: Sequence[LayerCore], words: Mapping[str, Sequence[int] | None], cores: int) -> list[int]:
    """The core of each layer, -1 for those that get none: a largest matching of layers and cores with room for them.

    words: as `words_of` gives it.
    """
    from scipy import sparse
    from scipy.sparse.csgraph import maximum_bipartite_matching

    kinds = max((len(each) for each in words.values() if each is not None), default=1)
    cores = min(cores, kinds * len(layers))  # of cores that are alike, no more than there are layers
    room = np.ones((len(layers), cores), dtype=bool)
    for name, each in words.items():
        if each is not None:
            needed = np.array([getattr(layer, name) for layer in layers], dtype=np.int64).reshape(-1, 1)
            room &= needed <= np.resize(np.asarray(each, dtype=np.int64), cores)
    matched = maximum_bipartite_matching(sparse.csr_array(room.astype(np.int8)), perm_type="column")
    return [int(core) for core in matched]
