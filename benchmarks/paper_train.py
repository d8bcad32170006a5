"""Networks of the paper's kind, trained on the paper's event datasets where a user has no trained network.

The paper shows its convolutional networks as figures only. These have as many layers of each kind, 3 x 3 convolutions
with stride 2 instead of pooling, and its neuron (tau 2, reset to zero); N-MNIST's 2312-512-10 is the paper's own.
"""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import nir
import numpy as np
import torch

from benchmarks.networks import Benchmark
from benchmarks.paper_data import Dataset, Samples
from benchmarks.spiking import Spiking, to_nir
from benchmarks.train import Batches, fit
from neurocompress.files.places import room
from neurocompress.network.nodes import Shape

BATCH = 50

#: Adam's rate at the start (the paper's), and the logit of a neuron that spikes in every step.
LEARNING_RATE, LOGIT = 1e-3, 20.0

#: Channels and stride of each convolution, and neurons of each hidden layer, by dataset.
LAYERS: dict[str, tuple[tuple[tuple[int, int], ...], tuple[int, ...]]] = {
    "nmnist": ((), (512,)),
    "cifar10dvs": (((32, 2), (64, 2), (128, 2), (128, 2)), (256,)),
    "dvs128gesture": (((32, 2), (64, 2), (64, 2), (128, 2), (128, 2)), (256,)),
    "asldvs": (((16, 2), (32, 2), (64, 2), (64, 2)), ()),
}


@dataclass(frozen=True)
class Trained(Benchmark):
    """shape: of the input. seconds: of one time step; 1 ms where frames are cut by number or by share of time."""

    shape: Shape = ()
    seconds: float = 1e-3

    @property
    def input_shape(self) -> tuple[int, int, int]:
        channels, height, width = self.shape
        return channels, height, width

    @property
    def dt(self) -> float:
        return self.seconds


def train(name: str, dataset: Dataset, samples: Samples, epochs: int, path: Path) -> None:
    """Trains on all of `samples` and writes a .nir, whole or not at all; tells its progress on stderr.

    The same data and number of threads give the same bits. Raises `Refused` where nothing can be written.
    """
    room(path)
    convs, hidden = LAYERS[name]
    seconds = 1e-3 if isinstance(dataset.frames, str) else dataset.frames / 1e3
    network = Trained(name, name, dataset.steps, convs, hidden, classes=dataset.classes, shape=dataset.shape,
                      seconds=seconds)
    torch.manual_seed(0)
    rng, each = np.random.default_rng(0), -(-samples.count // BATCH)

    def batches() -> Batches:
        for _ in range(epochs):
            for chosen in np.array_split(rng.permutation(samples.count), each):
                data = dataset.spikes(samples, chosen)
                yield torch.from_numpy(data.spikes), torch.from_numpy(data.labels)

    with redirect_stdout(sys.stderr):
        model = fit(Spiking(network), network, epochs * each, batches(), LEARNING_RATE, LOGIT)
    part = path.with_suffix(".part")
    nir.write(part, to_nir(model, network))
    os.replace(part, path)
