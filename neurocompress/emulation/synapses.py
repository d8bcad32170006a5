"""What synapses deliver: stored weights as functions of spikes, and the delays of a connection."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..chip.on_chip.integer_network import Synapses

#: Integers up to here are exact in float32, whose matrix products are the fastest there are.
EXACT_FLOAT32 = 2**24
#: Deliveries below this may be summed over many connections and shifted without leaving int32.
INT32_INPUT = 2**20
#: Entries up to which a sparse connection is multiplied as a dense matrix, which is faster; not so in float32, where
#: this share of entries must be there.
DENSE_MAX, DENSE_FROM = 2**24, 1 / 16

Lags = list[tuple[int, Tensor | None]]


def lags_of(delay: int | np.ndarray, synapses: Synapses) -> Lags:
    """Aligned delays of a connection: (steps, mask of the sources that take them), None for all."""
    values = np.unique(delay)
    if len(values) == 1:
        return [(int(values[0]), None)]
    per_source = np.broadcast_to(delay, (int(np.prod(synapses.source_shape)),))
    return [(int(k), torch.from_numpy(np.ascontiguousarray(per_source == k))) for k in values]


def delivered(apply: Callable[[Tensor], Tensor], lags: Lags, source: Tensor, t: int) -> Tensor | int:
    total: Tensor | int = 0
    for lag, mask in lags:
        if t >= lag:
            x = source[t - lag]
            total = total + apply(x if mask is None else x * mask.reshape(source.shape[2:]).to(x.dtype))
    return total


def deliver(s: Synapses, device: torch.device) -> Callable[[Tensor], Tensor]:
    """A connection as a function of (n, *source shape) spikes: (n, *target shape), exponent applied.

    Without message bits a spike is a spike, whatever number stands for it. Integer weights give int32, exactly: their
    sums are exact in float32 while they stay below 2^24; where they may not, float64 is used. Real weights (those of a
    virtual analog chip) give float32.
    """
    linear, bound = _map(s, device)
    real = s.weight.dtype.kind == "f"

    def apply(x: Tensor) -> Tensor:
        if s.message_bits == 0:
            x, peak = x != 0, 1
        else:
            peak = int(x.abs().max()) if x.numel() else 0
        if real:
            return linear(x.to(torch.float32)).to(torch.float32)
        exact = torch.float32 if bound * peak < EXACT_FLOAT32 else torch.float64
        y = linear(x.to(exact))
        largest = float(y.abs().max()) * 2.0 ** max(s.exponent, 0) if y.numel() else 0.0
        whole = y.round().to(torch.int32 if largest < INT32_INPUT else torch.int64)
        return whole << s.exponent if s.exponent > 0 else whole >> -s.exponent

    return apply


def _map(s: Synapses, device: torch.device) -> tuple[Callable[[Tensor], Tensor], float]:
    """The weights as a function of float spikes, and the largest sum of |weights| into one neuron."""
    if s.kernel is not None and all(a == b for a, b in s.kernel.padding):
        k, kernel = s.kernel, np.asarray(s.weight)
        weights = {d: torch.as_tensor(kernel, dtype=d, device=device) for d in (torch.float32, torch.float64)}
        conv, padding = (F.conv1d if kernel.ndim == 3 else F.conv2d), tuple(a for a, _ in k.padding)

        def convolve(x: Tensor) -> Tensor:
            y: Tensor = conv(x, weights[x.dtype], None, k.stride, padding, k.dilation, k.groups)
            return y

        return convolve, float(np.abs(kernel).reshape(len(kernel), -1).sum(1).max())
    matrix = s.matrix()
    bound = float(abs(matrix).sum(axis=1).max()) if matrix.nnz else 0.0
    size = matrix.shape[0] * matrix.shape[1]
    real = matrix.dtype.kind == "f"
    if size <= DENSE_MAX and (not real or matrix.nnz >= DENSE_FROM * size):
        whole = matrix.toarray().T
        dense = {d: torch.as_tensor(whole, dtype=d, device=device) for d in (torch.float32, torch.float64)}
        return lambda x: (x.reshape(len(x), -1) @ dense[x.dtype]).reshape(len(x), *s.target_shape), bound
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch calls its sparse matrices a beta
        csr = torch.sparse_csr_tensor(
            torch.as_tensor(matrix.indptr), torch.as_tensor(matrix.indices),
            torch.as_tensor(matrix.data, dtype=torch.float32 if real else torch.float64), matrix.shape, device=device)
    return lambda x: (csr @ x.reshape(len(x), -1).to(csr.dtype).T).T.reshape(len(x), *s.target_shape), bound
