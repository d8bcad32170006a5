"""Small networks that are given pictures in every step: one trained on MNIST in seconds, and drawn ones."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import nir
import numpy as np
import torch
from torch.nn.functional import cross_entropy

from benchmarks.spiking import LIF, TAU
from neurocompress.data import SpikeData

STEPS, HIDDEN, DT = 4, 48, 1e-3


def mnist(shared: Path, part: str, count: int, normalised: bool = False) -> SpikeData:
    """The first pictures, stored once each: (count, 1, 784) float32, from 0 to 1 or with MNIST's mean taken away."""
    with np.load(shared / "data" / "mnist.npz", allow_pickle=False) as arrays:
        images, labels = arrays[f"{part}_images"][:count], arrays[f"{part}_labels"][:count]
    pixels = images.reshape(count, 1, 784).astype(np.float32) / np.float32(255)
    return SpikeData((pixels - np.float32(0.1307)) / np.float32(0.3081) if normalised else pixels,
                     labels.astype(np.int64), f"mnist {part}")


def trained_mlp(data: SpikeData, path: Path, epochs: int = 3) -> Path:
    """784 - 48 - 10 LIF neurons (tau 2 steps, threshold 1, reset to zero), trained on `data` for STEPS steps."""
    torch.manual_seed(0)
    layers = [torch.nn.Linear(784, HIDDEN), torch.nn.Linear(HIDDEN, 10)]
    optimizer = torch.optim.Adam([p for layer in layers for p in layer.parameters()], lr=3e-3)
    x, y = torch.from_numpy(data.spikes[:, 0]), torch.from_numpy(data.labels)
    for _ in range(epochs):
        for chosen in torch.randperm(len(x)).split(100):
            signal = x[chosen].expand(STEPS, -1, -1)
            for layer in layers:
                signal = LIF.apply(layer(signal))
            loss = cross_entropy(signal.sum(0) * 3, y[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    write_mlp([(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in layers], path)
    return path


def write_mlp(layers: list[tuple[np.ndarray, np.ndarray]], path: Path) -> None:
    nodes: dict[str, nir.NIRNode] = {"input": nir.Input(input_type={"input": np.array([layers[0][0].shape[1]])})}
    for k, (weight, bias) in enumerate(layers, 1):
        n = len(weight)
        nodes |= {f"fc{k}": nir.Affine(weight, bias), f"lif{k}": nir.LIF(
            tau=np.full(n, TAU * DT), r=np.ones(n), v_leak=np.zeros(n), v_threshold=np.ones(n))}
    nodes["output"] = nir.Output(output_type={"output": np.array([len(layers[-1][0])])})
    nir.write(path, nir.NIRGraph(nodes, list(pairwise(nodes)), metadata={"dt": DT}))
