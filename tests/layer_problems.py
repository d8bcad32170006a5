"""Small layers for the tests of the solvers: correlated spikes through a leaky filter, and dense formulas."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor

#: What the tests add to the diagonal of a Hessian, as a share of its mean.
SHARE = 0.01


def filtered_spikes(rng: np.random.Generator, d: int, steps: int, beta: float = 0.5) -> np.ndarray:
    """MX of (steps, d) spikes that come in groups, (steps, d) float64."""
    causes = (rng.random((steps, max(2, d // 3))) < 0.3).astype(float)
    drive = causes @ rng.normal(size=(causes.shape[1], d)) + rng.normal(size=(steps, d))
    spikes = (drive > 0.5).astype(float)
    v = np.zeros_like(spikes)
    for t in range(steps):
        v[t] = spikes[t] + (beta * v[t - 1] if t else 0.0)
    return v


def problem(seed: int, rows: int, d: int, dead: int = 0, share: float = SHARE) -> tuple[np.ndarray, np.ndarray]:
    """weight (rows, d) and Hessian (d, d), damped by `share` of its mean; the first `dead` inputs never spike."""
    rng = np.random.default_rng(seed)
    x = filtered_spikes(rng, d, 4 * d + 20)
    x[:, :dead] = 0.0
    hessian = 2 * x.T @ x / len(x)
    live = np.diag(hessian)[np.diag(hessian) > 0]
    return rng.normal(size=(rows, d)), hessian + share * live.mean() * np.eye(d)


def tensors(*arrays: np.ndarray) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(np.ascontiguousarray(a)) for a in arrays)


def loss(weight: np.ndarray, found: np.ndarray, hessian: np.ndarray) -> np.ndarray:
    """(w - q) H (w - q)^T / 2 of each row."""
    difference = weight - found
    return np.einsum("ri,ij,rj->r", difference, hessian, difference) / 2


def on_support(weight: np.ndarray, hessian: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Best values on each row's support: numpy's least squares of R q = R w with R^T R = H."""
    root = np.linalg.cholesky(hessian).T
    out = np.zeros_like(weight)
    for row, (w, kept) in enumerate(zip(weight, mask, strict=True)):
        out[row, kept] = np.linalg.lstsq(root[:, kept], root @ w, rcond=None)[0]
    return out


def brute_force_obs(weight: np.ndarray, hessian: np.ndarray, removals: int) -> tuple[np.ndarray, np.ndarray]:
    """Losses (d,) of one row's weights in OBS, infinite for those kept, and the row after all removals.

    One at a time, each time from the inverse of what is left of the Hessian.
    """
    w, left, losses = weight.copy(), list(range(len(weight))), np.full(len(weight), np.inf)
    for _ in range(removals):
        inverse = np.linalg.inv(hessian[np.ix_(left, left)])
        score = w[left] ** 2 / np.diag(inverse)
        k = int(score.argmin())
        losses[left[k]] = score[k]
        w[left] -= inverse[:, k] * w[left[k]] / inverse[k, k]
        w[left[k]] = 0.0
        del left[k]
    return losses, w


def least_of_all_supports(weight: np.ndarray, hessian: np.ndarray, keep: int) -> float:
    """Least loss of all masks with `keep` weights, by trying them all."""
    best = np.inf
    for kept in itertools.combinations(range(weight.size), keep):
        mask = np.zeros(weight.size, dtype=bool)
        mask[list(kept)] = True
        mask = mask.reshape(weight.shape)
        best = min(best, loss(weight, on_support(weight, hessian, mask), hessian).sum())
    return best
