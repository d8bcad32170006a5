"""The walk over a network's populations: mask, scale and integers of every layer of weights.

Weights are compressed in threshold units (see chip.units): one unit moves the target's membrane by one
threshold, so errors of different neurons weigh as much as they matter. Which steps are allowed is asked of
`fit`, which knows the chip; this module knows none.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch

from ..errors import refuse
from ..grid import Grid
from ..network.discrete import discretize, threshold_of
from ..network.graph import Network
from ..network.nodes import Array, Conv, Linear
from .calibrate import Calibration, joint_layers, population_of
from .prune import magnitude
from .quantize import better_rows, damped_inverse_factor, gptq, layer_error, rtn
from .refine import Decay, Target, refine

METHODS = ("sbc", "gptq", "rtn")

#: Shares of the largest weight that the scale search of "sbc" tries as the end of the grid; the others end at 1.
SEARCH = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.42, 0.35)

#: Scales, best first, that are refined until one keeps every calibration spike.
REFINED = 4
#: Ends of the grid that are refined after that.
FINE = tuple(1.04 - 0.01 * k for k in range(20))
#: Violation in thresholds, over all neurons and calibration steps, above which other scales are not tried.
HOPELESS = 1.0

#: Steps asked for, by layer, in threshold units, () or (rows,) -> steps granted.
Fit = Callable[[str, dict[str, Array], dict[str, int]], dict[str, Array]]


@dataclass(frozen=True, eq=False)
class CompressedLayer:
    """m: grid integers in the weight's shape, int64. step: weight units per integer, (rows, 1...) broadcastable.
    bias: the layer's bias after correction, or None. error: mean squared error of the filtered input in threshold
    units, summed over the outputs of all layers into the population. scale_share: end of the grid as a share of the
    largest weight. missed_by: None, or by how much calibration spikes are still missed, in thresholds (0: none)."""

    m: np.ndarray
    step: Array
    bias: Array | None
    bits: int
    error: float
    scale_share: float
    missed_by: float | None = None

    @property
    def weight(self) -> Array:
        return self.m * self.step


def compress_layers(
    network: Network, row_gains: dict[str, Array], decays: dict[str, Decay], calibration: Calibration | None,
    fit: Fit, *, method: str, bits: int, sparsity: float, per_channel: bool = False,
    progress: Callable[[str], None] | None = None,
) -> dict[str, CompressedLayer]:
    """Every Linear and Conv node of a canonical network that feeds neurons, on the grid that `fit` grants.

    row_gains: by layer, thresholds per unit of input for each row (neuron or channel), float64 (rows,).
    decays: by population, the factors that the chip will really use. calibration: None allows only method "rtn".
    """
    if method not in METHODS:
        raise refuse(f"unknown method '{method}'", fix=f"Known methods: {', '.join(METHODS)}")
    if calibration is None and method != "rtn":
        raise refuse(f"method '{method}' needs calibration data", fix="Give --data, or use --method rtn")
    groups: dict[str, list[tuple[str, ...]]] = {}
    for group in joint_layers(network):
        groups.setdefault(population_of(network, group[0]), []).append(group)
    done: dict[str, CompressedLayer] = {}
    for population, members in groups.items():
        if population == network.output:
            continue
        if progress:
            progress(population)
        done |= _population(network, population, members, row_gains, decays, calibration, fit, method, bits, sparsity,
                            per_channel)
    return done


def _population(  # type: ignore[no-untyped-def]
    network, population, members, row_gains, decays, calibration, fit: Fit, method, bits, sparsity, per_channel
) -> dict[str, CompressedLayer]:
    layers = [name for group in members for name in group]
    nodes: dict[str, Linear | Conv] = {name: network.nodes[name] for name in layers}
    weights = {
        name: np.asarray(node.weight, dtype=np.float64).reshape(len(node.weight), -1) * row_gains[name][:, None]
        for name, node in nodes.items()
    }
    masks = {name: magnitude(w, sparsity) if sparsity > 0 else None for name, w in weights.items()}
    kept = {name: w if masks[name] is None else w * masks[name] for name, w in weights.items()}
    m_max = Grid.levels(bits)
    axis = 1 if per_channel else None
    largest = {name: np.abs(w).max(axis=axis) for name, w in kept.items()}
    floor = max(float(np.max(a)) for a in largest.values()) or 1.0
    ends = {name: np.where(a > 0, a, floor) for name, a in largest.items()}
    sizes = {name: w.size for name, w in weights.items()}
    hessians = None if calibration is None else calibration.hessians

    factors = {g: _factors(hessians[g]) for g in members} if hessians is not None and method != "rtn" else {}

    def trial(share: float) -> _Trial:
        steps = fit(population, {n: ends[n] * share / m_max for n in layers}, sizes)
        integers: dict[str, np.ndarray] = {}
        error = 0.0
        for group in members:
            found, lost = _group(group, nodes, weights, masks, steps, m_max, hessians, factors.get(group), method)
            integers |= found
            error += lost
        return _Trial(error, share, steps, integers)

    tried = sorted((trial(share) for share in (SEARCH if method == "sbc" else (1.0,))), key=lambda t: t.error)
    best, shift, missed_by = tried[0], None, None
    behaviour = calibration.behaviours.get(population) if calibration is not None and method == "sbc" else None
    if behaviour is not None:
        more = (trial(share) for share in FINE)
        best, shift, missed_by = _refined(
            network, members[0], behaviour, weights, masks, m_max, row_gains, decays[population],
            itertools.chain(tried[:REFINED], more))
    fit(population, {n: ends[n] * best.share / m_max for n in layers}, sizes)  # the last word is the chosen one
    biases = {name: node.bias for name, node in nodes.items()}
    if shift is not None and np.any(shift):
        first = next(name for name in layers if biases[name] is not None)
        biases[first] = biases[first] + shift / row_gains[first]
    return {
        name: CompressedLayer(
            best.integers[name].reshape(node.weight.shape),
            (np.broadcast_to(best.steps[name], len(node.weight)) / row_gains[name]).reshape(
                -1, *(1,) * (node.weight.ndim - 1)),
            biases[name], bits, best.error, best.share, missed_by,
        )
        for name, node in nodes.items()
    }


@dataclass(frozen=True, eq=False)
class _Trial:
    """One end of the grid: the summed layer error, the steps granted, the integers found."""

    error: float
    share: float
    steps: dict[str, Array]
    integers: dict[str, np.ndarray]


def _refined(  # type: ignore[no-untyped-def]
    network, layers, behaviour, weights, masks, m_max, row_gains, decay: Decay, tried: Iterable[_Trial]
) -> tuple[_Trial, Array, float]:
    """The trials, best first, until one can be moved to where every calibration spike stays."""
    constant = sum(
        (network.nodes[n].bias * row_gains[n] for n in layers if network.nodes[n].bias is not None),
        np.zeros(behaviour.spikes.shape[2]))
    node, rule = network.nodes[population_of(network, layers[0])], network.conventions
    step = discretize(node, rule)
    leak = np.broadcast_to(step.leak / threshold_of(step), constant.shape)
    target = Target(behaviour.x, behaviour.spikes, constant, leak, decay, rule.reset,
                    rule.two_phase_reset and rule.reset == "subtract")
    weight = np.concatenate([weights[n] for n in layers], axis=1)
    biased = any(network.nodes[n].bias is not None for n in layers)
    mask = None if masks[layers[0]] is None else np.concatenate([masks[n] for n in layers], axis=1)
    found: tuple[_Trial, Array, float] | None = None
    for trial in tried:
        m = np.concatenate([trial.integers[n] for n in layers], axis=1)
        wide = [np.broadcast_to(np.asarray(trial.steps[n]).reshape(-1, 1), weights[n].shape) for n in layers]
        m, shift, left = refine(target, weight, m, np.concatenate(wide, axis=1), m_max, mask, biased,
                                np.inf if found is None else found[2])
        parts = np.split(m, np.cumsum([weights[n].shape[1] for n in layers])[:-1], axis=1)
        if found is None or left < found[2]:
            found = _Trial(trial.error, trial.share, trial.steps, dict(zip(layers, parts, strict=True))), shift, left
        if found[2] == 0.0 or found[2] > HOPELESS:
            break
    assert found is not None
    return found


def _factors(hessian: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [damped_inverse_factor(h) for h in hessian]


def _group(  # type: ignore[no-untyped-def]
    group, nodes, weights, masks, steps, m_max, hessians, factors, method
) -> tuple[dict[str, np.ndarray], float]:
    """Integers of layers that share a Hessian, and their summed error."""
    widths = [weights[name].shape[1] for name in group]
    weight = np.concatenate([weights[name] for name in group], axis=1)
    mask = None
    if any(masks[name] is not None for name in group):
        mask = np.concatenate([
            np.ones_like(weights[n], dtype=bool) if masks[n] is None else masks[n] for n in group], axis=1)
    step = np.concatenate(
        [np.broadcast_to(np.asarray(steps[n]).reshape(-1, 1), weights[n].shape) for n in group], axis=1)
    if method == "rtn":
        m = rtn(weight, Grid(step, m_max), mask)
        error = float(((weight - m * step) ** 2).sum()) if hessians is None else sum(
            float(layer_error(weight[r], (m * step)[r], h).sum())
            for r, h in zip(_group_rows(nodes[group[0]]), hessians[group], strict=True))
    else:
        m, error = np.empty(weight.shape, dtype=np.int64), 0.0
        for rows, hessian, factor in zip(_group_rows(nodes[group[0]]), hessians[group], factors, strict=True):
            part = None if mask is None else mask[rows]
            grid = Grid(step[rows], m_max)
            m[rows] = gptq(weight[rows], hessian, grid, part, factor)
            if method == "sbc":
                m[rows] = better_rows(weight[rows], m[rows], rtn(weight[rows], grid, part), grid, hessian)
            error += float(layer_error(weight[rows], m[rows] * step[rows], hessian).sum())
    parts = np.split(m, np.cumsum(widths)[:-1], axis=1)
    return dict(zip(group, parts, strict=True)), error


def _group_rows(node: Linear | Conv) -> list[slice]:
    """Rows of each convolution group; a Linear layer is one group."""
    groups = node.groups if isinstance(node, Conv) else 1
    size = len(node.weight) // groups
    return [slice(g * size, (g + 1) * size) for g in range(groups)]
