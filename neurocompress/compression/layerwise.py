"""The walk over a network's populations: what stays, which grid, which integers, layer by layer.

Weights are compressed in threshold units (see chip.units): one unit moves the target's membrane by one
threshold, so errors of different neurons weigh as much as they matter. Which steps a grid may have is asked of
`Grids`, which knows the recipe or the chip; this module knows neither.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..grid import Grid
from ..network.discrete import discretize, threshold_of
from ..network.graph import Network
from ..network.nodes import Array, Node
from .calibrate import Behaviour, Calibration, calibrate
from .hessian import damped
from .module import Module
from .ordering import MEMORY
from .prune import prune
from .quantize import best_scale, better_rows, descend, gptq, inverse_factor, layer_error, rtn
from .recipe import Recipe
from .refine import Decay, Target, refine

#: Shares of the largest weight that the scale search tries as the end of the grid; the others end at 1.
SEARCH = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.42, 0.35)

#: Scales, best first, that are refined until one keeps every calibration spike.
REFINED = 4
#: Ends of the grid that are refined after that.
FINE = tuple(1.04 - 0.01 * k for k in range(20))
#: Violation in thresholds, over all neurons and calibration steps, above which other scales are not tried.
HOPELESS = 1.0


class Grids(Protocol):
    """Where grids come from: a recipe, or a chip.

    per_row: whether every row may choose its own end. free: whether any step is granted, not only the asked ones.
    """

    per_row: bool
    free: bool

    def bits(self, layer: str) -> int | None:
        """Stored bits of a layer's weights; None leaves them in floating point."""

    def grids(self, population: str, ends: Mapping[str, Array], sizes: Mapping[str, int]) -> dict[str, Grid]:
        """Grids of all layers into a population that reach to `ends` (rows, 1), in threshold units, or near it. The
        last call for a population is the one that counts."""


@dataclass(frozen=True, eq=False)
class CompressedLayer:
    """weight: in the weight's shape and the model's units, float64, exactly m * step where there is a grid.
    m: grid integers, int64, or None. step: weight units per integer, (rows, 1...) broadcastable, or None.
    grid_range: smallest and largest m of the grid. mask: weights that were kept. bias: the layer's bias after
    correction, or None. error: mean squared error of the filtered input in threshold units, summed over the outputs of
    all layers into the population; share_lost: the same relative to the input's own square. scale_share: end of the
    grid as a share of the largest weight (the mean over rows). missed_by: None, or by how much calibration spikes are
    still missed, in thresholds (0: none). dead_inputs: inputs without a calibration spike. damping: what the Hessian
    needed."""

    weight: Array
    m: np.ndarray | None
    step: Array | None
    grid_range: tuple[int, int] | None
    mask: np.ndarray
    bias: Array | None
    bits: int | None
    error: float
    share_lost: float
    scale_share: float
    missed_by: float | None
    dead_inputs: int
    damping: float


@dataclass(frozen=True, eq=False)
class _Task:
    """One module on its way: the weights to reach, their Hessians (damped), and what was pruned."""

    module: Module
    target: Tensor
    hessians: list[Tensor]
    factors: list[tuple[Tensor, Tensor]] | None
    weight: Tensor
    mask: Tensor
    damping: float
    dead: int

    @property
    def stays(self) -> np.ndarray | None:
        return None if bool(self.mask.all()) else self.mask.numpy()


def compress_population(
    network: Network, original: Network, modules: list[Module], keep: Mapping[str, int], spikes: np.ndarray | None,
    calibration: Calibration | None, recipe: Recipe, grids: Grids, *, decay: Decay | None = None, device: str = "cpu",
    memory: int = MEMORY, progress: Callable[[int], None] | None = None,
) -> dict[str, CompressedLayer]:
    """All layers into one population of a canonical network.

    network: with the populations before it compressed already; original: as it was. keep: weights left in each
    layer. calibration: of the original network; with the method's `follow` the inputs of `network` are used instead
    and the target is what the original's inputs gave.
    """
    how = recipe.how
    followed = None
    if how.follow and spikes is not None and calibration is not None and network is not original:
        followed = calibrate(network, spikes, membrane=how.membrane, groups=[m.layers for m in modules],
                             reference=original, device=device)
    tasks = [_task(m, keep, calibration, followed, recipe, memory, progress) for m in modules]
    population = modules[0].population
    if grids.bits(modules[0].layers[0]) is None:
        return {name: layer for task in tasks for name, layer in _unrounded(task, network).items()}

    layers = [name for task in tasks for name in task.module.layers]
    parts = {n: w for task in tasks for n, w in task.module.split(task.weight).items()}
    largest = {n: w.abs().amax(dim=1, keepdim=True).numpy() for n, w in parts.items()}
    top = max(float(a.max()) for a in largest.values()) or 1.0
    ends = {n: np.where(a > 0, a, top) for n, a in largest.items()}
    sizes = {n: w.numel() for n, w in parts.items()}

    def trial(share: float) -> _Trial:
        granted = grids.grids(population, {n: e * share for n, e in ends.items()}, sizes)
        found = [_rounded(task, granted, how.compensate, how.search) for task in tasks]
        return _Trial(share, granted, [m for m, _ in found], [e for _, e in found])

    tried = sorted((trial(s) for s in (SEARCH if how.search else (1.0,))), key=lambda t: t.total)
    best = _row_by_row(tried, tasks) if grids.per_row else tried[0]
    if how.search and calibration is not None:
        best = _polished(best, tasks, grids.free and grids.per_row)
    shift, missed_by = None, None
    behaviour = calibration.behaviours.get(population) if calibration is not None and how.search else None
    if behaviour is not None and decay is not None and len(tasks) == 1:
        more = (trial(s) for s in FINE)
        best, shift, missed_by = _refined(original, tasks[0], behaviour, decay, itertools.chain(tried[:REFINED], more))
    if not grids.per_row:
        grids.grids(population, {n: e * best.share for n, e in ends.items()}, sizes)  # the last word is the chosen one
    out: dict[str, CompressedLayer] = {}
    for task, m, error in zip(tasks, best.integers, best.errors, strict=True):
        out |= _layers(task, network, best, m, float(error.sum()), shift, missed_by, grids)
    assert set(out) == set(layers)
    return out


def _task(
    module: Module, keep: Mapping[str, int], calibration: Calibration | None, followed: Calibration | None,
    recipe: Recipe, memory: int, progress: Callable[[int], None] | None,
) -> _Task:
    how, stay = recipe.how, [keep[n] for n in module.layers]
    groups, d = module.groups, module.weight.shape[1]
    if calibration is None:
        hessian = torch.eye(d, dtype=torch.float64).repeat(groups, 1, 1)
    else:
        hessian = (followed or calibration).hessians[module.layers]
    target = module.weight
    if followed is not None and followed.crossed is not None:
        target = _target(module, hessian, followed.crossed[module.layers], recipe.damping)
    limits = {n: recipe.of(n).fan_in for n in module.layers}
    fan_in = min((f for f in limits.values() if f is not None), default=None)
    pruned = prune(
        target, hessian, module.widths, stay, support=recipe.support or how.support, compensate=how.compensate,
        fan_in=fan_in, importance=module.importance if how.follow else None, block_in=recipe.block_in,
        damping=recipe.damping, memory=memory, progress=progress)
    used = [damped(h, pruned.damping)[0] for h in hessian]
    factors = [inverse_factor(h) for h in used] if how.compensate else None
    # where something was pruned, the refit weights are what the grid should reach: they are the minimum on the support
    return _Task(module, target, used, factors, pruned.weight, pruned.mask, pruned.damping, pruned.dead)


def _target(module: Module, hessian: Tensor, crossed: Tensor, damping: float) -> Tensor:
    """The weights that, given the compressed inputs X', come closest to W X: the minimum of
    E|W X - Q X'|^2 + damping |Q - W|^2 (the target of GPTAQ and Qronos, here with the neuron's filter)."""
    parts = []
    for rows, h, c in zip(module.rows, hessian, crossed, strict=True):
        inverted, share = damped(h, damping)
        added = inverted - h
        w = module.weight[rows]
        parts.append(torch.linalg.solve(inverted, (w @ c + w @ added).T).T)
    return torch.cat(parts)


@dataclass(frozen=True, eq=False)
class _Trial:
    """One end of the grid as a share of the largest weight (a mean, where rows chose their own): the grids granted,
    and by task the integers found and the error of each row."""

    share: float
    granted: dict[str, Grid]
    integers: list[np.ndarray]
    errors: list[np.ndarray]

    @property
    def total(self) -> float:
        return float(sum(e.sum() for e in self.errors))


def _rounded(task: _Task, granted: Mapping[str, Grid], compensate: bool, search: bool) -> tuple[np.ndarray, np.ndarray]:
    """Integers (rows, d) and the error of each row."""
    grid = _joined(task.module, granted)
    weight, m = task.weight.numpy(), np.empty(task.weight.shape, dtype=np.int64)
    error = np.empty(len(weight))
    for g, rows in enumerate(task.module.rows):
        part, mask = grid.of_rows(rows), None if task.stays is None else task.stays[rows]
        nearest = rtn(weight[rows], part, mask)
        m[rows] = nearest
        if compensate:
            assert task.factors is not None
            m[rows] = gptq(weight[rows], task.hessians[g], part, mask, task.factors[g])
            if search:
                m[rows] = better_rows(task.target.numpy()[rows], m[rows], nearest, part, task.hessians[g])
        error[rows] = layer_error(task.target.numpy()[rows], part.value(m[rows]), task.hessians[g])
    return m, error


def _joined(module: Module, granted: Mapping[str, Grid]) -> Grid:
    """The grids of a module's layers side by side, every number (rows, d)."""

    def wide(number: str) -> np.ndarray:
        return np.concatenate([
            np.broadcast_to(np.asarray(getattr(granted[n], number)).reshape(-1, 1), (len(module.weight), width))
            for n, width in zip(module.layers, module.widths, strict=True)], axis=1)

    return Grid(wide("step"), wide("m_max"), wide("low"), wide("stride"))


def _row_by_row(tried: list[_Trial], tasks: list[_Task]) -> _Trial:
    """Every row with the end that suits it best."""
    integers, errors, shares, granted = [], [], [], {}
    for k, task in enumerate(tasks):
        error = np.stack([t.errors[k] for t in tried])
        best = error.argmin(axis=0)
        rows = np.arange(len(best))
        integers.append(np.stack([t.integers[k] for t in tried])[best, rows])
        errors.append(error[best, rows])
        shares.append(np.array([t.share for t in tried])[best])
        for name in task.module.layers:
            steps = np.stack([np.broadcast_to(np.asarray(t.granted[name].step).reshape(-1), len(best)) for t in tried])
            granted[name] = replace(tried[0].granted[name], step=steps[best, rows][:, None])
    return _Trial(float(np.mean(np.concatenate(shares))), granted, integers, errors)


def _polished(trial: _Trial, tasks: list[_Task], rescale: bool) -> _Trial:
    """Coordinate descent on the integers, and where any step may be chosen the best one of each row for them."""
    granted, integers, errors = dict(trial.granted), [], []
    for task, m in zip(tasks, trial.integers, strict=True):
        found, error, target = m.copy(), np.empty(len(m)), task.target.numpy()
        factor = np.ones(len(m))
        for g, rows in enumerate(task.module.rows):
            part = _joined(task.module, granted).of_rows(rows)
            mask = None if task.stays is None else task.stays[rows]
            for _ in range(2 if rescale else 1):
                if rescale:
                    more = best_scale(target[rows], part.value(found[rows]), task.hessians[g])
                    factor[rows] *= more
                    part = replace(part, step=part.step * more[:, None])
                found[rows] = descend(target[rows], found[rows], task.hessians[g], part, mask)
            error[rows] = layer_error(target[rows], part.value(found[rows]), task.hessians[g])
        for name in task.module.layers:
            step = np.broadcast_to(np.asarray(granted[name].step).reshape(-1), len(m))
            granted[name] = replace(granted[name], step=(step * factor)[:, None])
        integers.append(found)
        errors.append(error)
    return _Trial(trial.share, granted, integers, errors)


def _refined(
    network: Network, task: _Task, behaviour: Behaviour, decay: Decay, tried: itertools.chain[_Trial]
) -> tuple[_Trial, Array | None, float]:
    """The trials, best first, until one can be moved to where every calibration spike stays."""
    module = task.module
    constant = np.zeros(len(module.weight)) if module.bias is None else np.asarray(module.bias)
    rule = network.conventions
    step = discretize(network.nodes[module.population], rule)  # type: ignore[arg-type]
    leak = np.broadcast_to(step.leak / threshold_of(step), constant.shape)
    goal = Target(behaviour.x, behaviour.spikes, constant, leak, decay, rule.reset,
                  rule.two_phase_reset and rule.reset == "subtract")
    found: tuple[_Trial, Array, float] | None = None
    for trial in tried:
        grid = _joined(module, trial.granted)
        m, shift, left = refine(goal, module.weight.numpy(), trial.integers[0], grid.step, int(np.max(grid.m_max)),
                                task.stays, module.bias is not None, np.inf if found is None else found[2])
        if found is None or left < found[2]:
            found = replace(trial, integers=[m]), shift, left
        if found[2] == 0.0 or found[2] > HOPELESS:
            break
    assert found is not None
    return found


def _unrounded(task: _Task, network: Network) -> dict[str, CompressedLayer]:
    """Pruned only: the weights that stay keep their floating-point values."""
    error = sum(float(layer_error(task.target[rows].numpy(), task.weight[rows].numpy(), h).sum())
                for rows, h in zip(task.module.rows, task.hessians, strict=True))
    return _finished(task, network, task.weight, error, {})


def _layers(
    task: _Task, network: Network, trial: _Trial, m: np.ndarray, error: float, shift: Array | None,
    missed_by: float | None, grids: Grids,
) -> dict[str, CompressedLayer]:
    parts = task.module.split(torch.from_numpy(m))
    more = {}
    for name in task.module.layers:
        grid = trial.granted[name]
        more[name] = {"m": parts[name].numpy(), "step": np.asarray(grid.step), "bits": grids.bits(name),
                      "grid_range": (int(np.min(grid.low)), int(np.max(grid.m_max))), "scale_share": trial.share,
                      "missed_by": missed_by}
    return _finished(task, network, torch.from_numpy(_joined(task.module, trial.granted).value(m)), error, more, shift)


def _finished(  # type: ignore[no-untyped-def]
    task: _Task, network: Network, weight: Tensor, error: float, more, shift: Array | None = None
) -> dict[str, CompressedLayer]:
    """Back from threshold units into the model's, layer by layer."""
    module = task.module
    energy = sum(float(((module.weight[rows] @ h) * module.weight[rows]).sum()) / 2
                 for rows, h in zip(module.rows, task.hessians, strict=True))
    masks, weights, out = module.split(task.mask), module.split(weight), {}
    biased = next((n for n in module.layers if _node(network, n).bias is not None), None)
    for name in module.layers:
        node, gain = _node(network, name), module.gains[name]
        shape, per_row = node.weight.shape, (-1, *(1,) * (node.weight.ndim - 1))
        found = {"m": None, "step": None, "bits": None, "grid_range": None, "scale_share": 1.0, "missed_by": None}
        found |= more.get(name, {})
        value = (weights[name].numpy() / gain[:, None]).reshape(shape)
        if found["m"] is not None:
            step = np.broadcast_to(np.asarray(found["step"]).reshape(-1), len(gain)) / gain
            found |= {"m": found["m"].reshape(shape), "step": step.reshape(per_row)}
            value = found["m"] * found["step"]
        bias = node.bias
        if name == biased and shift is not None and np.any(shift):
            bias = bias + shift / gain
        out[name] = CompressedLayer(
            weight=value, mask=masks[name].numpy().reshape(shape), bias=bias, error=error,
            share_lost=error / energy if energy > 0 else 0.0, dead_inputs=task.dead, damping=task.damping, **found)
    return out


def _node(network: Network, name: str):  # type: ignore[no-untyped-def]
    return network.nodes[name]


def with_layers(network: Network, layers: Mapping[str, CompressedLayer]) -> Network:
    """The network with these layers' weights and biases."""
    changed: dict[str, Node] = {}
    for name, layer in layers.items():
        node = _node(network, name)
        weight = layer.weight.astype(node.weight.dtype) if node.weight.dtype.kind == "f" else layer.weight
        changed[name] = replace(node, weight=weight, bias=layer.bias)
    return network.with_nodes(changed)
