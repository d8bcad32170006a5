"""The benchmark's networks as PyTorch modules that learn, and as NIR.

Every layer runs over all time steps at once; only the membranes run step by step, forward and backward, in one
autograd function. The neuron is NIR's LIF under forward Euler with tau = 2 dt and r = 1:
    v <- v + (x - v)/2;  s = v > 1;  v <- 0 where s
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import nir
import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.networks import Benchmark

TAU = 2.0  # time steps


class LIF(torch.autograd.Function):
    """Input currents (steps, ...) to spikes of the same shape and dtype; the membrane is float32.

    Backward: the derivative of an arctangent, 1 / (1 + (pi (v - 1))^2) (Fang et al. 2021); the reset is a constant.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        spikes, potentials = torch.empty_like(x), torch.empty_like(x)
        v = torch.zeros_like(x[0], dtype=torch.float32)
        fired = torch.empty_like(v)
        for t in range(len(x)):
            v.lerp_(x[t].float(), 1 / TAU)
            potentials[t] = v
            torch.gt(v, 1, out=fired)
            spikes[t] = fired
            v.addcmul_(v, fired, value=-1)  # plain arithmetic: a masked write is far slower
        ctx.save_for_backward(potentials, spikes)
        return spikes

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        potentials, spikes = ctx.saved_tensors
        gradient, result = gradients[0] / TAU, torch.empty_like(potentials)
        for t in reversed(range(len(potentials))):
            slope = potentials[t].sub(1).mul_(torch.pi).square_().add_(1)
            torch.div(gradient[t], slope, out=result[t])
            if t + 1 < len(potentials):
                later = result[t + 1] * (1 - 1 / TAU)
                result[t].add_(later.addcmul_(later, spikes[t], value=-1))
        return result


class Spiking(nn.Module):
    """A `Benchmark`'s network. Convolutional ones have batch norm before every neuron but the last."""

    def __init__(self, network: Benchmark):
        super().__init__()
        self.dropout = network.dropout
        channels, height, width = network.input_shape
        self.weighted, self.norms = nn.ModuleList(), nn.ModuleList()
        norm = bool(network.convs)
        for wide, stride in network.convs:
            self.weighted.append(nn.Conv2d(channels, wide, 3, stride, padding=1, bias=False))
            self.norms.append(nn.BatchNorm2d(wide))
            channels, height, width = wide, (height - 1) // stride + 1, (width - 1) // stride + 1
        inputs = channels * height * width
        for wide in network.hidden:
            self.weighted.append(nn.Linear(inputs, wide, bias=False))
            self.norms.append(nn.BatchNorm1d(wide) if norm else nn.Identity())
            inputs = wide
        self.weighted.append(nn.Linear(inputs, network.classes, bias=norm))
        self.norms.append(nn.Identity())
        for found in self.norms:
            if isinstance(found, (nn.BatchNorm1d, nn.BatchNorm2d)):
                nn.init.constant_(found.weight, TAU)  # v takes up x / TAU: without this few neurons reach 1 in time
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """Input (steps, batch, *shape) to the output's spike counts (batch, classes), float32."""
        steps, batch = x.shape[:2]
        for weighted, norm in zip(self.weighted, self.norms, strict=True):
            x = x.flatten(2) if isinstance(weighted, nn.Linear) else x
            x = x.flatten(0, 1)
            if x.dim() == 4:
                x = x.contiguous(memory_format=torch.channels_last)
            x = norm(weighted(x))
            x = LIF.apply(x.reshape(steps, batch, *x.shape[1:]))
            if self.training and self.dropout and weighted is not self.weighted[-1]:
                heard = torch.rand(x.shape[1:]) >= self.dropout
                x = x * (heard.to(x.dtype) / (1 - self.dropout))
        return x.float().sum(0)


def folded(weighted: nn.Module, norm: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a layer with its batch norm inside, as it behaves when evaluated."""
    assert isinstance(weighted, (nn.Conv2d, nn.Linear))
    weight, bias = weighted.weight.detach(), weighted.bias
    if isinstance(norm, nn.Identity):
        return weight, None if bias is None else bias.detach()
    assert isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d))
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
    return weight * scale.reshape(-1, *(1,) * (weight.dim() - 1)), norm.bias.detach() - norm.running_mean * scale


def to_nir(model: Spiking, network: Benchmark) -> nir.NIRGraph:
    """The trained network; weights and biases in float16, which keeps the file small."""

    def half(tensor: Tensor) -> np.ndarray:
        return tensor.contiguous().numpy().astype(np.float16)

    nodes: dict[str, nir.NIRNode] = {"input": nir.Input(input_type={"input": np.array(network.input_shape)})}
    shape: tuple[int, ...] = network.input_shape
    for k, (layer, norm) in enumerate(zip(model.weighted, model.norms, strict=True), 1):
        weight, bias = folded(layer, norm)
        if isinstance(layer, nn.Conv2d):
            assert bias is not None
            nodes[f"conv{k}"] = nir.Conv2d(
                input_shape=shape[1:], weight=half(weight), stride=layer.stride, padding=layer.padding, dilation=1,
                groups=1, bias=half(bias))
            shape = (layer.out_channels, *((n - 1) // int(layer.stride[0]) + 1 for n in shape[1:]))
        else:
            if len(shape) > 1:
                nodes["flatten"] = nir.Flatten(
                    input_type={"input": np.array(shape)}, start_dim=0, end_dim=-1)
            nodes[f"fc{k}"] = nir.Linear(half(weight)) if bias is None else nir.Affine(half(weight), half(bias))
            shape = (layer.out_features,)
        nodes[f"lif{k}"] = nir.LIF(
            tau=np.full(shape, TAU * network.dt), r=np.ones(shape), v_leak=np.zeros(shape), v_threshold=np.ones(shape))
    nodes["output"] = nir.Output(output_type={"output": np.array([network.classes])})
    return nir.NIRGraph(nodes, list(pairwise(nodes)), metadata={"dt": network.dt})
