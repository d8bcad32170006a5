"""Local search on grid integers until a layer's neurons spike as before, given the calibration inputs.

With the spike trains of the uncompressed network given, the membrane potential of a neuron is linear in its
weights: its resets are at known times. "Spikes where it spiked, silent where it was silent" is then one linear
inequality per time step, and the integers are moved by single steps (then by pairs) while the summed violation
falls. A neuron whose violations reach zero reproduces its spike train exactly on that data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...network.nodes import Array

#: Distance from the threshold, in thresholds, that every time step should keep: chip arithmetic rounds.
MARGIN = 0.002
#: Features of one neuron over all time steps, in numbers; larger layers are left as they are.
FEATURES_MAX = 2**17
#: Numbers looked at in the search for one population, all scales and starts together: so many for each of its neurons,
#: and no more in all. A processor looks at 100 to 700 million in a second.
EFFORT_EACH, EFFORT = 2**23, 2**30
#: Numbers looked at in one search for one neuron.
EFFORT_NEURON = 2**20


@dataclass
class Effort:
    """Numbers that may still be looked at; searches take from it what they use."""

    left: int

    @staticmethod
    def of(neurons: int) -> Effort:
        return Effort(min(EFFORT, neurons * EFFORT_EACH))


@dataclass(frozen=True)
class Decay:
    """Decay factors per step: of the synapse (None without one) and of the membrane, as the chip will use them."""

    alpha: float | None
    beta: float


@dataclass(frozen=True, eq=False)
class Target:
    """What one population did: x (samples, timesteps, d) inputs of its layers, spikes (samples, timesteps, n),
    constant (n,) input per step in threshold units, leak (n,) added to v, reset, two_phase, late (the reset follows in
    the next step, after the decay)."""

    x: np.ndarray
    spikes: np.ndarray
    constant: Array
    leak: Array
    decay: Decay
    reset: str
    two_phase: bool
    late: bool = False


def potentials(target: Target, neuron: int) -> tuple[np.ndarray, np.ndarray]:
    """(features, offset) of one neuron: before it fires, v[t] = features[t] . (w, c) + offset[t] in threshold units.

    features (samples * timesteps, d + 1), the last column for a constant input c on top of the target's own;
    offset (samples * timesteps,); float64. Resets are at the recorded spikes.
    """
    samples, steps, d = target.x.shape
    s = target.spikes[:, :, neuron].astype(np.float64)
    features, offset = np.empty((samples, steps, d + 1)), np.empty((samples, steps))
    v, current = np.zeros((samples, d + 1)), np.zeros((samples, d + 1))
    o = np.zeros(samples)
    alpha = 0.0 if target.decay.alpha is None else target.decay.alpha
    for t in range(steps):
        current *= alpha
        current[:, :d] += target.x[:, t]
        current[:, d] += 1.0
        v = target.decay.beta * v + current
        o = target.decay.beta * o + target.leak[neuron]
        if target.late and t > 0:
            v, o = _reset(target, v, o, s[:, t - 1])
        features[:, t], offset[:, t] = v, o
        if not target.late:
            v, o = _reset(target, v, o, s[:, t])
    flat = features.reshape(-1, d + 1)
    return flat, offset.reshape(-1) + flat[:, d] * target.constant[neuron]


def _reset(target: Target, v: np.ndarray, o: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (v * (1 - s[:, None]), o * (1 - s)) if target.reset == "zero" else (v, o - s)


def constraints(target: Target, neuron: int, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(A, b) with A (w, c) + b > 0 exactly when the neuron with weights w (d,) repeats its recorded spikes.

    With a two-phase reset the test also depends on whether v is above threshold after the reset before; that
    is taken from `weight`, the uncompressed row, and demanded of w as well.
    """
    features, offset = potentials(target, neuron)
    s = target.spikes[:, :, neuron].astype(np.float64).reshape(-1)
    sign = 2.0 * s - 1.0
    if not target.two_phase:
        return features * sign[:, None], (offset - 1.0) * sign
    after = features[:, :-1] @ weight + offset - s
    above = (after > 1.0).reshape(target.spikes.shape[:2])
    before = np.zeros_like(above)
    before[:, 1:] = above[:, :-1]
    near = 2.0 * above.reshape(-1) - 1.0
    return (
        np.concatenate([features * sign[:, None], features * near[:, None]]),
        np.concatenate([(offset - 1.0 - before.reshape(-1)) * sign, (offset - s - 1.0) * near]),
    )


def refine_row(
    m: np.ndarray, step: np.ndarray, m_max: np.ndarray, a: np.ndarray, b: np.ndarray, effort: Effort,
    mask: np.ndarray | None = None,
) -> tuple[np.ndarray, float]:
    """Integers near m (d,) with |m| <= m_max (d,) and fewer violations of A (m step) + b > 0; what is left.

    Each round takes the single step of +-1 that lowers the summed violation most; where none does, the best pair
    of steps; where none does, a few random steps and down again (iterated local search), until nothing is
    violated or EFFORT_NEURON numbers, or all of `effort`, have been looked at. The same input gives the same result.
    """
    free = np.ones(len(m), dtype=bool) if mask is None else mask
    used = np.flatnonzero(free & (np.abs(a).max(axis=0, initial=0.0) > 0))
    scaled = a * step[None, :]
    value = scaled @ m + b
    violated = float(np.maximum(MARGIN - value, 0.0).sum())
    if not len(used) or violated == 0.0:
        return m.copy(), violated
    fixed = np.setdiff1d(np.arange(len(m)), used)
    given = min(EFFORT_NEURON, max(0, effort.left))
    search = _Search(np.ascontiguousarray(scaled[:, used]), b + scaled[:, fixed] @ m[fixed], m_max[used], given)
    found, left = search.descend(m[used])
    rng = np.random.default_rng(0)
    while left > 0.0 and search.effort > 0:
        kicked = found.copy()
        at = rng.integers(0, len(used), size=4)
        kicked[at] = np.clip(kicked[at] + rng.choice([-1, 1], size=4), -search.m_max[at], search.m_max[at])
        other, other_left = search.descend(kicked)
        if other_left < left:
            found, left = other, other_left
    effort.left -= given - search.effort
    result = m.copy()
    result[used] = found
    return result, left


class _Search:
    """Descent on the summed violation of A m + b > MARGIN over integers |m| <= m_max."""

    def __init__(self, a: np.ndarray, b: np.ndarray, m_max: np.ndarray, effort: int):
        self.a, self.b, self.m_max, self.effort = a, b, m_max, effort
        self.moves = np.concatenate([a, -a], axis=1)  # one column per move: +1 on each integer, then -1
        self.farthest = np.abs(a).max(axis=1)  # that one move takes each constraint

    def descend(self, m: np.ndarray) -> tuple[np.ndarray, float]:
        m, d = m.copy(), len(m)
        value = self.a @ m + self.b
        best = float(np.maximum(MARGIN - value, 0.0).sum())
        while best > 0.0 and self.effort > 0:
            allowed = np.concatenate([m < self.m_max, m > -self.m_max])
            lost = np.where(allowed, self._after(value), np.inf)
            chosen = [int(np.argmin(lost))]
            if lost[chosen[0]] >= best - 1e-12:
                chosen = self._best_pair(value, lost, best)
                if not chosen:
                    break
            for k in chosen:
                m[k % d] += 1 if k < d else -1
                value = value + self.moves[:, k]
            best = float(np.maximum(MARGIN - value, 0.0).sum())
        return m, best

    def _after(self, value: np.ndarray) -> np.ndarray:
        """Summed violation after each single move, which is that of the constraints that one move can reach."""
        short = MARGIN - value
        near = np.flatnonzero(short > -self.farthest)
        self.effort -= short.size + near.size * self.moves.shape[1]
        lost: np.ndarray = np.maximum(short[near, None] - self.moves[near], 0.0).sum(axis=0)
        return lost

    def _best_pair(self, value: np.ndarray, lost: np.ndarray, best: float) -> list[int]:
        """Two moves that help together: one of the least harmful, then the best answer to it."""
        for first in np.argsort(lost, kind="stable")[:24]:
            if not np.isfinite(lost[first]):
                break
            after = np.where(np.isfinite(lost), self._after(value + self.moves[:, first]), np.inf)
            second = int(np.argmin(after))
            if after[second] < best - 1e-12 and second != first:
                return [int(first), second]
        return []


def refine(
    target: Target, weight: np.ndarray, m: np.ndarray, step: np.ndarray, m_max: int, mask: np.ndarray | None,
    biased: bool, limit: float = np.inf, effort: Effort | None = None,
) -> tuple[np.ndarray, Array, float]:
    """All neurons of a population: integers (n, d), change of each constant input (n,), violation left.

    weight, m, step, mask: (n, d), in threshold units; biased: the constant inputs may be corrected as well, in
    fractions of a step (a bias is stored finer than a weight). limit: a violation that is of no use; the search ends
    when it is reached. effort: shared with other searches for this population, one of its own without.
    """
    n, d = m.shape
    result, shift, left = m.copy(), np.zeros(n), 0.0
    effort = effort or Effort.of(n)
    for j in range(n):
        a, b = constraints(target, j, weight[j])
        effort.left -= a.size
        row, steps, ends = m[j], step[j], np.full(d, m_max)
        free = np.ones(d, dtype=bool) if mask is None else mask[j]
        if biased:  # the constant input as two more integers, a coarse and a fine one
            a, fine = a[:, [*range(d), d, d]], float(np.median(step[j])) / 64.0
            row, steps, ends = np.append(row, [0, 0]), np.append(steps, [16 * fine, fine]), np.append(ends, [64, 64])
            free = np.append(free, [True, True])
        else:
            a = a[:, :d]
        found, violated = refine_row(row, steps, ends, a, b, effort, free)
        result[j], left = found[:d], left + violated
        if biased:
            shift[j] = float((found * steps)[d:].sum())
        if left >= limit:
            break
    return result, shift, left
