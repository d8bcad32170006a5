"""A network in integers as a layer file of lava-dl (network.net, HDF5), which lava.lib.dl.netx.hdf5.Network reads.

The format knows a chain of dense and convolutional layers of neurons that reset to zero, one decay and threshold for
each layer, weights of at most 8 bits without exponent, and biases in units of a weight (their exponent is fixed at 6).
The profile loihi2-lava-dl has these number formats. There is no `input` layer, for that would be neurons: read it with

    Network(net_config="network.net", input_shape=(width, height, channels))

Formats: lava-dl @4919a66aea1c, src/lava/lib/dl/netx/{hdf5,utils}.py; recorded networks of lava-dl.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from neurocompress.chip.on_chip.integer_network import IntegerNetwork, Population, Synapses
from neurocompress.errors import Refused
from neurocompress.files.whole import unwritable, whole_file

from .limits import BIAS_UNIT, NEVER, UNFORESEEN, chain, foreseen, one, refusals

__all__ = ["UNFORESEEN", "emit", "foreseen", "refusals"]

FILE = "network.net"


def emit(network: IntegerNetwork, folder: Path) -> None:
    """Writes folder/network.net, whole or not at all. Raises `Refused` with every problem that `refusals` finds, or
    when the folder can not be written."""
    import h5py

    problems = refusals(network)
    if problems:
        raise Refused(problems)
    content = io.BytesIO()  # not straight to a disk, which may be full: see targets.nir
    with h5py.File(content, "w") as file:
        for k, fields in enumerate(layers(network)):
            _write(file.create_group(f"layer/{k}"), fields)
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from None
    with whole_file(Path(folder) / FILE) as new:
        new.write_bytes(content.getbuffer())


def layers(network: IntegerNetwork) -> list[dict[str, Any]]:
    """The layers of the file with their fields, in order, for a network without `refusals`."""
    found: list[dict[str, Any]] = []
    for s, p in chain(network):
        if s.kernel is None and len(s.source_shape) > 1:
            found.append({"type": "flatten", "shape": [1, 1, int(np.prod(s.source_shape))]})
        found.append(_layer(s, p, network))
    return found


def _layer(s: Synapses, p: Population, network: IntegerNetwork) -> dict[str, Any]:
    neuron = {"type": "CUBA", "iDecay": one(p.du) + 1, "vDecay": one(p.dv),
              "vThMant": one(p.vth) if p.spiking else NEVER, "refDelay": 1, "gradedSpike": False}
    bias = np.broadcast_to(np.asarray(p.bias_mant) << p.bias_exp, p.shape) // BIAS_UNIT
    if s.kernel is None:
        weight = s.weight if isinstance(s.weight, np.ndarray) else s.matrix().toarray()
        fields = {"type": "dense", "shape": [weight.shape[0], 1, 1], "inFeatures": weight.shape[1],
                  "outFeatures": weight.shape[0], "weight": _scaled(weight, s.exponent)}
        bias = bias.reshape(-1)
    else:
        k, weight = s.kernel, np.asarray(s.weight)
        fields = {"type": "conv", "shape": list(k.output_shape), "inChannels": k.input_shape[0],
                  "outChannels": k.output_shape[0], "kernelSize": list(weight.shape[2:]), "stride": list(k.stride),
                  "padding": [before for before, _ in k.padding], "dilation": list(k.dilation), "groups": k.groups,
                  "weight": _scaled(weight, s.exponent)}
        bias = bias.reshape(len(bias), -1)[:, 0]
    return fields | ({"bias": bias.astype(np.float32)} if np.any(bias) else {}) | {"neuron": neuron}


def _scaled(weight: np.ndarray, exponent: int) -> np.ndarray:
    """The weights with their exponent, float32 as lava-dl stores them."""
    found: np.ndarray = np.ldexp(weight.astype(np.float64), exponent).astype(np.float32)
    return found


def _write(group: Any, fields: dict[str, Any]) -> None:
    for key, value in fields.items():
        if isinstance(value, dict):
            _write(group.create_group(key), value)
        elif isinstance(value, str):
            group[key] = np.array([value.encode()], dtype="S10")
        else:
            group[key] = value
