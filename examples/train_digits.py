"""Train a small spiking network on scikit-learn's digits and write what `neurocompress deploy` needs.

    python examples/train_digits.py

writes into examples/digits/
    digits.nir               the network: 64 inputs -> 128 LIF -> 10 LIF neurons
    digits_calibration.npz   128 training images as spikes (samples, 32, 64), with labels
    digits_test.npz          450 held-out images as spikes, with labels

Plain PyTorch, one core, about a minute. The forward pass is the one that NIR's LIF means under forward Euler:
    v <- (1 - dt/tau) v + r dt/tau I;  s = v > v_threshold;  v <- 0 where s
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import nir
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from neurocompress.data import SpikeData
from neurocompress.frontends.nir_conventions import KEY
from neurocompress.network.conventions import Conventions

STEPS = 32
DT = 1e-3  # seconds per time step
TAU = 16e-3  # seconds; dt/tau = 1/16, a decay that chips hold exactly
R = TAU / DT  # so that one unit of input adds one to v
V_THRESHOLD = 1.0
MAX_RATE = 0.5  # spikes per step of the brightest pixel


class Spike(torch.autograd.Function):
    """A step forward; backward the derivative of a fast sigmoid (Zenke & Ganguli 2018)."""

    @staticmethod
    def forward(ctx: Any, v: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(v)
        return (v > V_THRESHOLD).to(v.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        (v,) = ctx.saved_tensors
        return gradient / (1 + 5 * (v - V_THRESHOLD).abs()) ** 2


class Digits(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = torch.nn.Linear(64, 128)
        self.fc2 = torch.nn.Linear(128, 10)

    def forward(self, spikes: torch.Tensor) -> torch.Tensor:
        """Spikes (steps, batch, 64) to output spikes (steps, batch, 10)."""
        v1 = torch.zeros(spikes.shape[1], 128)
        v2 = torch.zeros(spikes.shape[1], 10)
        out = []
        for x in spikes:
            v1 = (1 - DT / TAU) * v1 + R * DT / TAU * self.fc1(x)
            s1 = Spike.apply(v1)
            v1 = torch.where(s1 > 0, 0.0, v1)
            v2 = (1 - DT / TAU) * v2 + R * DT / TAU * self.fc2(s1)
            s2 = Spike.apply(v2)
            v2 = torch.where(s2 > 0, 0.0, v2)
            out.append(s2)
        return torch.stack(out)


def encode(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Images (n, 64) with pixels from 0 to 16 as spikes (n, STEPS, 64).

    Each pixel fires regularly, the brighter the more often, and starts at a random phase.
    """
    rate = images / 16 * MAX_RATE
    steps = np.arange(STEPS + 1)[None, :, None]
    return np.diff(np.floor(steps * rate[:, None] + rng.random((len(images), 1, 64))), axis=1).astype(np.uint8)


def accuracy(model: Digits, spikes: np.ndarray, labels: np.ndarray) -> float:
    with torch.no_grad():
        counts = model(torch.from_numpy(spikes).float().transpose(0, 1)).sum(0)
    return float((counts.argmax(1).numpy() == labels).mean())


def train(images: np.ndarray, labels: np.ndarray, epochs: int, rng: np.random.Generator) -> Digits:
    model = Digits()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for epoch in range(epochs):
        spikes = torch.from_numpy(encode(images, rng)).float()  # new spikes in every epoch
        total = 0.0
        for batch in torch.from_numpy(rng.permutation(len(images))).split(64):
            counts = model(spikes[batch].transpose(0, 1)).sum(0)
            loss = torch.nn.functional.cross_entropy(counts / 2, torch.from_numpy(labels)[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        schedule.step()
        print(f"epoch {epoch + 1:2d} of {epochs}: loss {total / len(images):.4f}")
    return model


def to_nir(model: Digits) -> nir.NIRGraph:
    def array(tensor: torch.Tensor) -> np.ndarray:
        return tensor.detach().numpy()

    def lif(n: int) -> nir.LIF:
        return nir.LIF(tau=np.full(n, TAU), r=np.full(n, R), v_leak=np.zeros(n), v_threshold=np.full(n, V_THRESHOLD))

    nodes = {
        "input": nir.Input(input_type={"input": np.array([64])}),
        "fc1": nir.Affine(weight=array(model.fc1.weight), bias=array(model.fc1.bias)),
        "lif1": lif(128),
        "fc2": nir.Affine(weight=array(model.fc2.weight), bias=array(model.fc2.bias)),
        "lif2": lif(10),
        "output": nir.Output(output_type={"output": np.array([10])}),
    }
    names = list(nodes)
    read_as = Conventions(dt=DT, decay="euler", reset="zero", fire=">")  # NIR has no field for them
    return nir.NIRGraph(nodes, list(pairwise(names)), metadata={"dt": DT, KEY: json.dumps(read_as.to_dict())})


def main() -> None:
    arguments = argparse.ArgumentParser(description="Train the example network on scikit-learn's digits.")
    arguments.add_argument("--out", type=Path, default=Path(__file__).parent / "digits")
    arguments.add_argument("--epochs", type=int, default=40)
    options = arguments.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(0)
    torch.set_num_threads(1)  # the order of additions, and so the result, must not depend on the machine's cores
    rng = np.random.default_rng(0)
    images, labels = load_digits(return_X_y=True)
    split = train_test_split(images, labels, test_size=450, stratify=labels, random_state=0)
    train_images, test_images, train_labels, test_labels = split

    model = train(train_images, train_labels, options.epochs, rng)
    calibration = SpikeData(encode(train_images[:128], rng), train_labels[:128], "digits_calibration.npz")
    test = SpikeData(encode(test_images, rng), test_labels, "digits_test.npz")
    print(f"test accuracy {100 * accuracy(model, test.spikes, test_labels):.2f} %")

    nir.write(options.out / "digits.nir", to_nir(model))
    calibration.save(options.out / calibration.name)
    test.save(options.out / test.name)


if __name__ == "__main__":
    main()
