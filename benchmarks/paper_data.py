"""The paper's datasets as its networks see them: input shape, time steps, how events become frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurocompress.data import Recordings, SpikeData, datasets, events_to_spikes, images
from neurocompress.data.frames import NMNIST, Split
from neurocompress.network.nodes import Shape

#: Test data of more bytes than this are made again for every network; they run in parts of PART samples.
HELD_BYTES, PART = 2 * 2**30, 200

Samples = Recordings | images.Images


@dataclass(frozen=True)
class Dataset:
    """A dataset and how the paper's networks see it. frames: milliseconds, or SpikingJelly's split_by (events only).
    calibration: samples by default."""

    title: str
    read: Callable[[Path, bool], Samples]
    shape: Shape
    steps: int
    classes: int
    calibration: int
    frames: float | Split = "number"
    binary: bool = False

    def spikes(self, samples: Samples, indices: np.ndarray) -> SpikeData:
        """Input (len(indices), steps, *shape) of these samples."""
        chosen = samples.chosen(indices.tolist())
        if isinstance(chosen, images.Images):
            return images.direct_coding(chosen, self.steps)
        dt = self.frames if isinstance(self.frames, str) else self.frames / 1e3
        return events_to_spikes(chosen, dt, self.steps, self.shape, binary=self.binary)


def imagenet(folder: Path, train: bool) -> images.Images:
    return images.image_folder(folder / ("train" if train else "val"))


def half_size(folder: Path, train: bool) -> Recordings:
    return datasets.downsized(datasets.cifar10_dvs(folder, train), 2)


DATASETS = {
    # The paper does not say how it cuts N-MNIST into 100 steps; these are what the project's network was trained on.
    "nmnist": Dataset("N-MNIST", datasets.nmnist, NMNIST, 100, 10, 200, frames=3.0, binary=True),
    "cifar10dvs": Dataset("CIFAR10-DVS", half_size, (2, 64, 64), 20, 10, 900),
    "dvs128gesture": Dataset("DVS128-Gesture", datasets.dvs128_gesture, datasets.DVS128_GESTURE, 20, 11, 200),
    "asldvs": Dataset("ASL-DVS", datasets.asl_dvs, datasets.ASL_DVS, 30, 24, 200),
    "cifar100": Dataset("CIFAR-100", images.cifar100, (3, 32, 32), 5, 100, 10000),
    "imagenet": Dataset("ImageNet", imagenet, (3, 224, 224), 4, 1000, 1000),
}


def stratified(labels: np.ndarray, size: int, seed: int) -> np.ndarray:
    """`size` indices drawn without repetition, the same number of every class as far as it goes; in rising order."""
    order = np.random.default_rng(seed).permutation(len(labels))
    rank = np.empty(len(labels), dtype=np.int64)  # how many of its class were drawn before
    for label in np.unique(labels):
        own = order[labels[order] == label]
        rank[own] = np.arange(len(own))
    return np.sort(order[np.argsort(rank[order], kind="stable")][:size])
