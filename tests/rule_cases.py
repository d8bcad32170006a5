"""A made-up chip with room for everything, and small networks to hold against it when one limit is changed."""

from __future__ import annotations

import copy
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from neurocompress.chip.profile.load import load_profile
from neurocompress.fit.check import Fit, check_fit
from neurocompress.network.conventions import Conventions
from neurocompress.network.graph import Network
from neurocompress.network.nodes import Conv, Delay, Flatten, Input, Linear, Neuron, Node, Output, Pool, Shape

ROOM = 10**6
Change = dict[str, Any]


def entry(value: Any, unit: str | None = None) -> dict[str, Any]:
    return {"value": value, "source": "made up for this test", "kind": "wall",
            "confidence": "unknown" if value is None else "documented", **({"unit": unit} if unit else {})}


#: A chip with room for everything: its memory holds weights of 8 bit and an index where that takes less.
ROOMY: dict[str, dict[str, Any]] = {
    "topology": {"cores_per_chip": entry(ROOM), "chips": entry(1), "synapses_per_chip": entry(ROOM),
                 "memory_per_chip": entry(ROOM, "bytes"), "inputs": entry(ROOM), "hidden": entry(ROOM),
                 "outputs": entry(ROOM), "input_side_max": entry(ROOM)},
    "core": {"neurons": entry(ROOM), "synapse_memory": entry(ROOM, "bits"), "memory_per_axon": entry(ROOM, "bits"),
             "axons_in": entry(ROOM), "axons_out": entry(ROOM), "fan_in": entry(ROOM), "fan_out": entry(ROOM),
             "delay_slots": entry(ROOM)},
    "memory": {"formula": entry("weight-and-index-bits"), "shared_kernels": entry(True)},
    "weights": {"bits": entry([4, 8]), "default_bits": entry(8), "magnitude_bits": entry(8),
                "mixed_sign_bits": entry(0), "signs": entry(["mixed"]), "scale": entry("per-population")},
    "neurons": {"models": entry(["IF", "LIF"]), "reset": entry({"zero": "native", "subtract": "two compartments"}),
                "graded_spikes": entry(1), "delay_max": entry(ROOM)},
    "energy": {"conditions": "none", "per_synaptic_operation": entry(None)},
}
#: The same as a crossbar whose weights are made of several axons.
CROSSBAR: dict[str, dict[str, Any]] = copy.deepcopy(ROOMY)
CROSSBAR["core"] |= {"axon_types": entry(64), "destinations": entry(ROOM)}
#: The same with one layer on each core: two kinds of cores.
LAYERED: dict[str, dict[str, Any]] = copy.deepcopy(ROOMY)
LAYERED["topology"] |= {"cores_per_chip": entry(3), "one_layer_per_core": entry(True)}
LAYERED["core"] |= {"kernel_words": entry([ROOM, ROOM, 24]), "neuron_words": entry([16, ROOM, ROOM]),
                    "bias_words": entry([ROOM] * 3), "channels_max": entry(ROOM), "kernel_size_max": entry(ROOM),
                    "strides": entry([1, 2]), "padding_max": entry(ROOM), "pools": entry([1, 2]),
                    "map_side_max": entry(ROOM), "targets_per_layer": entry(ROOM)}


def held(network: Network, changed: Change, chip: dict[str, dict[str, Any]] = ROOMY, **more: Any) -> Fit:
    """A network held against a roomy chip with some limits changed ("core.fan_in": 5; None is an unknown one)."""
    made: dict[str, Any] = copy.deepcopy(chip)
    for key, value in changed.items():
        section, name = key.split(".")
        made[section][name] |= entry(value)
    made |= {"name": "roomy", "title": "Roomy", "vendor": "nobody", "year": 2026, "emits": ["nir"]}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chip.yaml"
        path.write_text(yaml.safe_dump(made), encoding="utf-8")
        return check_fit(network, load_profile(path), **more)


def codes(fit: Fit) -> set[str]:
    return {v.code for v in fit.violations}


def neurons(shape: Shape) -> Neuron:
    return Neuron(shape, np.ones(()), np.ones(()), np.zeros(()))


def network(nodes: dict[str, Node], *more: tuple[str, str], chain: list[str] | None = None, **rule: Any) -> Network:
    return Network(nodes, (*pairwise(chain or list(nodes)), *more), Conventions(**{"dt": 1.0, **rule}))


def mixed(*shape: int) -> np.ndarray:
    """Weights of both signs, none of them zero."""
    return np.where(np.arange(np.prod(shape)) % 2, -0.5, 1.0).reshape(shape)


def dense(**rule: Any) -> Network:
    """4 -> 6 -> 3, every synapse there: 42 of them."""
    return network({"in": Input((4,)), "fc1": Linear(mixed(6, 4)), "a": neurons((6,)), "fc2": Linear(mixed(3, 6)),
                    "b": neurons((3,)), "out": Output()}, **rule)


def late() -> Network:
    """The second layer waits two steps for the Delay node between them; one of them every connection takes."""
    return network({"in": Input((4,)), "fc1": Linear(mixed(6, 4)), "a": neurons((6,)), "wait": Delay(np.full(6, 2.0)),
                    "fc2": Linear(mixed(3, 6)), "b": neurons((3,)), "out": Output()})


def images(kernel: int = 3, stride: int = 1, padding: int = 0, pool: int = 2, bias: bool = True) -> Network:
    """2 x 9 x 9 -> 5 channels of `kernel` taps -> pool -> 3: each behind neurons."""
    side = (9 + 2 * padding - kernel) // stride + 1
    pooled = side // pool
    nodes: dict[str, Node] = {
        "in": Input((2, 9, 9)),
        "conv": Conv(mixed(5, 2, kernel, kernel), np.ones(5) if bias else None, (stride,) * 2, ((padding,) * 2,) * 2,
                     (1, 1)),
        "a": neurons((5, side, side)), "pool": Pool("sum", (pool,) * 2, (pool,) * 2, ((0, 0), (0, 0))),
        "flat": Flatten(), "fc": Linear(mixed(3, 5 * pooled * pooled)), "b": neurons((3,)), "out": Output(),
    }
    return network(nodes)


def forked() -> Network:
    """One layer that two others hear."""
    nodes: dict[str, Node] = {
        "in": Input((4,)), "fc1": Linear(mixed(6, 4)), "a": neurons((6,)), "fc2": Linear(mixed(3, 6)),
        "b": neurons((3,)), "out": Output(), "fc3": Linear(mixed(3, 6)), "c": neurons((3,)),
    }
    chain = ["in", "fc1", "a", "fc2", "b", "out"]
    return network(nodes, ("a", "fc3"), ("fc3", "c"), ("c", "out"), chain=chain)


def joined() -> Network:
    """Two matrices into the same neurons."""
    nodes: dict[str, Node] = {
        "in": Input((4,)), "fc1": Linear(mixed(6, 4)), "a": neurons((6,)), "fc2": Linear(mixed(6, 4)), "out": Output(),
    }
    return network(nodes, ("in", "fc2"), ("fc2", "a"), chain=["in", "fc1", "a", "out"])


def bare() -> Network:
    """A pool right in front of neurons."""
    return network({"in": Input((2, 4, 4)), "pool": Pool("sum", (2, 2), (2, 2), ((0, 0), (0, 0))),
                    "a": neurons((2, 2, 2)), "out": Output()})
