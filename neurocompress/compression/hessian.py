"""Second-order statistics of a layer's input: H = 2 E[(MX)^T MX], streamed over calibration data.

M is the neuron's own filter, so that H measures the membrane potential that the weights cause (surrogate
membrane potential, Spiking Brain Compression eq. 11): for a LIF neuron the leaky kernel
k[t] = beta^t, for IF all ones, for CubaLIF the synaptic and the membrane filter one after the other. MX is a
running sum; no matrix M is ever built. Without M, H is that of OBC and GPTQ.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..network.discrete import Step
from ..network.nodes import Conv

#: Rows of MX per layer and batch that enter H; more are thinned out evenly in time.
ROWS_MAX = 20_000


def filtered(x: Tensor, step: Step) -> Tensor:
    """M x along axis 0: x (timesteps, batch, features) through the neuron's linear filters, without resets.

    A population whose neurons differ uses the mean of their factors. Constant gains are left out: they cancel.
    """
    out = torch.empty_like(x)
    alpha = None if step.alpha is None else float(step.alpha.mean())
    beta = float(step.beta.mean())
    v, current = torch.zeros_like(x[0]), torch.zeros_like(x[0])
    for t in range(len(x)):
        if alpha is None:
            v = v * beta + x[t]
        else:
            current = current * alpha + x[t]
            v = v * beta + current
        out[t] = v
    return out


def patches(x: Tensor, conv: Conv) -> Tensor:
    """The inputs of every window of a convolution: (n, c, *spatial) -> (n * windows, c * kernel size)."""
    x = F.pad(x, [n for pair in reversed(conv.padding) for n in pair])
    n = len(conv.stride)
    for axis, (k, s, d) in enumerate(zip(conv.weight.shape[2:], conv.stride, conv.dilation, strict=True)):
        x = x.unfold(2 + axis, d * (k - 1) + 1, s)[..., ::d]
    order = [0, *range(2, 2 + n), 1, *range(2 + n, 2 + 2 * n)]  # (sample, windows, channel, kernel)
    columns = x.permute(order)
    return columns.reshape(-1, conv.weight.shape[1] * conv.groups * int(np.prod(conv.weight.shape[2:])))


class Bias(NamedTuple):
    """How a constant input goes with the others: drive (groups, d) float64, unit its own square."""

    drive: Tensor
    unit: float


def centred(hessian: Tensor, left: Bias, right: Bias) -> Tensor:
    """H with the bias eliminated: what is left of the loss when each row's bias is free to be the best one.

    The minimum over b of E|M(D x + b)|^2 is D (H - h h^T / u) D^T with h = 2 E[Mx M1], u = 2 E[(M1)^2]. left and right:
    of the two inputs of a cross term; both the same for a Hessian.
    """
    return hessian - left.drive[:, :, None] * right.drive[:, None, :] / right.unit


class Hessian:
    """Running H of one module: (groups, d, d) float64 with d inputs per output; a Linear layer has one group."""

    def __init__(self, d: int, groups: int = 1):
        self.sum = torch.zeros((groups, d, d), dtype=torch.float64)
        self.drive = torch.zeros((groups, d), dtype=torch.float64)
        self.unit = 0.0
        self.rows = 0

    def add(self, rows: Tensor, others: Tensor | None = None, constant: Tensor | None = None) -> None:
        """rows: (groups, n, d), one row per sample, time step and window; others: the right factor, rows without it.
        constant: (n,), what a constant input of 1 (a bias) gives in these rows."""
        for g, part in enumerate(rows):
            self.sum[g] += (part.T @ (part if others is None else others[g])).to(torch.float64).cpu()
        if constant is not None:
            self.drive += (constant @ rows).to(torch.float64).cpu()
            self.unit += float(constant.square().sum(dtype=torch.float64))
        self.rows += rows.shape[1]

    def mean(self) -> Tensor:
        """H = 2 E[row^T row], float64 (groups, d, d)."""
        return self.sum * (2.0 / max(1, self.rows))

    def bias(self) -> Bias:
        """2 E[constant row] and 2 E[constant^2]."""
        return Bias(self.drive * (2.0 / max(1, self.rows)), self.unit * 2.0 / max(1, self.rows))


def thinned(x: Tensor, windows: int) -> Tensor:
    """Every k-th time step of x (timesteps, batch, ...), so that ROWS_MAX rows suffice."""
    stride = max(1, -(-x.shape[0] * x.shape[1] * windows // ROWS_MAX))
    return x[stride - 1 :: stride] if stride <= len(x) else x[-1:]


def damped(hessian: Tensor, share: float = 0.01) -> tuple[Tensor, float]:
    """H + share x (mean of its diagonal) x I, positive definite, and the share used.

    hessian: (d, d) float64. The share grows tenfold until the matrix can be inverted.
    """
    mean = float(hessian.diagonal().mean()) or 1.0
    while True:
        found = hessian + share * mean * torch.eye(len(hessian), dtype=hessian.dtype, device=hessian.device)
        if not int(torch.linalg.cholesky_ex(found).info):
            return found, share
        share *= 10.0
