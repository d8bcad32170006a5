"""Second-order statistics of a layer's input: H = 2 E[(MX)^T MX], streamed over calibration data.

M is the neuron's own filter, so that H measures the membrane potential that the weights cause (surrogate
membrane potential, Spiking Brain Compression, arXiv 2506.03996, eq. 11). With X (T, d) the inputs of one sample,

    M[t, s] = k[t - s] for s <= t, else 0       (T, T)   k[t] = beta^t (LIF), 1 (IF), both filters in turn (CubaLIF)
    H       = 2 E[(MX)^T MX]                    (d, d)   mean over samples, time steps and, of a convolution, windows
    loss    = (w - q) H (w - q)^T / 2           ()       of a row w: mean squared error of its surrogate potential

MX is a running sum; no matrix M is ever built. Without M, H is that of OBC (arXiv 2208.11580) and GPTQ (2210.17323).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...network.discrete import Step
from ...network.nodes import Conv
from .correlation import Plan, add_products, assemble, empty_sums, places_first, plan, window_sums

#: Rows of MX per convolution and batch that enter H, unless there are more samples x time steps; of more, windows are
#: drawn at random.
ROWS_MAX = 20_000

#: Numbers of patches that are built at once, unless H is larger (32 MiB in single precision).
PATCHES_MAX = 2**23

#: What copying a number into a patch costs, in multiplications of a large product (measured by benchmarks/hessian.py).
COPY = 200


def filtered(x: Tensor, step: Step) -> Tensor:
    """M x along axis 0: x (timesteps, batch, features) through the neuron's linear filters, without resets.

        i[t] = alpha i[t - 1] + x[t]        (batch, features)   with a synapse; else i = x
        v[t] = beta v[t - 1] + i[t]         (batch, features)

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


def patches_at(x: Tensor, conv: Conv, chosen: Tensor) -> Tensor:
    """The inputs of some windows: x (timesteps, batch, c, *spatial), chosen (batch, windows) their places in the
    output -> (batch * timesteps * windows, c * kernel size). Nothing else is read or copied."""
    steps, batch, channels, *sizes = x.shape
    every = np.unravel_index(chosen.numpy(), windows_of(Given(x, conv)))
    at, inside = np.zeros((*chosen.shape, 1), dtype=np.int64), np.ones((*chosen.shape, 1), dtype=bool)
    for place, n, k, s, d, (before, _) in zip(
            every, sizes, conv.weight.shape[2:], conv.stride, conv.dilation, conv.padding, strict=True):
        taps = place[:, :, None, None] * s - before + np.arange(k) * d
        at = (at[..., None] * n + taps[:, :, :]).reshape(*chosen.shape, -1)
        inside = (inside[..., None] & (taps >= 0) & (taps < n)).reshape(*chosen.shape, -1)
    start = np.arange(channels)[:, None] * int(np.prod(sizes))
    index = torch.from_numpy((start + np.where(inside, at, 0)[:, :, None]).reshape(batch, -1)).to(x.device)
    padded = torch.from_numpy(np.broadcast_to(~inside[:, :, None], (*chosen.shape, channels, inside.shape[2]))
                              .reshape(batch, -1)).to(x.device)
    out = x.new_empty((batch, steps, index.shape[1]))
    for k in range(batch):
        torch.index_select(x[:, k].flatten(1), 1, index[k], out=out[k])
        out[k].index_fill_(1, padded[k].nonzero()[:, 0], 0.0)
    return out.reshape(batch * steps * chosen.shape[1], -1)


class Bias(NamedTuple):
    """How a constant input goes with the others: drive (groups, d) float64, unit its own square."""

    drive: Tensor
    unit: float


def centred(hessian: Tensor, left: Bias, right: Bias) -> Tensor:
    """H with the bias eliminated, (groups, d, d): what is left of the loss when each row's bias is the best one.

    For D = w - q, the minimum over b of 2 E|M(D x + b)|^2 is D (H - h h^T / u) D^T, with

        h = 2 E[(MX)^T M1]      (d,)
        u = 2 E[(M1)^2]         ()

    (the Schur complement of the constant input). left and right: of the two inputs of a cross term; both the same for a
    Hessian.
    """
    return hessian - left.drive[:, :, None] * right.drive[:, None, :] / right.unit


@dataclass(frozen=True, eq=False)
class Given:
    """What one layer is given. signal: (timesteps, batch, *input shape), filtered already. conv: whose windows the rows
    of H are; None for a Linear layer, whose rows are samples x time steps."""

    signal: Tensor
    conv: Conv | None


class Hessian:
    """Running H of one group of layers, whose inputs lie side by side: (groups, d, d) float64, with d inputs per output
    and as many groups as the convolutions have, or one.

    Where the rows of convolutions (samples x time steps x windows) exceed ROWS_MAX in a batch, windows are drawn at
    random for each sample, all time steps of each, so that every row counts as many as it stands for and the mean is
    without bias. Time steps are never left out. Where it is no more work, convolutions of stride 1 are summed over all
    of their windows without building any (see correlation).
    """

    def __init__(self, d: int, groups: int = 1):
        self.size = groups, d, d
        self.sum: Tensor | None = None
        self.drive = torch.zeros((groups, d), dtype=torch.float64)
        self.unit = 0.0
        self.rows = 0
        self.plan: Plan | None = None
        self.cells: list[Tensor] = []

    def add(
        self, inputs: Sequence[Given], others: Sequence[Given] | None = None, *, first: int = 0,
        constant: Tensor | None = None,
    ) -> None:
        """One batch. inputs: of each layer of the group, in order, from the sample `first` of the calibration data on;
        others: the right factor (the same layers' inputs in another network), inputs without it. constant:
        (timesteps,), what a constant input of 1 (a bias) gives at each time step, filtered like the inputs."""
        steps, batch = inputs[0].signal.shape[:2]
        windows = windows_of(inputs[0])
        count = int(np.prod(windows))
        drawn = count if inputs[0].conv is None else min(count, max(1, ROWS_MAX // (steps * batch)))
        if self._without_patches(inputs, steps * batch, drawn, others is None):
            self._add_correlations(inputs, others, constant)
        else:
            chosen = None if drawn == count else drawn_windows(count, drawn, first, batch)
            self._add_rows(inputs, others, constant, windows, chosen)
        if constant is not None:
            self.unit += count * float(constant.repeat_interleave(batch).square().sum(dtype=torch.float64))
        self.rows += steps * batch * count

    def _without_patches(self, inputs: Sequence[Given], rows: int, drawn: int, symmetric: bool) -> bool:
        """Whether the sums over all windows are no more work than a product of the windows that would be drawn."""
        convs = [given.conv for given in inputs if given.conv is not None]
        if len(convs) < len(inputs) or any(max(conv.stride) > 1 for conv in convs):
            return False
        if self.plan is None:
            sizes = [tuple(given.signal.shape[3:]) for given in inputs]
            self.plan = plan(convs, sizes, windows_of(inputs[0]), symmetric)
        groups, d, _ = self.size
        return self.plan.work(rows) <= rows * drawn * groups * d * (d + COPY)

    def _add_correlations(
        self, inputs: Sequence[Given], others: Sequence[Given] | None, constant: Tensor | None
    ) -> None:
        groups, how = self.size[0], self.plan
        assert how is not None
        left = [places_first(given.signal, groups) for given in inputs]
        right = left if others is None else [places_first(given.signal, groups) for given in others]
        self.cells = self.cells or empty_sums(how)
        add_products(how, self.cells, left, right)
        if constant is not None:
            images = [torch.tensordot(constant.to(given.signal.dtype), given.signal.sum(1), 1) for given in inputs]
            shaped = [x.reshape(groups, -1, *(1, *x.shape[1:])[-2:]).permute(2, 3, 0, 1) for x in images]
            self.drive += window_sums(how, shaped).cpu()

    def _add_rows(
        self, inputs: Sequence[Given], others: Sequence[Given] | None, constant: Tensor | None,
        windows: tuple[int, ...], chosen: Tensor | None,
    ) -> None:
        groups, d, _ = self.size
        if self.sum is None:
            self.sum = torch.zeros(self.size, dtype=torch.float64)
        steps, batch = inputs[0].signal.shape[:2]
        count = int(np.prod(windows))
        drawn = count if chosen is None else chosen.shape[1]
        every = count / drawn  # windows that each row stands for
        size = batch if inputs[0].conv is None else max(1, max(PATCHES_MAX // (groups * d), d) // (steps * drawn))
        for start in range(0, batch, size):
            part = slice(start, start + size)
            places = None if chosen is None else chosen[part]
            left = rows_of(inputs, part, places, groups)
            right = left if others is None else rows_of(others, part, places, groups)
            for g in range(groups):
                self.sum[g].add_((left[g].T @ right[g]).to(torch.float64).cpu(), alpha=every)
            if constant is not None:
                weight = constant.repeat_interleave(left.shape[1] // steps) if chosen is None else (
                    constant.repeat_interleave(drawn).repeat(left.shape[1] // (steps * drawn)))
                self.drive.add_((weight @ left).to(torch.float64).cpu(), alpha=every)

    def mean(self) -> Tensor:
        """H = 2 E[row^T row], float64 (groups, d, d)."""
        total = torch.zeros(self.size, dtype=torch.float64) if self.sum is None else self.sum.clone()
        if self.plan is not None and self.cells:
            assemble(self.plan, self.cells, total)
        return total.mul_(2.0 / max(1, self.rows))

    def bias(self) -> Bias:
        """2 E[constant row] and 2 E[constant^2]."""
        return Bias(self.drive * (2.0 / max(1, self.rows)), self.unit * 2.0 / max(1, self.rows))


def windows_of(given: Given) -> tuple[int, ...]:
    """Places of a convolution's output; () for a Linear layer."""
    if given.conv is None:
        return ()
    conv = given.conv
    return tuple((n + sum(pad) - d * (k - 1) - 1) // s + 1 for n, pad, k, d, s in zip(
        given.signal.shape[3:], conv.padding, conv.weight.shape[2:], conv.dilation, conv.stride, strict=True))


def drawn_windows(count: int, drawn: int, first: int, batch: int) -> Tensor:
    """`drawn` of `count` windows for each sample from `first` on, without replacement: int64 (batch, drawn).

    Each sample has a generator of its own, and of more windows the first are those of fewer: how the data are cut into
    batches changes at most how many are drawn.
    """
    orders = [np.random.default_rng(first + k).permutation(count)[:drawn] for k in range(batch)]
    return torch.from_numpy(np.stack(orders))


def rows_of(inputs: Sequence[Given], part: slice, chosen: Tensor | None, groups: int) -> Tensor:
    """Rows of H: (groups, n, d), the layers side by side, one row per time step, sample of `part` and window, in this
    order without `chosen`, (samples of the part, windows); with it, samples come first."""
    parts = []
    for given in inputs:
        signal, conv = given.signal[:, part], given.conv
        if conv is None:
            parts.append(signal.flatten(0, 1)[None])
            continue
        found = patches(signal.flatten(0, 1), conv) if chosen is None else patches_at(signal, conv, chosen)
        parts.append(found.reshape(len(found), groups, -1).transpose(0, 1))
    return torch.cat(parts, dim=2) if len(parts) > 1 else parts[0]


def damped(hessian: Tensor, share: float = 0.01) -> tuple[Tensor, float]:
    """H + share x (mean of its diagonal) x I, positive definite, (d, d), and the share used.

    hessian: (d, d) float64. share: 1 % as in GPTQ (arXiv 2210.17323, section 4, step 3) and SBC; it grows tenfold until
    the matrix can be inverted.
    """
    mean = float(hessian.diagonal().mean()) or 1.0
    while True:
        found = hessian + share * mean * torch.eye(len(hessian), dtype=hessian.dtype, device=hessian.device)
        if not int(torch.linalg.cholesky_ex(found).info):
            return found, share
        share *= 10.0
