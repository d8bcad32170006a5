"""One pass of the float network over calibration data: Hessians of all layers and peaks of all membranes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat

import numpy as np
import torch

from ..network.discrete import discretize
from ..network.graph import SOURCES, Network
from ..network.nodes import Conv, Delay, Flatten, Linear, Neuron
from ..simulation.arriving import arriving
from ..simulation.float import Peak, batches
from ..simulation.stateless import steps_of
from ..simulation.timing import lag_of
from .hessian import Bias, Given, Hessian, filtered
from .layer import weights_of
from .module import compressed_groups, population_of
from .prune import Ground
from .refine import FEATURES_MAX

Group = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Calibration:
    """hessians: by group of layers (see `joint_layers`), (groups, d, d) float64. crossed: likewise, 2 E[(MX)^T MX'] of
    the inputs X of the reference and X' of the network (None without a reference). biases, crossed_biases: how a
    constant input goes with the inputs of the network, and of the reference. energies: likewise, mean squared norms
    of the filtered and of the plain input at each time step, (2, timesteps). peaks: by population, the largest
    membrane potential and the largest synaptic contribution to it in one step, in the network's units. counts: by
    spiking population that a group feeds, each neuron's spikes over all samples, float64. Peaks and counts are empty
    where it was calibrated with a reference.
    behaviours: inputs and spikes of populations small enough to be refined neuron by neuron. grounds: of pruning, by
    module and recipe, as they are found (several recipes may share one calibration)."""

    hessians: dict[Group, torch.Tensor]
    crossed: dict[Group, torch.Tensor] | None
    biases: dict[Group, Bias]
    crossed_biases: dict[Group, Bias]
    energies: dict[Group, np.ndarray]
    peaks: dict[str, Peak]
    counts: dict[str, np.ndarray]
    samples: int
    behaviours: dict[str, Behaviour]
    grounds: dict[Hashable, Ground] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Behaviour:
    """What a small population was given and did: x (samples, timesteps, d), its layers' inputs side by side in the
    order of `joint_layers`, each as late as it arrives; spikes (samples, timesteps, n)."""

    x: np.ndarray
    spikes: np.ndarray


def calibrate(
    network: Network, spikes: np.ndarray, *, membrane: bool = True, groups: Sequence[Group] | None = None,
    reference: Network | None = None, device: str = "cpu", progress: Callable[[int], None] | None = None,
) -> Calibration:
    """Statistics of a canonical network over spikes (samples, timesteps, *input shape).

    membrane: H_SMP of the filtered input (SBC); False gives the plain H of OBC and GPTQ. groups: of layers, all
    without it. reference: the network before compression, to compare the inputs of the layers with.
    Memory: one batch of signals (see simulation.float.BLOCK_BYTES) and each group's d x d matrices.
    """
    if groups is None:
        groups = compressed_groups(network)
    feeds = {source for group in groups for layer in group for source in network.inputs_of(layer)}
    hessians = {group: Hessian(*_size(network, group)) for group in groups}
    crossed = {group: Hessian(*_size(network, group)) for group in groups} if reference is not None else {}
    energies = {group: np.zeros((2, spikes.shape[1])) for group in groups}
    peaks: dict[str, Peak] = {}
    fed = {} if reference is not None else {population_of(network, g[0]): g for g in groups}
    small = {p: g for p, g in fed.items() if membrane and _refinable(network, g, spikes)}
    counts = {p: np.zeros(network.shapes[p]) for p in fed
              if isinstance(node := network.nodes[p], Neuron) and node.spiking}
    kept: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {p: [] for p in small}
    done = 0
    wanted = peaks if reference is None else None
    runs = batches(network, spikes, (*sorted(feeds), *counts), device=device, peaks=wanted)
    before = repeat(None) if reference is None else batches(reference, spikes, feeds, device=device)
    for signals, original in zip(runs, before, strict=reference is not None):
        for population, count in counts.items():
            count += signals[population].sum(dim=(0, 1), dtype=torch.float64).cpu().numpy()
        for population, group in small.items():
            x = torch.cat([given(network, layer, signals) for layer in group], dim=-1)
            kept[population].append(
                (x.transpose(0, 1).cpu().numpy(), signals[population].transpose(0, 1).cpu().numpy()))
        for group, hessian in hessians.items():
            inputs, constant = _inputs(network, group, signals, membrane, energies[group])
            hessian.add(inputs, first=done, constant=constant)
            if original is not None:
                before_it, _ = _inputs(network, group, original, membrane)
                crossed[group].add(before_it, inputs, first=done, constant=constant)
        done += next(iter(signals.values())).shape[1] if signals else len(spikes)
        if progress:
            progress(done)
    behaviours = {
        p: Behaviour(np.concatenate([x for x, _ in parts]), np.concatenate([s for _, s in parts]))
        for p, parts in kept.items()
    }
    return Calibration(
        {g: h.mean() for g, h in hessians.items()},
        None if reference is None else {g: h.mean() for g, h in crossed.items()},
        {g: h.bias() for g, h in hessians.items()}, {g: h.bias() for g, h in crossed.items()},
        {g: e / len(spikes) for g, e in energies.items()}, peaks, counts, len(spikes), behaviours)


def hessian_bytes(network: Network, group: Group) -> int:
    """Bytes of a group's Hessian, float64."""
    d, groups = _size(network, group)
    return 8 * groups * d * d


def _size(network: Network, group: Group) -> tuple[int, int]:
    """Inputs of one output, and groups."""
    nodes = [network.nodes[n] for n in group]
    inputs = sum(int(np.prod(weights_of(network, n).weight.shape[1:])) for n in group)
    return inputs, nodes[0].groups if isinstance(nodes[0], Conv) else 1


def _refinable(network: Network, group: tuple[str, ...], spikes: np.ndarray) -> bool:
    """Linear layers into plain spiking neurons, all of the population's inputs, few enough numbers."""
    population = population_of(network, group[0])
    node, rule = network.nodes[population], network.conventions
    if not isinstance(node, Neuron) or not node.spiking or _drives(network, population) != set(group):
        return False
    if any(not isinstance(network.nodes[n], Linear) for n in group):
        return False
    if np.any(discretize(node, rule).v_start):
        return False
    if node.v_reset is not None and np.any(node.v_reset) and "v_reset" not in rule.ignore:
        return False
    plain = rule.spikes_per_step == "one" and not rule.v_floor and rule.bias == "current" and rule.output_delay == 0
    width = sum(network.nodes[n].weight.shape[1] for n in group)  # type: ignore[union-attr]
    return plain and rule.recurrent_bias_at_start and len(spikes) * spikes.shape[1] * (width + 1) <= FEATURES_MAX


def _drives(network: Network, population: str) -> set[str]:
    """What a population is given by, but for flattening and delays of whole signals on the way."""
    found, waiting = set(), [population]
    while waiting:
        for name in network.inputs_of(waiting.pop()):
            node = network.nodes[name]
            whole = isinstance(node, Delay) and bool(np.all(steps_of(node, network) == steps_of(node, network).flat[0]))
            if isinstance(node, Flatten) or whole:
                waiting.append(name)
            else:
                found.add(name)
    return found


def given(network: Network, layer: str, signals: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """What a layer of weights is given, (timesteps, batch, *shape of its input), as late as what it makes of that
    arrives in its population. signals: of all its inputs."""
    return late(network, layer, arriving(network, layer, signals))


def late(network: Network, layer: str, x: torch.Tensor) -> torch.Tensor:
    """The input x (timesteps, ...) of a layer, shifted by the steps its way into its population takes; where there are
    several ways, the sum of them."""
    total: torch.Tensor | None = None
    for lag in lags_into(network, layer, population_of(network, layer)):
        part = torch.cat([torch.zeros_like(x[:lag]), x[: len(x) - lag]]) if 0 < lag < len(x) else x if lag == 0 \
            else torch.zeros_like(x)
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
            lag += int(np.median(steps_of(node, network)))
        for target in network.outputs_of(name):
            step = lag + lag_of(network, name, target)
            if target == population:
                found.append(step)
            elif not isinstance(network.nodes[target], SOURCES):
                waiting.append((target, step))
    return found


def _inputs(
    network: Network, group: Group, signals: Mapping[str, torch.Tensor], membrane: bool,
    energy: np.ndarray | None = None,
) -> tuple[list[Given], torch.Tensor]:
    """Filtered inputs of a group of layers, and what a constant input of 1 gives at each time step, (timesteps,).

    energy is raised by the squared norms of the filtered and of the plain input at each time step.
    """
    target = network.nodes[population_of(network, group[0])]
    step = discretize(target, network.conventions) if isinstance(target, Neuron) and membrane else None
    inputs = []
    for layer in group:
        x = given(network, layer, signals)
        through = x if step is None else filtered(x, step)
        if energy is not None:
            for k, signal in enumerate((through, x)):
                energy[k] += signal.flatten(1).square().sum(1, dtype=torch.float64).cpu().numpy()
        node = network.nodes[layer]
        inputs.append(Given(through, node if isinstance(node, Conv) else None))
    one = torch.ones_like(x[:, :1].flatten(1)[:, :1])
    return inputs, (one if step is None else filtered(one, step)).flatten()
