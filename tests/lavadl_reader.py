"""A reader of lava-dl's layer files that runs them, written from lava-dl's own (netx/hdf5.py) and Lava's LIF alone.

It shares no code with the product; `test_targets_lavadl.py` holds it against a run that lava-dl itself recorded.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import torch


def trunc(x: np.ndarray) -> np.ndarray:
    return np.sign(x) * (np.abs(x) >> 12)


def lif(a: np.ndarray, neuron: h5py.Group, bias: np.ndarray | int) -> np.ndarray:
    """Lava's fixed-point LIF: a (steps, *shape) -> spikes."""
    du, dv = int(neuron["iDecay"][()]) - 1, int(neuron["vDecay"][()])
    vth = int(neuron["vThMant"][()]) << 6
    u = v = np.zeros(a.shape[1:], np.int64)
    out = []
    for x in a:
        u = trunc(u * (4095 - du)) + (x << 6)
        v = trunc(v * (4096 - dv)) + u + (bias << 6)
        spikes = v > vth
        v = np.where(spikes, 0, v)
        out.append(spikes)
    return np.array(out)


def run(file: Path, x: np.ndarray) -> list[np.ndarray]:
    """Spikes of every layer with neurons, each on its own clock. x: (steps, *shape) spikes, or for a file with an
    `input` layer the constant bias of its neurons, (steps, channels, height, width)."""
    found = []
    with h5py.File(file) as f:
        layers = f["layer"]
        for k in range(len(layers)):
            layer = layers[str(k)]
            kind = layer["type"][0].decode()
            if kind == "flatten":
                x = x.reshape(len(x), -1)
                continue
            bias = layer["bias"][()].astype(np.int64) if "bias" in layer else 0
            if kind == "input":
                x = lif(np.zeros(x.shape, np.int64), layer["neuron"], x[0].astype(np.int64))
                continue
            weight = layer["weight"][()].astype(np.float64)
            if kind == "conv":
                geometry = {n: tuple(layer[n][()]) for n in ("stride", "padding", "dilation")}
                y = torch.nn.functional.conv2d(torch.from_numpy(x.astype(np.float64)), torch.from_numpy(weight),
                                               groups=int(layer["groups"][()]), **geometry)
                a, bias = y.numpy(), bias if np.ndim(bias) == 0 else bias[:, None, None]
            else:
                a = x.astype(np.float64) @ weight.reshape(int(layer["outFeatures"][()]), -1).T
            x = lif(a.astype(np.int64), layer["neuron"], bias)
            assert x.shape[1:] == tuple(n for n in layer["shape"][()] if kind == "conv" or n > 1) or kind == "dense"
            found.append(x)
    return found
