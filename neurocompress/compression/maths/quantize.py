"""Quantization of one weight matrix onto a grid: nearest (rtn), or column by column with compensation (GPTQ).

GPTQ (Frantar, Ashkboos, Hoefler and Alistarh 2023, arXiv 2210.17323, algorithm 1) rounds one input's weights for all
outputs at a time and moves the error onto the inputs that are still free, as the inverse Hessian says. With H_SMP it is
SBC's quantization (arXiv 2506.03996, section 3.1.4).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...network.grid import Grid

#: Columns whose errors are gathered before the rest of the matrix is updated.
BLOCK = 128


def rtn(weight: np.ndarray, grid: Grid, mask: np.ndarray | None = None) -> np.ndarray:
    """Nearest grid integers of a (rows, columns) matrix, int64; pruned weights (mask False) stay 0."""
    m = grid.nearest(weight)
    return m if mask is None else m * mask


def inverse_factor(hessian: Tensor) -> tuple[Tensor, Tensor]:
    """Upper Cholesky factor of H^-1 in processing order, and that order: U (d, d) float64, order (d,) int64.

        order = argsort(diag(H^-1))             (d,)     columns whose inverse diagonal is small come first
        U^T U = H^-1[order][:, order]           (d, d)   U upper triangular

    Row j of U from its diagonal on is U_jj times what GPTQ moves onto the columns behind j: the columns before j are
    out of the inverse already (arXiv 2210.17323, section 4, step 3). hessian: (d, d) float64, damped (the order is
    that of SBC, section 3.1.4). Raises torch's LinAlgError where it is not positive definite.
    """
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    order = torch.argsort(inverse.diagonal(), stable=True)
    return torch.linalg.cholesky(inverse[order][:, order], upper=True), order


def gptq(
    weight: np.ndarray, hessian: Tensor, grid: Grid, mask: np.ndarray | None = None,
    factor: tuple[Tensor, Tensor] | None = None,
) -> np.ndarray:
    """Grid integers m (rows, d) int64 of a weight (rows, d) float64 that keep (w - q) H (w - q)^T small, q = m * step.

    For each column j in the order of `inverse_factor`, for all rows at once:

        m_j = round(w_j / step_j), clipped to the grid          (rows,)   0 where mask is False
        e_j = (w_j - m_j step_j) / U_jj                         (rows,)
        w_F = w_F - e_j U_jF                                    (rows, |F|)   F: j and the columns behind it

    This is w_F - (w_j - q_j) / [H_F^-1]_jj [H_F^-1]_jF, the step of OBS with H_F the Hessian of the free columns
    (arXiv 2210.17323, equation 2). Within a block of BLOCK columns it is done at once; what lies behind the block
    is updated when the block ends, as one product (section 4, step 2):

        w_R = w_R - E U_BR                                      (rows, |R|)   E (rows, |B|) the errors of the block

    hessian: (d, d) float64, damped. mask: (rows, d) bool; False fixes a weight at 0, and its value moves onto the
    others too. factor: of `inverse_factor`, where it is known already.
    """
    upper, order = inverse_factor(hessian) if factor is None else factor
    w = torch.from_numpy(np.ascontiguousarray(weight, dtype=np.float64))[:, order].clone()
    step, low, high, stride = (_columns(a, weight.shape)[:, order] for a in _numbers(grid))
    keep = None if mask is None else torch.from_numpy(np.ascontiguousarray(mask))[:, order]
    m = torch.zeros_like(w)
    d = w.shape[1]
    for start in range(0, d, BLOCK):
        end = min(start + BLOCK, d)
        errors = torch.zeros((w.shape[0], end - start), dtype=torch.float64)
        for j in range(start, end):
            column = torch.round(w[:, j] / (step[:, j] * stride[:, j])) * stride[:, j]
            column = torch.minimum(torch.maximum(column, low[:, j]), high[:, j])
            if keep is not None:
                column = column * keep[:, j]
            m[:, j] = column
            error = (w[:, j] - column * step[:, j]) / upper[j, j]
            w[:, j:end] -= error[:, None] * upper[j, j:end][None, :]
            errors[:, j - start] = error
        w[:, end:] -= errors @ upper[start:end, end:]
    restored = torch.empty_like(m)
    restored[:, order] = m
    integers: np.ndarray = restored.to(torch.int64).numpy()
    return integers


def descend(
    weight: np.ndarray, m: np.ndarray, hessian: Tensor, grid: Grid, mask: np.ndarray | None = None, sweeps: int = 3
) -> np.ndarray:
    """Coordinate descent on the layer's loss (w - q) H (w - q)^T / 2 from the integers m: int64 (rows, d).

    Each column j in turn takes the grid point that is best given all others, for all rows:

        G   = (q - w) H                                         (rows, d)   the gradient, kept up to date
        m_j = round(m_j - G_j / (H_jj step_j)), clipped         (rows,)     0 where mask is False
        G   = G + (change of m_j) step_j H_j                    (rows, d)

    The loss is a parabola in m_j, so the nearest grid point to its minimum is the best one, and the loss never rises.
    It ends when a sweep changes nothing, after `sweeps` at the latest. Columns with H_jj = 0 stay as they are.
    """
    step, low, high, stride = (_columns(a, weight.shape) for a in _numbers(grid))
    found = torch.from_numpy(m.astype(np.float64))
    w = torch.from_numpy(np.ascontiguousarray(weight, dtype=np.float64))
    keep = None if mask is None else torch.from_numpy(np.ascontiguousarray(mask))
    gradient = (found * step - w) @ hessian
    diagonal = hessian.diagonal()
    live = torch.nonzero(diagonal > 0)[:, 0].tolist()
    for _ in range(sweeps):
        moved = False
        for j in live:
            best = found[:, j] - gradient[:, j] / (diagonal[j] * step[:, j])
            best = torch.round(best / stride[:, j]) * stride[:, j]
            best = torch.minimum(torch.maximum(best, low[:, j]), high[:, j])
            change = best - found[:, j]
            if keep is not None:
                change = change * keep[:, j]
            rows = torch.nonzero(change)[:, 0]
            if len(rows):
                gradient[rows] += (change[rows] * step[rows, j])[:, None] * hessian[j]
                found[rows, j] += change[rows]
                moved = True
        if not moved:
            break
    integers: np.ndarray = found.to(torch.int64).numpy()
    return integers


def best_scale(weight: np.ndarray, quantized: np.ndarray, hessian: Tensor) -> np.ndarray:
    """Factor c of each row with the least (w - c q) H (w - c q)^T, (rows,) float64:

        c = (q H w^T) / (q H q^T)       row by row; 1 where it is not positive, and for q = 0
    """
    w, q = (torch.from_numpy(np.ascontiguousarray(a, dtype=np.float64)) for a in (weight, quantized))
    h = q @ hessian
    size, along = (h * q).sum(1), (h * w).sum(1)
    factor: np.ndarray = torch.where((size > 0) & (along > 0), along / size.clamp_min(1e-300), 1.0).numpy()
    return factor


def _numbers(grid: Grid) -> tuple[np.ndarray | int, ...]:
    return grid.step, grid.low, grid.m_max, grid.stride


def _columns(value: np.ndarray | int, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(np.broadcast_to(np.asarray(value, dtype=np.float64), shape).copy())


def layer_error(weight: np.ndarray, quantized: np.ndarray, hessian: Tensor) -> np.ndarray:
    """(w - q) H (w - q)^T / 2 for each row: the mean squared error of the filtered input current, float64."""
    difference = torch.from_numpy(np.ascontiguousarray(weight - quantized, dtype=np.float64))
    error: np.ndarray = 0.5 * ((difference @ hessian) * difference).sum(1).numpy()
    return error


def better_rows(weight: np.ndarray, a: np.ndarray, b: np.ndarray, grid: Grid, hessian: Tensor) -> np.ndarray:
    """Row by row the integers of `a` or of `b`, whichever loses less. Compensation can push a row's weights over the
    end of the grid; plain rounding is better then."""
    errors = [layer_error(weight, grid.value(m), hessian) for m in (a, b)]
    return np.where((errors[0] <= errors[1])[:, None], a, b)
