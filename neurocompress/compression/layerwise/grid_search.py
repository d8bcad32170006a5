"""Onto the grid: one population's weights as integers, on the ends of the grid that lose least.

Which steps a grid may have is asked of `Grids`, which knows the recipe or the chip; this module knows neither.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from torch import Tensor

from ...network.grid import Grid
from ...network.nodes import Array
from ...simulation.float import Peak
from ..maths.hessian import Bias
from ..maths.quantize import best_scale, better_rows, descend, gptq, layer_error, rtn
from ..model import Resets, Stage
from ..module import Module
from .calibrate import Behaviour
from .spike_matching import Decay, Effort, Target, refine

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

    @property
    def per_row(self) -> bool: ...

    @property
    def free(self) -> bool: ...

    def bits(self, layer: str) -> int | None:
        """Stored bits of a layer's weights; None leaves them in floating point."""

    def grids(
        self, population: str, ends: Mapping[str, Array], sizes: Mapping[str, int], peak: Peak | None
    ) -> Granted:
        """Grids of all layers into a population that reach to `ends` (rows, 1), in threshold units, or near it.

        sizes: weights of each layer. peak: of the population in calibration, None without data."""


@dataclass(frozen=True, eq=False)
class Granted:
    """grids: by layer. choice: what the one who granted them wants to know of it later."""

    grids: dict[str, Grid]
    choice: object = None


@dataclass(frozen=True, eq=False)
class Task:
    """One module on its way: the weights to reach, their Hessians (damped), and what was pruned. biases: where the
    rows' biases are corrected, how a constant input goes with the inputs before and after compression. scales: (rows,)
    what the rows were multiplied by, and their biases are to be."""

    module: Module
    target: Tensor
    hessians: list[Tensor]
    factors: list[tuple[Tensor, Tensor]] | None
    weight: Tensor
    mask: Tensor
    damping: float
    dead: int
    biases: tuple[Bias, Bias] | None
    scales: Array

    @property
    def stays(self) -> np.ndarray | None:
        return None if bool(self.mask.all()) else self.mask.numpy()


@dataclass(frozen=True, eq=False)
class OnGrid:
    """trial: the one chosen. shift: the change of each neuron's constant input that refinement found, and missed_by
    what it left (None: not refined)."""

    trial: Trial
    shift: Array | None
    missed_by: float | None


def onto_grid(
    tasks: list[Task], stage: Stage, grids: Grids, *, search: bool, data: bool, peak: Peak | None,
    behaviour: Behaviour | None, decay: Decay | None,
) -> OnGrid:
    """The integers of one population's modules.

    search: try several ends of the grid and descend. data: whether the Hessians are of calibration data. behaviour and
    decay: of a population of one module that is to be refined, as the original network and the chip have them.
    """
    parts = {n: w for task in tasks for n, w in task.module.split(task.weight).items()}
    largest = {n: w.abs().amax(dim=1, keepdim=True).numpy() for n, w in parts.items()}
    top = max(float(a.max()) for a in largest.values()) or 1.0
    ends = {n: np.where(a > 0, a, top) for n, a in largest.items()}
    sizes = {n: w.numel() for n, w in parts.items()}

    def trial(share: float, of_rows: Mapping[str, Array] | None = None) -> Trial:
        granted = grids.grids(
            stage.population, {n: e * (share if of_rows is None else of_rows[n]) for n, e in ends.items()}, sizes, peak)
        found = [_rounded(task, granted.grids, search) for task in tasks]
        return Trial(share, granted, [m for m, _ in found], [e for _, e in found])

    tried = sorted((trial(s) for s in (SEARCH if search else (1.0,))), key=lambda t: t.total)
    best = tried[0]
    if grids.per_row:
        best, shares = _row_by_row(tried, tasks)
        if best.granted.choice is not None:  # who grants must know of the rows' own ends
            best = trial(best.share, shares)
    if search and data:
        best = _polished(best, tasks, grids.free and grids.per_row)
    if behaviour is None or decay is None or stage.resets is None:
        return OnGrid(best, None, None)
    more = (start for s in FINE for t in [trial(s)] for start in (t, _polished(t, tasks, False)))
    return _refined(stage.resets, tasks[0], behaviour, decay, itertools.chain(tried[:REFINED], [best], more))


@dataclass(frozen=True, eq=False)
class Trial:
    """One end of the grid as a share of the largest weight (a mean, where rows chose their own): the grids granted,
    and by task the integers found and the error of each row."""

    share: float
    granted: Granted
    integers: list[np.ndarray]
    errors: list[np.ndarray]

    @property
    def total(self) -> float:
        return float(sum(e.sum() for e in self.errors))


def _rounded(task: Task, granted: Mapping[str, Grid], search: bool) -> tuple[np.ndarray, np.ndarray]:
    """Integers (rows, d) and the error of each row."""
    grid = joined(task.module, granted)
    weight, m = task.weight.numpy(), np.empty(task.weight.shape, dtype=np.int64)
    error = np.empty(len(weight))
    for g, rows in enumerate(task.module.rows):
        part, mask = grid.of_rows(rows), None if task.stays is None else task.stays[rows]
        nearest = rtn(weight[rows], part, mask)
        m[rows] = nearest
        if task.factors is not None:
            m[rows] = gptq(weight[rows], task.hessians[g], part, mask, task.factors[g])
            if search:
                m[rows] = better_rows(task.target.numpy()[rows], m[rows], nearest, part, task.hessians[g])
        error[rows] = layer_error(task.target.numpy()[rows], part.value(m[rows]), task.hessians[g])
    return m, error


def joined(module: Module, granted: Mapping[str, Grid]) -> Grid:
    """The grids of a module's layers side by side, every number (rows, d)."""

    def wide(number: str) -> np.ndarray:
        return np.concatenate([
            np.broadcast_to(np.asarray(getattr(granted[n], number)).reshape(-1, 1), (len(module.weight), width))
            for n, width in zip(module.layers, module.widths, strict=True)], axis=1)

    return Grid(wide("step"), wide("m_max"), wide("low"), wide("stride"))


def _row_by_row(tried: list[Trial], tasks: list[Task]) -> tuple[Trial, dict[str, Array]]:
    """Every row with the end that suits it best, and by layer these ends as shares of the largest weight, (rows, 1)."""
    integers, errors, shares, grids = [], [], {}, {}
    for k, task in enumerate(tasks):
        error = np.stack([t.errors[k] for t in tried])
        best = error.argmin(axis=0)
        rows = np.arange(len(best))
        integers.append(np.stack([t.integers[k] for t in tried])[best, rows])
        errors.append(error[best, rows])
        for name in task.module.layers:
            shares[name] = np.array([t.share for t in tried])[best][:, None]
            steps = np.stack([np.broadcast_to(np.asarray(t.granted.grids[name].step).reshape(-1), len(best))
                              for t in tried])
            grids[name] = replace(tried[0].granted.grids[name], step=steps[best, rows][:, None])
    share = float(np.mean(np.concatenate([shares[task.module.layers[0]] for task in tasks])))
    return Trial(share, replace(tried[0].granted, grids=grids), integers, errors), shares


def _polished(trial: Trial, tasks: list[Task], rescale: bool) -> Trial:
    """Coordinate descent on the integers, and where any step may be chosen the best one of each row for them."""
    granted, integers, errors = dict(trial.granted.grids), [], []
    for task, m in zip(tasks, trial.integers, strict=True):
        found, error, target = m.copy(), np.empty(len(m)), task.target.numpy()
        factor = np.ones(len(m))
        for g, rows in enumerate(task.module.rows):
            part = joined(task.module, granted).of_rows(rows)
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
    return Trial(trial.share, replace(trial.granted, grids=granted), integers, errors)


def _refined(resets: Resets, task: Task, behaviour: Behaviour, decay: Decay, tried: Iterator[Trial]) -> OnGrid:
    """The trials, best first, until one can be moved to where every calibration spike stays."""
    module = task.module
    constant = np.zeros(len(module.weight)) if module.bias is None else np.asarray(module.bias)
    goal = Target(behaviour.x, behaviour.spikes, constant, resets.leak, decay, resets.reset, resets.two_phase,
                  resets.late)
    found: tuple[Trial, Array, float] | None = None
    effort = Effort.of(len(module.weight))
    for trial in tried:
        grid = joined(module, trial.granted.grids)
        m, shift, left = refine(goal, module.weight.numpy(), trial.integers[0], grid.step, int(np.max(grid.m_max)),
                                task.stays, module.bias is not None, np.inf if found is None else found[2], effort)
        if found is None or left < found[2]:
            found = replace(trial, integers=[m]), shift, left
        if found[2] == 0.0 or found[2] > HOPELESS or effort.left <= 0:
            break
    assert found is not None
    return OnGrid(*found)
