"""The benchmark's networks: what each one is, what it was trained on, and the data that it is measured with.

`benchmarks/train.py` trains those of NETWORKS, which lie in benchmarks/networks/NAME.nir; others trained those of
PUBLISHED. These and all data come from the shared folder (NEUROCOMPRESS_SHARED, or ../shared beside the checkout). Test
data are never calibrated with, and the networks trained here have not seen them: N-MNIST recording k shows MNIST
training image k, so the images of its test recordings are left out of every training, that of the saccade events too.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.saccades import DURATION_MS, saccade_events
from neurocompress import load
from neurocompress.data import SpikeData, events_to_spikes
from neurocompress.network.graph import Network

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("NEUROCOMPRESS_SHARED", ROOT.parent / "shared"))

#: N-MNIST recordings that train and calibrate, and those that test.
NMNIST_TRAIN, NMNIST_TEST = slice(0, 500), slice(500, 800)

#: Training images that become calibration samples; the first 800 are those of the N-MNIST recordings.
CALIBRATION = slice(1000, 3000)
TEST_SAMPLES = 1000
CALIBRATION_SEED, TEST_SEED = 1, 2

LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue (Rec. 601)


@dataclass(frozen=True)
class Benchmark:
    """A feed-forward network of LIF neurons (tau 2 steps, threshold 1, reset to zero) and its data.

    dataset: "mnist", "nmnist", "fashion_mnist" or "cifar10"; saccades: whether its images become saccade events
    (grey, two channels) or are fed as they are in every step, as float32 from 0 to 1.
    convs: (channels, stride) of every 3 x 3 convolution; hidden: neurons of every fully connected layer before the
    last, which has one neuron per class. A network without convolutions has no biases. dropout: share of the hidden
    neurons that are not heard in a sample of training, as lost spikes are to be borne.
    """

    name: str
    dataset: str
    steps: int
    convs: tuple[tuple[int, int], ...] = ()
    hidden: tuple[int, ...] = ()
    saccades: bool = True
    classes: int = 10
    dropout: float = 0.0

    @property
    def path(self) -> Path:
        return ROOT / "benchmarks" / "networks" / f"{self.name}.nir"

    @property
    def dt(self) -> float:
        """Seconds per time step; an image fed as it is has no time of its own and gets 1 ms."""
        return DURATION_MS / 1e3 / self.steps if self.saccades else 1e-3

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return (2, 34, 34) if self.saccades else (3, 32, 32)

    def network(self) -> Network:
        return load(self.path)

    def encode(self, images: np.ndarray, generator: torch.Generator) -> torch.Tensor:
        """Images (n, h, w) or (n, h, w, 3) uint8 as input (n, steps, *input_shape), uint8 events or float32."""
        found = torch.from_numpy(images)
        if self.saccades:
            if found.dim() == 4:
                found = (found.float() @ torch.tensor(LUMINANCE)).round().to(torch.uint8)
            return saccade_events(found, self.steps, generator=generator)
        return (found.permute(0, 3, 1, 2).float() / 255)[:, None].repeat(1, self.steps, 1, 1, 1)

    def calibration(self, shared: Path = SHARED) -> SpikeData:
        """2000 training samples (N-MNIST: its 500 training recordings), the same on every call."""
        if self.dataset == "nmnist":
            return recordings(shared, NMNIST_TRAIN, self)
        images, labels = read_images(shared, self.dataset, train=True)
        return self._data(images[CALIBRATION], labels[CALIBRATION], CALIBRATION_SEED, "training")

    def test(self, shared: Path = SHARED) -> SpikeData:
        """1000 held-out samples (N-MNIST: 300 recordings), the same on every call."""
        if self.dataset == "nmnist":
            return recordings(shared, NMNIST_TEST, self)
        images, labels = read_images(shared, self.dataset, train=False)
        return self._data(images[:TEST_SAMPLES], labels[:TEST_SAMPLES], TEST_SEED, "test")

    def _data(self, images: np.ndarray, labels: np.ndarray, seed: int, part: str) -> SpikeData:
        spikes = self.encode(images, torch.Generator().manual_seed(seed)).numpy()
        return SpikeData(spikes, labels, f"{len(images)} {part} images of {self.dataset}, seed {seed}")


@dataclass(frozen=True)
class Published(Benchmark):
    """A network that others trained, in the shared folder. file: where there; preset: its tool's conventions."""

    file: str = ""
    preset: str = ""

    @property
    def path(self) -> Path:
        return SHARED / self.file

    def network(self) -> Network:
        return load(self.path, preset=self.preset)


NETWORKS = {
    network.name: network
    for network in (
        Benchmark("saccade-2fc", "mnist", 100, hidden=(512,), dropout=0.3),
        Benchmark("nmnist-2fc", "nmnist", 100, hidden=(512,), dropout=0.3),
        Benchmark("fashion-4conv2fc", "fashion_mnist", 20, ((16, 2), (32, 2), (64, 2), (64, 2)), (128,)),
        Benchmark("cifar-5conv2fc", "cifar10", 10, ((32, 2), (64, 2), (64, 1), (128, 2), (128, 1)), (128,)),
        Benchmark("cifar-vgg", "cifar10", 4, ((32, 1), (32, 2), (64, 1), (64, 2), (128, 1), (128, 2)), (256,),
                  saccades=False),
    )
}

PUBLISHED = {
    network.name: network
    for network in (
        Published("nmnist-cnn", "nmnist", 300, file="models/nir_paper/cnn/cnn_sinabs.nir", preset="sinabs"),
    )
}


def read_images(shared: Path, dataset: str, train: bool) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, h, w) or (n, h, w, 3) uint8 and labels (n,) int64 of a dataset."""
    part = "train" if train else "test"
    if dataset == "cifar10":
        return _cifar(shared / "data" / "cifar10", part)
    with np.load(shared / "data" / f"{dataset}.npz", allow_pickle=False) as arrays:
        return arrays[f"{part}_images"], arrays[f"{part}_labels"].astype(np.int64)


def recordings(shared: Path, part: slice, network: Benchmark) -> SpikeData:
    """N-MNIST recordings of `part` as binary frames (n, steps, 2, 34, 34)."""
    found = events_to_spikes(shared / "data" / "nmnist_800.npz", network.dt, network.steps, binary=True)
    assert found.labels is not None
    return SpikeData(found.spikes[part], found.labels[part], f"{found.name}, {part.start} to {part.stop - 1}")


def _cifar(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Mosaics of 25 x 40 images of 32 x 32 pixels, in the order of their file names."""
    from PIL import Image

    files = sorted(folder.glob(f"{part}_*.webp"))
    tiles = [np.asarray(Image.open(file).convert("RGB")).reshape(25, 32, 40, 32, 3) for file in files]
    images = np.concatenate([tile.transpose(0, 2, 1, 3, 4).reshape(-1, 32, 32, 3) for tile in tiles])
    with np.load(folder / "labels.npz", allow_pickle=False) as labels:
        return images, labels[part][: len(images)].astype(np.int64)
