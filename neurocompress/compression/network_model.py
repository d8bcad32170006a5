"""The NIR network as a `Model`: its stages, and its signals population by population."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ..network.discrete import delay_steps, discretize, threshold_of
from ..network.graph import SOURCES, Network
from ..network.nodes import WEIGHTED, Array, Conv, Delay, Flatten, Linear, Neuron
from ..network.resets import resets_late
from ..simulation.arriving import arriving
from ..simulation.float import Peak, batches
from ..simulation.gains import WithGains
from ..simulation.kept import Chosen, Kept, Room, Samples
from ..simulation.stored import as_stored
from ..simulation.timing import lag_of
from .compressed_layer import CompressedLayer, weights_of, with_layers
from .model import MEMORY, Batch, Resets, Stage
from .module import Module, Part


@dataclass(frozen=True, eq=False)
class NetworkModel:
    """network: at most one node of weights on each path between populations. row_gains: by layer, thresholds per unit
    of input for each row (neuron or channel), float64 (rows,). spikes: calibration data (samples, timesteps,
    *input shape), or None. memory: bytes for the signals of each of the two streams; what is more goes to disk."""

    network: Network
    row_gains: Mapping[str, Array]
    spikes: np.ndarray | None
    device: str = "cpu"
    memory: int = MEMORY

    @property
    def samples(self) -> int:
        return 0 if self.spikes is None else len(self.spikes)

    @property
    def timesteps(self) -> int:
        return 0 if self.spikes is None else self.spikes.shape[1]

    @cached_property
    def layers(self) -> tuple[str, ...]:
        return tuple(name for group in compressed_groups(self.network) for name in group)

    def stages(self, kept: frozenset[str] = frozenset()) -> tuple[Stage, ...]:
        found: dict[str, list[Module]] = {population: [] for population in self.network.populations}
        for group in compressed_groups(self.network):
            layers = tuple(name for name in group if name not in kept)
            if layers:
                found[population_of(self.network, group[0])].append(self._module(group, layers))
        looped = {name for group in self.network.groups if self.network.is_loop(group) for name in group}
        return tuple(self._stage(population, tuple(modules), population in looped)
                     for population, modules in found.items())

    def stream(self) -> NetworkStream:
        assert self.spikes is not None
        return NetworkStream(self.network, self.spikes, self.device, self.memory)

    def result(self, layers: Mapping[str, CompressedLayer]) -> Network:
        return with_layers(self.network, layers)

    def key(self, *more: str) -> str:
        digest = hashlib.sha256()
        for name in sorted(self.network.nodes):
            node = self.network.nodes[name]
            digest.update(f"{name}:{type(node).__name__}".encode())
            for field in sorted(vars(node)):
                value = getattr(node, field)
                digest.update(field.encode())
                digest.update(np.ascontiguousarray(value).tobytes() if isinstance(value, np.ndarray)
                              else repr(value).encode())
        for text in (repr(self.network.edges), repr(self.network.conventions.to_dict()), *more):
            digest.update(text.encode())
        if self.spikes is not None:
            digest.update(repr((self.spikes.shape, str(self.spikes.dtype))).encode())
            digest.update(np.ascontiguousarray(self.spikes).data)
        return digest.hexdigest()

    def _module(self, group: tuple[str, ...], layers: tuple[str, ...]) -> Module:
        network, gains = self.network, self.row_gains
        ends = np.cumsum([0, *(_matrix(network, name).shape[1] for name in group)])
        columns = np.concatenate([np.arange(ends[k], ends[k + 1]) for k, name in enumerate(group) if name in layers])
        matrices = [_matrix(network, name) * gains[name][:, None] for name in layers]
        biases = [np.broadcast_to(b, len(matrices[0])) * gains[n] for n in group
                  if (b := weights_of(network, n).bias) is not None]
        first = network.nodes[group[0]]
        parts = {}
        for name in group:
            node = weights_of(network, name)
            conv = node if isinstance(node, Conv) else None
            windows = int(np.prod(network.shapes[name][1:])) if conv is not None else 1
            parts[name] = Part(node.weight.shape, node.bias, conv, windows)
        return Module(
            group, layers, parts, torch.from_numpy(columns), tuple(m.shape[1] for m in matrices),
            torch.from_numpy(np.concatenate(matrices, axis=1)), first.groups if isinstance(first, Conv) else 1,
            np.sum(biases, axis=0) if biases else None, {name: gains[name] for name in layers},
            _importance(network, population_of(network, group[0]), len(matrices[0]), gains))

    def _stage(self, population: str, modules: tuple[Module, ...], looped: bool) -> Stage:
        network, node = self.network, self.network.nodes[population]
        neuron = node if isinstance(node, Neuron) else None
        layers = {name for module in modules for name in module.layers}
        spiking = neuron is not None and neuron.spiking
        alone = spiking and not looped and bool(layers) and set(network.inputs_of(population)) <= layers
        step = None if neuron is None else discretize(neuron, network.conventions)
        return Stage(population, modules, step, spiking, alone, self._resets(population, modules))

    def _resets(self, population: str, modules: tuple[Module, ...]) -> Resets | None:
        """Linear layers into plain spiking neurons, all of the population's inputs."""
        network, rule, node = self.network, self.network.conventions, self.network.nodes[population]
        if len(modules) != 1 or modules[0].layers != modules[0].group:
            return None
        if not isinstance(node, Neuron) or not node.spiking:
            return None
        if _drives(network, population) != set(modules[0].group):
            return None
        if any(not isinstance(network.nodes[n], Linear) for n in modules[0].group):
            return None
        step = discretize(node, rule)
        if np.any(step.v_start) or (
                node.v_reset is not None and np.any(node.v_reset) and "v_reset" not in rule.ignore):
            return None
        plain = rule.spikes_per_step == "one" and not rule.v_floor and rule.bias == "current" and rule.output_delay == 0
        if not plain or not rule.recurrent_bias_at_start:
            return None
        leak = np.broadcast_to(step.leak / threshold_of(step), (len(modules[0].weight),))
        return Resets(leak, rule.reset, rule.two_phase, resets_late(network, population))


class NetworkStream:
    """What the populations of a network send, held as long as a later population needs it.

    Populations that are in one loop run together, and what they send is held when the walk has left the loop: until
    then each question runs the loop with the layers that there are.
    """

    def __init__(self, network: Network, spikes: np.ndarray, device: str, memory: int):
        self.network, self.spikes, self.device = network, spikes, device
        self.changed = False
        self._room = Room(memory)
        self._sent: dict[str, Kept] = {}
        self._peaks: dict[str, Peak] = {}
        populations = frozenset(network.populations)
        self._units = [tuple(n for n in group if n in populations) for group in network.groups
                       if populations.intersection(group)]
        self._done = 0  # units whose signals are held, or were
        place = {name: k for k, unit in enumerate(self._units) for name in unit}
        self._needed_until = {name: max((place[n] for n in network.driven_by(name)), default=-1) for name in place}

    def put(self, layers: Mapping[str, CompressedLayer]) -> None:
        self.network, self.changed = with_layers(self.network, layers), True

    def peak(self, stage: Stage) -> Peak | None:
        return self._peaks.get(stage.population)

    def inputs(self, stage: Stage, samples: np.ndarray | None = None) -> Iterator[Batch]:
        self._come_to(stage)
        yield from self._batches(stage, samples)

    def run(self, stage: Stage) -> Iterator[Batch]:
        unit = self._come_to(stage)
        if self._done > unit:  # a loop that was run for another of its populations
            yield from self._batches(stage, None, run=True)
            return
        sent = {name: self._kept(name) for name in self._units[unit]}
        yield from self._batches(stage, None, run=True, into=sent)
        self._hold(unit, sent)

    def counts(self, stage: Stage, layers: Mapping[str, CompressedLayer], gains: Sequence[float]) -> Array:
        self._come_to(stage)
        rows, total = len(stage.modules[0].weight), np.zeros(())
        network = as_stored(with_layers(self.network, layers))
        with_gains = WithGains(network, stage.population, gains, self.device)
        for found in batches(network, self.spikes, network.inputs_of(stage.population), device=self.device,
                             given=self._sent, then=with_gains.run):
            total = total + found[stage.population].reshape(len(gains), rows, -1).sum(2).cpu().numpy()
        return total

    def _come_to(self, stage: Stage) -> int:
        """Runs every population before the stage's that was not run yet; the place of the stage's own unit."""
        at = next(k for k, unit in enumerate(self._units) if stage.population in unit)
        for unit in range(self._done, at):
            sent = {name: self._kept(name) for name in self._units[unit]}
            if max(self._needed_until[name] for name in sent) > unit:
                for _ in self._signals((), None, sent, None):
                    pass
            self._hold(unit, sent)
        for name in [n for n in self._sent if self._needed_until[n] < at]:
            self._sent.pop(name).free()
        return at

    def _kept(self, name: str) -> Kept:
        return Kept(self._room, self.spikes.shape[1], self.network.shapes[name])

    def _hold(self, unit: int, sent: Mapping[str, Kept]) -> None:
        self._sent |= {name: kept for name, kept in sent.items() if len(kept)}
        self._done = unit + 1

    def _signals(
        self, keep: Sequence[str], samples: np.ndarray | None, into: Mapping[str, Kept], peaks: dict[str, Peak] | None
    ) -> Iterator[dict[str, Tensor]]:
        """Batches of the signals of `keep`; what the populations of `into` send goes there."""
        data: Samples = self.spikes
        sent: Mapping[str, Samples] = self._sent
        if samples is not None:
            data, sent = Chosen(data, samples), {n: Chosen(kept, samples) for n, kept in sent.items()}
        for signals in batches(self.network, data, (*keep, *into), device=self.device, peaks=peaks, given=sent):
            for name, kept in into.items():
                kept.add(signals[name].transpose(0, 1).cpu().numpy())
            yield signals

    def _batches(
        self, stage: Stage, samples: np.ndarray | None, run: bool = False, into: Mapping[str, Kept] | None = None
    ) -> Iterator[Batch]:
        network, first = self.network, 0
        layers = [name for module in stage.modules for name in module.group]
        feeds = [source for layer in layers for source in network.inputs_of(layer)]
        keep = (*feeds, stage.population) if run else tuple(feeds)
        for signals in self._signals(keep, samples, into or {}, self._peaks if run else None):
            inputs = {n: late(network, n, arriving(network, n, signals)) for n in layers}
            yield Batch(first, inputs, signals[stage.population] if run else None)
            first += next(iter(signals.values())).shape[1]


def population_of(network: Network, layer: str) -> str:
    """The first population, in order of computation, that a layer of weights feeds: the one it is compressed for. The
    output, where it feeds none."""
    return min(network.driven_by(layer), key=network.order.index, default=network.output)


def joint_layers(network: Network) -> list[tuple[str, ...]]:
    """Layers of weights that share one Hessian, in network order.

    Inputs that meet in one membrane (feed-forward and recurrent ones, branches) are correlated: their concatenated
    Hessian knows it (SBC, appendix B). Linear layers into the same neurons are joined, and convolutions of equal
    groups.
    """
    kinds: dict[str, dict[int, list[str]]] = {population: {} for population in network.populations}
    for name in network.order:
        node = network.nodes[name]
        if isinstance(node, WEIGHTED) and (population := population_of(network, name)) in kinds:
            kinds[population].setdefault(node.groups if isinstance(node, Conv) else 0, []).append(name)
    return [tuple(names) for kind in kinds.values() for _, names in sorted(kind.items())]


def compressed_groups(network: Network) -> list[tuple[str, ...]]:
    """The groups of `joint_layers` that feed neurons: what compression can change."""
    return [group for group in joint_layers(network) if population_of(network, group[0]) != network.output]


def _matrix(network: Network, layer: str) -> Array:
    weight = weights_of(network, layer).weight
    return np.asarray(weight, dtype=np.float64).reshape(len(weight), -1)


def _importance(network: Network, population: str, rows: int, row_gains: Mapping[str, Array]) -> Tensor:
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
        if not isinstance(node, WEIGHTED):
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


def _drives(network: Network, population: str) -> set[str]:
    """What a population is given by, but for flattening and delays of whole signals on the way."""
    found, waiting = set(), [population]
    while waiting:
        for name in network.inputs_of(waiting.pop()):
            node = network.nodes[name]
            whole = isinstance(node, Delay) and bool(np.ptp(delay_steps(node, network.conventions)) == 0)
            if isinstance(node, Flatten) or whole:
                waiting.append(name)
            else:
                found.add(name)
    return found


def late(network: Network, layer: str, x: Tensor) -> Tensor:
    """The input x (timesteps, ...) of a layer, shifted by the steps its way into its population takes; where there are
    several ways, the sum of them."""
    total: Tensor | None = None
    for lag in lags_into(network, layer, population_of(network, layer)):
        part = x if lag == 0 else torch.zeros_like(x)
        if 0 < lag < len(x):
            part[lag:] = x[: len(x) - lag]
        total = part if total is None else total + part
    assert total is not None
    return total


def lags_into(network: Network, layer: str, population: str) -> list[int]:
    """Time steps that each way of a layer's output into a population takes."""
    found: list[int] = []
    waiting = [(layer, 0)]
    while waiting:
        name, lag = waiting.pop()
        node = network.nodes[name]
        if isinstance(node, Delay):  # where the delay differs between elements, that of most
            lag += int(np.median(delay_steps(node, network.conventions)))
        for target in network.outputs_of(name):
            step = lag + lag_of(network, name, target)
            if target == population:
                found.append(step)
            elif not isinstance(network.nodes[target], SOURCES):
                waiting.append((target, step))
    return found
