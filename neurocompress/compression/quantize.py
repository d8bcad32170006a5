"""Quantization of one weight matrix onto a grid: nearest (rtn), or column by column with compensation (GPTQ).

GPTQ (Frantar et al. 2023) rounds one input's weights for all outputs at a time and moves the error onto the
inputs that are still free, as the inverse Hessian says. With H_SMP it is SBC's quantization (section 3.1.4).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..grid import Grid

#: Columns whose errors are gathered before the rest of the matrix is updated.
BLOCK = 128


def rtn(weight: np.ndarray, grid: Grid, mask: np.ndarray | None = None) -> np.ndarray:
    """Nearest grid integers of a (rows, columns) matrix; pruned weights (mask False) stay 0."""
    m = grid.nearest(weight)
    return m if mask is None else m * mask


def damped_inverse_factor(hessian: Tensor, damping: float = 0.01) -> tuple[Tensor, Tensor]:
    """Upper Cholesky factor of (H + damping mean(diag H) I)^-1 in processing order, and that order.

    hessian: (d, d) float64. Columns whose inverse diagonal is small come first (the paper's order). Damping grows
    tenfold until the factorization succeeds.
    """
    d = hessian.shape[0]
    diagonal = hessian.diagonal()
    mean = float(diagonal.mean()) or 1.0
    while True:
        damped = hessian + damping * mean * torch.eye(d, dtype=hessian.dtype)
        factor, failed = torch.linalg.cholesky_ex(damped)
        if not int(failed):
            break
        damping *= 10.0
    inverse = torch.cholesky_inverse(factor)
    order = torch.argsort(inverse.diagonal(), stable=True)
    inverse = inverse[order][:, order]
    upper, failed = torch.linalg.cholesky_ex(inverse, upper=True)
    if int(failed):
        return damped_inverse_factor(hessian, damping * 10.0)
    return upper, order


def gptq(
    weight: np.ndarray, hessian: Tensor, grid: Grid, mask: np.ndarray | None = None,
    factor: tuple[Tensor, Tensor] | None = None,
) -> np.ndarray:
    """Grid integers of a (rows, columns) float64 matrix that keep (w - q) H (w - q)^T small, int64.

    hessian: (columns, columns). mask False fixes a weight at 0; its value moves onto the others too.
    factor: of `damped_inverse_factor`, where it is known already.
    """
    upper, order = damped_inverse_factor(hessian) if factor is None else factor
    w = torch.from_numpy(np.ascontiguousarray(weight, dtype=np.float64))[:, order].clone()
    step = torch.from_numpy(np.broadcast_to(grid.step, weight.shape).astype(np.float64))[:, order]
    keep = None if mask is None else torch.from_numpy(np.ascontiguousarray(mask))[:, order]
    m = torch.zeros_like(w)
    d = w.shape[1]
    for start in range(0, d, BLOCK):
        end = min(start + BLOCK, d)
        errors = torch.zeros((w.shape[0], end - start), dtype=torch.float64)
        for j in range(start, end):
            column = torch.clamp(torch.round(w[:, j] / step[:, j]), -grid.m_max, grid.m_max)
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
