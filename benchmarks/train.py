"""Train the benchmark's networks and write benchmarks/networks/NAME.nir.

    python -m benchmarks.train NAME... [--epochs N] [--out FOLDER]

Names: saccade-2fc, nmnist-2fc (starts from saccade-2fc.nir), fashion-4conv2fc, cifar-5conv2fc, cifar-vgg. One thread,
so that the same machine gives the same bits; 10 to 40 minutes a network. CIFAR-10 needs Pillow. The accuracy
printed at the end is that of the file, run by neurocompress.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import nir
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.networks import NETWORKS, NMNIST_TEST, NMNIST_TRAIN, SHARED, Benchmark, read_images, recordings
from benchmarks.spiking import Spiking, to_nir
from neurocompress import load
from neurocompress.data import SpikeData
from neurocompress.network.nodes import Linear
from neurocompress.simulation.float import simulate

BATCH = 100
#: Epochs, Adam's learning rate at the start, and the logit of a neuron that spikes in every step.
TRAINING = {
    "saccade-2fc": (6, 3e-3, 20), "nmnist-2fc": (30, 5e-4, 20),
    "fashion-4conv2fc": (6, 2e-3, 10), "cifar-5conv2fc": (20, 2e-3, 10), "cifar-vgg": (8, 2e-3, 10),
}

Batches = Iterator[tuple[Tensor, Tensor]]


def image_batches(network: Benchmark, epochs: int) -> tuple[int, Batches]:
    """Number of batches, and the batches: freshly encoded training images (batch, steps, *shape) and labels.

    Images of the N-MNIST test recordings are left out, so that no network has seen them.
    """
    images, labels = read_images(SHARED, network.dataset, train=True)
    use = np.arange(len(images))
    if network.dataset == "mnist":
        use = np.delete(use, np.arange(NMNIST_TEST.start, NMNIST_TEST.stop))
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)

    def generate() -> Batches:
        for _ in range(epochs):
            for chosen in np.split(rng.permutation(use)[: len(use) // BATCH * BATCH], len(use) // BATCH):
                found = images[chosen]
                if network.dataset == "cifar10":
                    found = cropped_and_mirrored(found, rng)
                elif network.dataset == "fashion_mnist":
                    found = mirrored(found, rng)
                yield network.encode(found, generator), torch.from_numpy(labels[chosen])

    return epochs * (len(use) // BATCH), generate()


def mirrored(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Half of the images (n, h, w, ...) mirrored left to right."""
    flip = rng.random((len(images), *(1,) * (images.ndim - 1))) < 0.5
    return np.where(flip, images[:, :, ::-1], images)


def cropped_and_mirrored(images: np.ndarray, rng: np.random.Generator, margin: int = 4) -> np.ndarray:
    """Images (n, h, w, 3) moved by up to `margin` pixels each way, black outside; half of them mirrored."""
    n, height, width = images.shape[:3]
    padded = np.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    rows, columns = rng.integers(0, 2 * margin + 1, (2, n))
    return mirrored(windows[np.arange(n), rows, columns].transpose(0, 2, 3, 1), rng)


def recording_batches(network: Benchmark, epochs: int) -> tuple[int, Batches]:
    """As `image_batches`: half of a batch is real recordings, moved in space and time, half saccade events."""
    data = recordings(SHARED, NMNIST_TRAIN, network)
    assert data.labels is not None
    spikes, labels = torch.from_numpy(data.spikes), torch.from_numpy(data.labels)
    half = BATCH // 2
    images, image_labels = read_images(SHARED, "mnist", train=True)
    use = np.delete(np.arange(len(images)), np.arange(NMNIST_TEST.start, NMNIST_TEST.stop))
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)

    def generate() -> Batches:
        for _ in range(epochs):
            for chosen in np.split(rng.permutation(len(spikes)), len(spikes) // half):
                others = rng.choice(use, half)
                made = NETWORKS["saccade-2fc"].encode(images[others], generator)
                yield (torch.cat([moved(spikes[chosen], rng), made]),
                       torch.cat([labels[chosen], torch.from_numpy(image_labels[others])]))

    return epochs * (len(spikes) // half), generate()


def moved(spikes: Tensor, rng: np.random.Generator, pixels: int = 1, steps: int = 2) -> Tensor:
    """Recordings (n, steps, 2, h, w), each moved by up to so many pixels and time steps; what leaves is lost."""
    result = torch.zeros_like(spikes)
    for to, source in zip(result, spikes, strict=True):
        shifts = [int(rng.integers(-most, most + 1)) for most in (steps, 0, pixels, pixels)]
        into = tuple(slice(max(0, k), n + min(0, k)) for k, n in zip(shifts, source.shape, strict=True))
        out_of = tuple(slice(max(0, -k), n + min(0, -k)) for k, n in zip(shifts, source.shape, strict=True))
        to[into] = source[out_of]
    return result


def train(network: Benchmark, epochs: int, learning_rate: float, logit: float) -> Spiking:
    """The network after so many epochs of Adam with a rate that falls along a cosine."""
    torch.manual_seed(0)
    model = Spiking(network)
    total, batches = (recording_batches if network.dataset == "nmnist" else image_batches)(network, epochs)
    if network.dataset == "nmnist":
        start(model, NETWORKS["saccade-2fc"])
    return fit(model, network, total, batches, learning_rate, logit)


def fit(model: Spiking, network: Benchmark, total: int, batches: Batches, learning_rate: float, logit: float
        ) -> Spiking:
    """The model after its `total` batches, ready to be evaluated."""
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total)
    began, losses, right = perf_counter(), 0.0, 0
    every = max(1, total // 50)
    for number, (x, labels) in enumerate(batches, 1):
        with torch.autocast("cpu", torch.bfloat16):
            counts = model(x.transpose(0, 1).contiguous().bfloat16())
        loss = cross_entropy(counts * (logit / network.steps), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses, right = losses + loss.item(), right + int((counts.argmax(1) == labels).sum())
        if number % every == 0:
            print(f"{network.name}: batch {number} of {total}, loss {losses / every:.3f}, training accuracy "
                  f"{100 * right / (every * len(labels)):.2f} %, {perf_counter() - began:.0f} s", flush=True)
            losses, right = 0.0, 0
    return model.eval()


def start(model: Spiking, network: Benchmark) -> None:
    """Give the model the weights of a trained network of the same architecture."""
    weights = [node.weight for node in load(network.path).nodes.values() if isinstance(node, Linear)]
    with torch.no_grad():
        for layer, weight in zip(model.weighted, weights, strict=True):
            assert isinstance(layer, torch.nn.Linear)
            layer.weight.copy_(torch.from_numpy(weight))


def accuracy(path: Path, data: SpikeData) -> float:
    """Percent of samples whose class has the most output spikes (of several, the lowest class)."""
    assert data.labels is not None
    counts = simulate(load(path), data.spikes)["output"].sum(1)
    return 100 * float((counts.argmax(1) == data.labels).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the benchmark's networks.")
    parser.add_argument("names", nargs="+", choices=list(NETWORKS), metavar="NAME", help=", ".join(NETWORKS))
    parser.add_argument("--epochs", type=int, help="instead of the network's own number")
    parser.add_argument("--out", type=Path, help="folder for the files [benchmarks/networks]")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.names:
        network = NETWORKS[name]
        path = network.path if options.out is None else options.out / network.path.name
        path.parent.mkdir(parents=True, exist_ok=True)
        epochs, learning_rate, logit = TRAINING[name]
        model = train(network, options.epochs or epochs, learning_rate, logit)
        part = path.with_suffix(".part")
        nir.write(part, to_nir(model, network))
        os.replace(part, path)
        print(f"{path}: test accuracy {accuracy(path, network.test()):.2f} %", flush=True)


if __name__ == "__main__":
    main()
