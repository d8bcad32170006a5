"""Nodes without neurons as functions of whole signals: weights, pooling, scales, thresholds, delays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..network.nodes import Conv, Delay, Flatten, Input, Linear, Neuron, Node, Output, Pool, Scale, Threshold
from ..network.shapes import flattened
from .learning import Learning


def delayed(x: Tensor, steps: np.ndarray) -> Tensor:
    """x (timesteps, batch, *shape) shifted later by `steps`, one number for each element, zeros before."""
    lag = np.broadcast_to(steps, x.shape[2:])
    out = torch.zeros_like(x)
    for k in np.unique(lag):
        if k < len(x):
            mask = torch.from_numpy(np.ascontiguousarray(lag == k)).to(x.device)
            out[k:, :, mask] = x[: len(x) - int(k), :, mask]
    return out


def delayed_step(history: Tensor | list[Tensor], t: int, steps: np.ndarray) -> Tensor:
    """Step t of `delayed`, of a signal known up to step t."""
    out = torch.zeros_like(history[t])
    lag = np.broadcast_to(steps, out.shape[1:])
    for k in np.unique(lag):
        if k <= t:
            mask = torch.from_numpy(np.ascontiguousarray(lag == k)).to(out.device)
            out[:, mask] = history[t - int(k)][:, mask]
    return out


def operation(
    name: str, node: Node, dtype: torch.dtype, device: torch.device, learning: Learning | None
) -> Callable[[Tensor], Tensor]:
    """A stateless node as a function of a (n, *input shape) tensor."""

    def tensor(values: object) -> Tensor:
        return torch.as_tensor(np.asarray(values), dtype=dtype, device=device)

    if isinstance(node, (Linear, Conv)):
        if learning is not None and name in learning.weights:
            weight, bias = learning.weights[name]
        else:
            weight, bias = tensor(node.weight), None if node.bias is None else tensor(node.bias)
        if isinstance(node, Conv):
            return convolution(node, weight, bias)
        return lambda x: F.linear(x, weight, bias)
    if isinstance(node, Pool):
        return pooling(node)
    if isinstance(node, Flatten):
        return lambda x: x.reshape(len(x), *flattened(tuple(x.shape[1:]), node.start_dim, node.end_dim))
    if isinstance(node, Scale):
        scale = tensor(node.scale)
        return lambda x: x * scale
    if isinstance(node, Threshold):
        threshold = tensor(node.threshold)
        if learning is None:
            return lambda x: (x > threshold).to(dtype)
        surrogate, span = learning.surrogate, torch.where(threshold == 0, 1.0, threshold.abs())
        return lambda x: surrogate((x - threshold) / span, (x > threshold).to(dtype))
    assert isinstance(node, (Input, Output, Neuron, Delay))
    return lambda x: x


def convolution(node: Conv, weight: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    """The Conv node as a function over (n, c, *spatial); uneven padding is put on before."""
    conv = F.conv1d if weight.dim() == 3 else F.conv2d
    even = all(a == b for a, b in node.padding)
    padding = tuple(a for a, _ in node.padding) if even else (0,) * len(node.padding)
    pads = [n for pair in reversed(node.padding) for n in pair]

    def apply(x: Tensor) -> Tensor:
        x = x if even else F.pad(x, pads)
        y: Tensor = conv(x, weight, bias, node.stride, padding, node.dilation, node.groups)
        return y

    return apply


def pooling(node: Pool) -> Callable[[Tensor], Tensor]:
    pads = [n for pair in reversed(node.padding) for n in pair]
    size = int(np.prod(node.kernel_size)) if node.kind == "sum" else 1

    def apply(x: Tensor) -> Tensor:
        x = F.pad(x, pads) if any(pads) else x
        return F.avg_pool2d(x, node.kernel_size, node.stride) * size

    return apply
