"""Small layers and networks for the tests of the solvers: correlated spikes, a leaky filter, dense formulas."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor

from neurocompress.network.conventions import Conventions
from neurocompress.network.graph import Network
from neurocompress.network.nodes import Input, Linear, Neuron, Output

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
    level = live.mean() if live.size else 1.0  # no input ever spikes: the damping alone is left, as in hessian.damped
    return rng.normal(size=(rows, d)), hessian + share * level * np.eye(d)


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


def drawn_network(seed: int, sizes: tuple[int, ...] = (14, 30, 20, 6), tau_mem: float = 3.0) -> Network:
    """Linear -> LIF, one after the other: fc1, lif1, fc2, ...; the first layer has biases."""
    rng = np.random.default_rng(seed)
    nodes, edges, last = {"input": Input((sizes[0],))}, [], "input"
    for k, (d, n) in enumerate(itertools.pairwise(sizes), start=1):
        weight, one = rng.normal(0.5, 1.5, size=(n, d)) * (8 / d), np.ones(n)
        nodes[f"fc{k}"] = Linear(weight, rng.normal(scale=0.1, size=n) if k == 1 else None)
        nodes[f"lif{k}"] = Neuron((n,), r=one, v_threshold=one, v_reset=0 * one, tau_mem=tau_mem * one, v_leak=0 * one)
        edges += [(last, f"fc{k}"), (f"fc{k}", f"lif{k}")]
        last = f"lif{k}"
    nodes["output"] = Output((sizes[-1],))
    return Network(nodes, (*edges, (last, "output")), Conventions(dt=1.0))


def drawn_spikes(seed: int, samples: int = 12, steps: int = 15, d: int = 14) -> np.ndarray:
    """(samples, steps, d) float32, correlated."""
    rng = np.random.default_rng(seed)
    rate = rng.random((samples, 1, 3)) @ rng.random((3, d)) / 2
    return (rng.random((samples, steps, d)) < rate).astype(np.float32)
