"""Second-order statistics of a layer's input: H = 2 E[(MX)^T MX], streamed over calibration data.

M is the neuron's own filter, so that H measures the membrane potential that the weights cause (surrogate
membrane potential, Spiking Brain Compression eq. 11): for a LIF neuron the leaky kernel
k[t] = beta^t, for IF all ones, for CubaLIF the synaptic and the membrane filter one after the other. MX is a
running sum; no matrix M is ever built. Without M, H is that of OBC and GPTQ.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..network.discrete import Step
from ..network.nodes import Conv

#: Rows of MX per layer and batch that enter H; more are thinned out evenly in time.
ROWS_MAX = 100_000


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
    if x.dim() == 3:
        x = x[:, :, None, :]
        return _unfold(x, (1, conv.weight.shape[2]), (1, *conv.stride), ((0, 0), *conv.padding), (1, *conv.dilation))
    return _unfold(x, conv.weight.shape[2:], conv.stride, conv.padding, conv.dilation)


def _unfold(x: Tensor, kernel, stride, padding, dilation) -> Tensor:  # type: ignore[no-untyped-def]
    x = F.pad(x, [n for pair in reversed(padding) for n in pair])
    columns = F.unfold(x, kernel, dilation=dilation, stride=stride)  # (n, c * k, windows)
    return columns.transpose(1, 2).reshape(-1, columns.shape[1])


class Hessian:
    """Running H of one layer: (groups, d, d) float64 with d inputs per output; a Linear layer has one group."""

    def __init__(self, d: int, groups: int = 1):
        self.sum = torch.zeros((groups, d, d), dtype=torch.float64)
        self.rows = 0

    def add(self, rows: Tensor) -> None:
        """rows: (n, groups * d), one row per sample, time step and window."""
        groups, d, _ = self.sum.shape
        for g in range(groups):
            part = rows[:, g * d : (g + 1) * d]
            self.sum[g] += (part.T @ part).to(torch.float64).cpu()
        self.rows += len(rows)

    def mean(self) -> Tensor:
        """H = 2 E[row^T row], float64 (groups, d, d)."""
        return self.sum * (2.0 / max(1, self.rows))


def thinned(x: Tensor, windows: int) -> Tensor:
    """Every k-th time step of x (timesteps, batch, ...), so that ROWS_MAX rows suffice."""
    stride = max(1, -(-x.shape[0] * x.shape[1] * windows // ROWS_MAX))
    return x[stride - 1 :: stride] if stride <= len(x) else x[-1:]
