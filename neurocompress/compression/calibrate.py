"""One pass of the float network over calibration data: Hessians of all layers and peaks of all membranes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ..network.discrete import discretize
from ..network.graph import Network
from ..network.nodes import Conv, Linear, Neuron
from ..simulation.float import Peak, batches
from .hessian import Hessian, filtered, patches, thinned
from .refine import FEATURES_MAX


@dataclass(frozen=True, eq=False)
class Calibration:
    """hessians: by group of layers (see `joint_layers`), (groups, d, d) float64. peaks: by population, the largest
    membrane potential and the largest synaptic contribution to it in one step, in the network's units.
    behaviours: inputs and spikes of populations small enough to be refined neuron by neuron."""

    hessians: dict[tuple[str, ...], torch.Tensor]
    peaks: dict[str, Peak]
    samples: int
    behaviours: dict[str, Behaviour]


@dataclass(frozen=True, eq=False)
class Behaviour:
    """What a small population was given and did: x (samples, timesteps, d), its layers' inputs side by side in the
    order of `joint_layers`, each as late as it arrives; spikes (samples, timesteps, n)."""

    x: np.ndarray
    spikes: np.ndarray


def population_of(network: Network, layer: str) -> str:
    """The population that a layer of weights of a canonical network feeds."""
    name = layer
    while True:
        (name,) = network.outputs_of(name)
        if name in network.populations or name == network.output:
            return name


def joint_layers(network: Network) -> list[tuple[str, ...]]:
    """Layers of weights that share one Hessian: Linear layers into the same neurons together, others alone.

    Inputs that meet in one membrane (feed-forward and recurrent ones, branches) are correlated: their
    concatenated Hessian knows it (SBC, appendix B).
    """
    groups: list[tuple[str, ...]] = []
    for population in network.populations:
        into = [n for n in network.order if isinstance(network.nodes[n], (Linear, Conv))
                and population_of(network, n) == population]
        linear = tuple(n for n in into if isinstance(network.nodes[n], Linear))
        groups += [linear] if linear else []
        groups += [(n,) for n in into if n not in linear]
    return groups


def calibrate(
    network: Network, spikes: np.ndarray, *, membrane: bool = True, device: str = "cpu",
    progress: Callable[[int], None] | None = None,
) -> Calibration:
    """Statistics of a canonical network over spikes (samples, timesteps, *input shape).

    membrane: H_SMP of the filtered input (SBC); False gives the plain H of OBC and GPTQ.
    Memory: one batch of signals (see simulation.float.BLOCK_BYTES) and each layer's d x d matrix.
    """
    groups = [g for g in joint_layers(network) if population_of(network, g[0]) != network.output]
    feeds = {layer: network.inputs_of(layer)[0] for group in groups for layer in group}
    hessians: dict[tuple[str, ...], Hessian] = {}
    for group in groups:
        node = network.nodes[group[0]]
        if isinstance(node, Conv):
            hessians[group] = Hessian(int(np.prod(node.weight.shape[1:])), node.groups)
        else:
            hessians[group] = Hessian(sum(network.nodes[n].weight.shape[1] for n in group))  # type: ignore[union-attr]
    peaks: dict[str, Peak] = {}
    small = {population_of(network, g[0]): g for g in groups if membrane and _refinable(network, g, spikes)}
    kept: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {p: [] for p in small}
    done = 0
    for signals in batches(network, spikes, (*feeds.values(), *small), device=device, peaks=peaks):
        for population, group in small.items():
            x = torch.cat([late(network, layer, signals[feeds[layer]]) for layer in group], dim=-1)
            kept[population].append(
                (x.transpose(0, 1).cpu().numpy(), signals[population].transpose(0, 1).cpu().numpy()))
        for group, hessian in hessians.items():
            hessian.add(_rows(network, group, signals, feeds, membrane))
        done += next(iter(signals.values())).shape[1] if signals else len(spikes)
        if progress:
            progress(done)
    behaviours = {
        p: Behaviour(np.concatenate([x for x, _ in parts]), np.concatenate([s for _, s in parts]))
        for p, parts in kept.items()
    }
    return Calibration({g: h.mean() for g, h in hessians.items()}, peaks, len(spikes), behaviours)


def _refinable(network: Network, group: tuple[str, ...], spikes: np.ndarray) -> bool:
    """Linear layers into plain spiking neurons, all of the population's inputs, few enough numbers."""
    population = population_of(network, group[0])
    node, rule = network.nodes[population], network.conventions
    if not isinstance(node, Neuron) or node.v_threshold is None or len(network.inputs_of(population)) != len(group):
        return False
    if any(not isinstance(network.nodes[n], Linear) for n in group):
        return False
    if node.v_reset is not None and np.any(node.v_reset) and "v_reset" not in rule.ignore:
        return False
    plain = rule.spikes_per_step == "one" and not rule.v_floor and rule.bias == "current" and rule.output_delay == 0
    width = sum(network.nodes[n].weight.shape[1] for n in group)  # type: ignore[union-attr]
    return plain and rule.recurrent_bias_at_start and len(spikes) * spikes.shape[1] * (width + 1) <= FEATURES_MAX


def late(network: Network, layer: str, x: torch.Tensor) -> torch.Tensor:
    """The input x (timesteps, ...) of a layer, shifted by the steps its way into the population takes."""
    lag, name = network.conventions.synaptic_delay, layer
    while name not in network.populations:
        (target,) = network.outputs_of(name)
        if (name, target) in network.feedback:
            lag = 1
        name = target
    if lag == 0:
        return x
    out = torch.zeros_like(x)
    out[lag:] = x[: len(x) - lag]
    return out


def _rows(network: Network, group: tuple[str, ...], signals, feeds, membrane: bool) -> torch.Tensor:  # type: ignore[no-untyped-def]
    """Filtered inputs of a group of layers, one row per sample, time step and window."""
    node, target = network.nodes[group[0]], network.nodes[population_of(network, group[0])]
    step = discretize(target, network.conventions) if isinstance(target, Neuron) and membrane else None

    def through(layer: str) -> torch.Tensor:
        x = late(network, layer, signals[feeds[layer]])
        return x if step is None else filtered(x, step)

    if isinstance(node, Conv):
        windows = int(np.prod(network.shapes[group[0]][1:]))
        x = thinned(through(group[0]), windows)
        return patches(x.flatten(0, 1), node)
    return torch.cat([thinned(through(n), 1).flatten(0, 1) for n in group], dim=1)
