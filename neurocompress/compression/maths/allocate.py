"""How one global sparsity, or one byte budget, is shared out among layers: weights kept in each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ...network.nodes import Array


def kept(sizes: Mapping[str, int], sparsity: float) -> int:
    """Weights that stay of all: the number of zeros is rounded down (LAMP: remove floor(S N))."""
    total = sum(sizes.values())
    return total - int(np.floor(sparsity * total + 1e-9))


def uniform(sizes: Mapping[str, int], sparsity: float) -> dict[str, int]:
    """The same sparsity in every layer."""
    return {name: kept({name: size}, sparsity) for name, size in sizes.items()}


def lamp_scores(weight: Array) -> Array:
    """LAMP score of every weight (Lee et al. 2021, eq. 5), float64 in the weight's shape.

    The u-th smallest weight scores W[u]^2 / sum over v >= u of W[v]^2. Sums run from the largest down in float64: a
    total minus a running sum cancels. Zeros (weights that are pruned already) score 0.
    """
    size = np.abs(np.asarray(weight, dtype=np.float64)).ravel()
    square = np.square(size / (size.max(initial=0.0) or 1.0))  # squares of tiny weights must not underflow all
    order = np.argsort(square, kind="stable")
    tail = np.cumsum(square[order][::-1])[::-1]
    scores = np.zeros_like(square)
    scores[order] = np.divide(square[order], tail, out=np.zeros_like(tail), where=square[order] > 0)
    return scores.reshape(np.shape(weight))


def lamp(weights: Mapping[str, Array], sparsity: float) -> dict[str, int]:
    """Weights kept in each layer when the lowest LAMP scores of all layers are removed."""
    return temporal_lamp(weights, dict.fromkeys(weights, 1.0), sparsity)


def temporal_lamp(weights: Mapping[str, Array], amplification: Mapping[str, float], sparsity: float) -> dict[str, int]:
    """LAMP with each layer's score times its worst-case temporal amplification (see `amplification`).

    A derivation with the properties that SLAMP (arXiv 2603.14946) states; its own formula is not public.
    Removing the weights D from a layer changes its neurons' potential at step t by (MX)[t] D, at most
    ||(MX)[t]|| ||D||. LAMP bounds the distortion of one pass by ||D||^2 / ||W||^2 relative to what stays; bounding
    the worst time step multiplies that by a = max_t E||(MX)[t]||^2 / E_t E||X[t]||^2, the same for all weights of a
    layer. At T = 1, M is the identity and a = 1: the score is LAMP's.
    """
    every = np.concatenate([lamp_scores(w).ravel() * amplification[name] for name, w in weights.items()])
    keep = kept({name: np.size(w) for name, w in weights.items()}, sparsity)
    return _of_layers(every, {name: np.size(w) for name, w in weights.items()}, keep)


def amplification(filtered: Array, given: Array) -> float:
    """max_t E||(MX)[t]||^2 over the mean of E||X[t]||^2: by how much time raises the worst-case distortion.

    filtered, given: (timesteps,) mean squared norms of the filtered and of the plain input; M has k[0] = 1.
    """
    mean = float(np.mean(given))
    return float(np.max(filtered)) / mean if mean > 0 else 1.0


def by_curves(curves: Mapping[tuple[str, ...], Curve], keep: int) -> dict[str, int]:
    """Weights kept in each layer, `keep` in all, of least total loss: every module sheds weights until one more would
    cost the same everywhere (one Lagrange multiplier, found by bisection).

    Loss between the measured points is interpolated in the logarithms of both axes, made convex by the multiplier.
    """
    tables = {name: _fine(curve) for name, curve in curves.items()}

    def chosen(price: float) -> dict[tuple[str, ...], int]:
        return {name: int(np.argmin(loss + price * count)) for name, (count, loss) in tables.items()}

    low, high = 0.0, 1e12
    for _ in range(200):
        price = np.sqrt(max(low, 1e-18) * high)
        total = sum(tables[n][0][i] for n, i in chosen(price).items())
        low, high = (price, high) if total > keep else (low, price)
    few, many = ({n: tables[n][0][i] for n, i in chosen(price).items()} for price in (high, low))
    gap = sum(many.values()) - sum(few.values())  # where a curve is not convex, a price leaves its counts open
    share = np.clip((keep - sum(few.values())) / gap, 0.0, 1.0) if gap > 0 else 0.0
    return _exactly({n: few[n] + share * (many[n] - few[n]) for n in tables}, curves, keep)


def _fine(curve: Curve, points: int = 2000) -> tuple[Array, Array]:
    """Counts (from few to all) and interpolated losses."""
    count = np.unique(np.round(np.geomspace(max(1.0, curve.keep[-1] / 4), curve.keep[0], points)))
    floor = max(float(curve.loss[1:].min()) * 1e-3, 1e-30)
    x, y = np.log(curve.keep[::-1]), np.log(np.maximum(curve.loss[::-1], floor))
    slope = (y[1] - y[0]) / (x[1] - x[0]) if x[1] > x[0] else 0.0
    at = np.log(count)
    inside = np.interp(at, x, y)
    return count, np.exp(np.where(at < x[0], y[0] + slope * (at - x[0]), inside))


def _exactly(
    counts: dict[tuple[str, ...], float], curves: Mapping[tuple[str, ...], Curve], keep: int
) -> dict[str, int]:
    """Counts by layer that sum up to `keep`: what rounding leaves goes to the largest layers."""
    out: dict[str, int] = {}
    scale = keep / sum(counts.values())
    for name, count in counts.items():
        curve = curves[name]
        for layer, points in curve.layers.items():
            part = np.interp(count, curve.keep[::-1], (points / curve.keep)[::-1])
            out[layer] = min(int(points[0]), max(1, round(scale * count * float(part))))
    sizes = {layer: int(points[0]) for curve in curves.values() for layer, points in curve.layers.items()}
    for layer in sorted(out, key=lambda n: -sizes[n]):
        difference = keep - sum(out.values())
        out[layer] = min(sizes[layer], max(1, out[layer] + difference))
    return out


def _of_layers(scores: Array, sizes: Mapping[str, int], keep: int) -> dict[str, int]:
    """How many of the `keep` largest scores lie in each layer; ties by position. No layer is left without any."""
    mask = np.zeros(len(scores), dtype=bool)
    mask[np.argsort(-scores, kind="stable")[:keep]] = True
    parts = np.split(mask, np.cumsum(list(sizes.values()))[:-1])
    return {name: max(1, int(part.sum())) for name, part in zip(sizes, parts, strict=True)}


class Option(NamedTuple):
    """One way to compress a layer: its bytes and the loss it costs, weighted by importance."""

    bytes: int
    loss: float


#: Cells of the byte axis in `within_budget`: options are rounded up to a cell, so the budget is never exceeded.
CELLS = 4096


def within_budget(options: Mapping[str, Sequence[Option]], budget: int) -> dict[str, int] | None:
    """The option of each layer, by index, of least total loss with total bytes <= budget; None when nothing fits.

    Exact dynamic programming over layers and a byte axis of CELLS cells (SPDY, Frantar & Alistarh 2022).
    """
    cell = max(1, -(-budget // CELLS))
    room = budget // cell
    best = np.zeros(room + 1)
    choices: list[np.ndarray] = []
    for found in options.values():
        after = np.full(room + 1, np.inf)
        choice = np.full(room + 1, -1)
        for k, option in enumerate(found):
            need = -(-option.bytes // cell)
            if need > room:
                continue
            loss = np.full(room + 1, np.inf)
            loss[need:] = best[: room + 1 - need] + option.loss
            better = loss < after
            after, choice = np.where(better, loss, after), np.where(better, k, choice)
        best, choices = after, [*choices, choice]
    if not np.isfinite(best[room]):
        return None
    chosen: dict[str, int] = {}
    at = room
    for name, choice in zip(reversed(list(options)), reversed(choices), strict=True):
        chosen[name] = int(choice[at])
        at -= -(-options[name][chosen[name]].bytes // cell)
    return {name: chosen[name] for name in options}


@dataclass(frozen=True, eq=False)
class Curve:
    """keep: weights that stay, falling from all of them. loss: mean over rows of importance x error, in squared
    thresholds. layers: by layer, the weights that stay at each point."""

    keep: Array
    loss: Array
    layers: dict[str, Array]
