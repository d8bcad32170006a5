"""One population: what stays of its weights, the values on what stays, and the integers of the grid.

Weights are compressed in threshold units (see on_chip.units): one unit moves the target's membrane by one
threshold, so errors of different neurons weigh as much as they matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...network.nodes import Array
from ..compressed_layer import CompressedLayer
from ..maths.hessian import Bias, centred, damped
from ..maths.prune import prune
from ..maths.quantize import inverse_factor, layer_error
from ..maths.supports import SUPPORTS, Choosing
from ..model import MEMORY, Stage, Stream
from ..module import Module
from ..recipe import Recipe
from .asymmetric import Followed, follow
from .calibrate import Calibration, Statistics
from .firing_rates import GAINS, row_scales
from .grid_search import Granted, Grids, OnGrid, Task, joined, onto_grid
from .spike_matching import Decay


@dataclass(frozen=True, eq=False)
class Around:
    """What a stage is compressed with: its statistics in the original, what recipes share, and the two streams."""

    calibration: Calibration
    statistics: Statistics
    original: Stream
    compressed: Stream


def compress_stage(
    stage: Stage, keep: Mapping[str, int], around: Around | None, recipe: Recipe, grids: Grids, *,
    decay: Decay | None = None, memory: int = MEMORY, progress: Callable[[int], None] | None = None,
) -> tuple[dict[str, CompressedLayer], Granted | None]:
    """All layers into one population, and the grids that they are on (None: on none).

    keep: weights left in each layer. around: None without calibration data. With an asymmetric method, layers are
    fitted to the inputs behind the compressed layers and the target is what the original's inputs gave.
    """
    how, modules = recipe.how, stage.modules
    calibration = None if around is None else around.calibration
    behaviour = None if calibration is None else calibration.behaviour
    refined = behaviour is not None and decay is not None and recipe.search
    corrected = recipe.biases == "corrected" and not refined  # refinement moves them itself
    followed: dict[tuple[str, ...], Followed] = {}
    if how.asymmetric and around is not None and around.compressed.changed:
        followed = follow(stage, around.original, around.compressed, around.calibration.samples, how.membrane,
                          corrected)
    tasks = [_task(m, stage, keep, around, followed, corrected, recipe, memory, progress) for m in modules]
    if how.rate_matching and around is not None and not refined:  # which meets every single spike
        tasks = _as_often(tasks, stage, around)
    if all(grids.bits(name) is None for name in stage.layers):
        return {name: layer for task in tasks for name, layer in _unrounded(task).items()}, None

    peak = None if calibration is None else calibration.peak
    found = onto_grid(tasks, stage, grids, search=recipe.search, data=calibration is not None, peak=peak,
                      behaviour=behaviour if refined else None, decay=decay)
    out: dict[str, CompressedLayer] = {}
    for task, m, error in zip(tasks, found.trial.integers, found.trial.errors, strict=True):
        out |= _layers(task, found, m, error, grids)
    return out, found.trial.granted


def _task(
    module: Module, stage: Stage, keep: Mapping[str, int], around: Around | None,
    followed: Mapping[tuple[str, ...], Followed], corrected: bool, recipe: Recipe, memory: int,
    progress: Callable[[int], None] | None,
) -> Task:
    how, stay = recipe.how, [keep[n] for n in module.layers]
    groups, d = module.groups, module.weight.shape[1]
    calibration = None if around is None else around.calibration
    if calibration is None:
        hessian = torch.eye(d, dtype=torch.float64).repeat(groups, 1, 1)
    else:
        hessian = module.of_hessian(calibration.hessians[module.group])
    target, biases = module.weight, None
    if module.layers in followed:
        found = followed[module.layers]
        hessian, target, biases = found.hessian, found.target, found.biases
    elif corrected and module.bias is not None and calibration is not None:
        biases = (module.of_bias(calibration.biases[module.group]),) * 2
        hessian = centred(hessian, *biases)
    limits = {n: recipe.of(n).fan_in for n in module.layers}
    fan_in = min((f for f in limits.values() if f is not None), default=None)
    support, known = recipe.support or how.support, None
    choosing = Choosing(recipe.block_in, recipe.damping, memory, progress)
    if around is not None and not followed and sum(stay) < target.numel():
        known = around.statistics.ground(
            stage, (module.layers, support, recipe.block_in, recipe.damping, corrected),
            lambda: SUPPORTS[support](target, hessian, choosing))
    pruned = prune(
        target, hessian, module.widths, stay, support=support, compensate=how.compensate, fan_in=fan_in,
        importance=module.importance if how.row_weights else None, how=choosing, known=known)
    hears = torch.from_numpy(module.hears)[:, None]  # what moves no membrane goes
    used = [damped(h, pruned.damping)[0] for h in hessian]
    factors = [inverse_factor(h) for h in used] if how.compensate else None
    # where something was pruned, the refit weights are what the grid should reach: they are the minimum on the support
    return Task(module, target, used, factors, pruned.weight * hears, pruned.mask & hears, pruned.damping,
                pruned.dead, biases, np.ones(len(target)))


def _as_often(tasks: list[Task], stage: Stage, around: Around) -> list[Task]:
    """The tasks with rows as strong as it takes for their neurons to fire as often as before (see rates)."""
    changed = around.compressed.changed or any(not torch.equal(t.weight, t.module.weight) for t in tasks)
    wanted = around.calibration.counts
    if not changed or not stage.alone or wanted is None:
        return tasks
    found = {name: layer for task in tasks for name, layer in _unrounded(task).items()}
    scales = row_scales(around.compressed.counts(stage, found, GAINS), wanted)
    column = torch.from_numpy(scales)[:, None]
    return [replace(t, target=t.target * column, weight=t.weight * column, scales=scales) for t in tasks]


def _unrounded(task: Task) -> dict[str, CompressedLayer]:
    """Pruned only: the weights that stay keep their floating-point values."""
    error = np.empty(len(task.weight))
    for rows, h in zip(task.module.rows, task.hessians, strict=True):
        error[rows] = layer_error(task.target[rows].numpy(), task.weight[rows].numpy(), h)
    return _finished(task, task.weight, error, {})


def _layers(
    task: Task, found: OnGrid, m: np.ndarray, error: Array, grids: Grids
) -> dict[str, CompressedLayer]:
    parts, granted = task.module.split(torch.from_numpy(m)), found.trial.granted.grids
    more: dict[str, dict[str, Any]] = {}
    for name in task.module.layers:
        grid = granted[name]
        if grids.bits(name) is None:
            continue
        more[name] = {"m": parts[name].numpy(), "step": np.asarray(grid.step), "bits": grids.bits(name),
                      "grid_range": (int(np.min(grid.low)), int(np.max(grid.m_max))),
                      "scale_share": found.trial.share, "missed_by": found.missed_by}
    return _finished(task, torch.from_numpy(joined(task.module, granted).value(m)), error, more, found.shift)


def bias_shift(target: Tensor, weight: Tensor, groups: list[slice], before: Bias, after: Bias) -> Array:
    """What each row's bias must make up for, (rows,) in thresholds: the minimum over b of E|M(W x - Q x' - b)|^2."""
    parts = [(target[rows] @ h - weight[rows] @ k) / after.unit
             for rows, h, k in zip(groups, before.drive, after.drive, strict=True)]
    found: Array = torch.cat(parts).numpy()
    return found


def _finished(
    task: Task, weight: Tensor, error: Array, more: Mapping[str, dict[str, Any]],
    shift: Array | None = None,
) -> dict[str, CompressedLayer]:
    """Back from threshold units into the model's, layer by layer. error: of each row, as it was scaled."""
    module = task.module
    lost = float((error / np.square(task.scales)).sum())
    energy = sum(float(((module.weight[rows] @ h) * module.weight[rows]).sum()) / 2
                 for rows, h in zip(module.rows, task.hessians, strict=True))
    masks, weights, out = module.split(task.mask), module.split(weight), {}
    hears = module.hears
    biased = next((n for n in module.layers if module.parts[n].bias is not None), None)
    if task.biases is not None:
        shift = bias_shift(module.weight * torch.from_numpy(task.scales)[:, None], weight, module.rows, *task.biases)
    for name in module.layers:
        part, gain = module.parts[name], np.where(hears, module.gains[name], 1.0)
        shape, per_row = part.shape, (-1, *(1,) * (len(part.shape) - 1))
        found: dict[str, Any] = {"m": None, "step": None, "bits": None, "grid_range": None, "scale_share": 1.0,
                                 "missed_by": None}
        found |= more.get(name, {})
        value = (weights[name].numpy() / gain[:, None]).reshape(shape)
        if found["m"] is not None:
            step = np.broadcast_to(np.asarray(found["step"]).reshape(-1), len(gain)) / gain
            found |= {"m": found["m"].reshape(shape), "step": step.reshape(per_row)}
            value = found["m"] * found["step"]
        bias = part.bias
        if bias is not None:
            bias = bias * task.scales
            if name == biased and shift is not None and np.any(shift):
                bias = bias + np.where(hears, shift, 0.0) / gain
        out[name] = CompressedLayer(
            weight=value, mask=masks[name].numpy().reshape(shape), bias=bias, error=lost,
            share_lost=lost / energy if energy > 0 else 0.0, dead_inputs=task.dead, damping=task.damping, **found)
    return out
