"""Small random integer networks that use everything the Lava back end can express."""

from __future__ import annotations

from math import prod

import numpy as np
from scipy import sparse

from neurocompress.chip.arithmetic import Arithmetic
from neurocompress.chip.on_chip.integer_network import IntegerNetwork, Population, Synapses
from neurocompress.network.kernel import Kernel

Rng = np.random.Generator


def coin(rng: Rng, p: float = 0.5) -> bool:
    return bool(rng.random() < p)


def weights(rng: Rng, shape: tuple[int, ...], density: float, bits: int, sign: str) -> np.ndarray:
    """Integers on the chip's grid."""
    step = 2 ** (8 - bits + (sign == "mixed"))
    w = np.clip(rng.normal(20, 90, shape), -256, 255)
    if sign != "mixed":
        w = np.clip(np.abs(w), 0, 255) * (1 if sign == "excitatory" else -1)
    w = (w / step).astype(np.int64) * step
    return w * (rng.random(shape) < density)


def population(rng: Rng, name: str, shape: tuple[int, ...], latency: int, native: bool, graded: bool) -> Population:
    size = prod(shape)

    def spread(low: int, high: int) -> np.ndarray:
        if native or coin(rng, 0.6):
            return np.array(rng.integers(low, high))
        return rng.integers(low, high, size=shape)

    vth = spread(30, 400)
    du = np.array(4095) if coin(rng, 0.4) else spread(0, 4096)
    dv = np.array(0) if coin(rng, 0.4) else spread(0, 2000)
    bias = rng.integers(-800, 1200, size=shape) if coin(rng) else np.array(0)
    common = dict(name=name, shape=shape, du=du, dv=dv, vth=vth, bias_mant=bias, bias_exp=int(rng.integers(0, 4)),
                  latency=latency)
    if native or size == 0:
        return Population(**common)
    return Population(
        **common, reset="subtract" if coin(rng, 0.7) else "zero", reset_by=vth * 64, fire=">=" if coin(rng) else ">",
        spikes_per_step="many" if graded else "one", v_floor=-vth * 64 if coin(rng, 0.3) else None,
        two_phase=coin(rng, 0.3), late_reset=coin(rng, 0.3), u_init=spread(-500, 500) if coin(rng, 0.3) else 0,
        v_init=spread(-5000, 9000) if coin(rng, 0.3) else 0,
    )


def windows(n: int, k: int, stride: int, padding: tuple[int, int], dilation: int) -> int:
    return (n + sum(padding) - dilation * (k - 1) - 1) // stride + 1


def convolution(rng: Rng, source: tuple[int, ...], bits: int, sign: str) -> tuple[np.ndarray, Kernel]:
    """A kernel for one or two axes, with all that a kernel can have; it always fits."""
    axes = len(source) - 1
    groups = source[0] if coin(rng, 0.3) else 1
    while True:
        kernel = tuple(int(k) for k in rng.integers(1, 4, axes))
        stride = tuple(int(k) for k in rng.integers(1, 3, axes))
        dilation = tuple(int(k) for k in rng.integers(1, 3, axes))
        sides = [tuple(int(x) for x in rng.integers(0, 3, 2)) for _ in range(axes)]
        padding = tuple((a, a) if coin(rng, 0.8) else (a, b) for a, b in sides)
        spatial = [windows(*args) for args in zip(source[1:], kernel, stride, padding, dilation, strict=True)]
        if min(spatial) >= 1 and prod(spatial) <= 30:
            break
    c_out = groups * int(rng.integers(1, 3))
    w = weights(rng, (c_out, source[0] // groups, *kernel), 0.9, bits, sign)
    return w, Kernel(source, (c_out, *spatial), stride, padding, dilation, groups)


def random_network(rng: Rng) -> IntegerNetwork:
    """Up to four populations in a row, with skips, feedback, delays, images and every kind of neuron."""
    shape: tuple[int, ...] = [(int(rng.integers(1, 9)),), (2, 5, 4), (2, 9)][rng.integers(3)]
    input_bits = 4 if coin(rng, 0.3) else 0
    shapes, latencies = {"in": shape}, {"in": 0}
    bits_of = {"in": input_bits}
    populations, synapses = [], []

    def connect(name: str, source: str, target: str, extra: int, feedback: bool = False) -> None:
        bits, sign = int(rng.choice([8, 8, 4, 6])), str(rng.choice(["mixed", "mixed", "mixed", "excitatory"]))
        w = weights(rng, (prod(shapes[target]), prod(shapes[source])), float(rng.choice([1.0, 0.1, 0.4])), bits, sign)
        delay = np.full(w.shape[1], extra)
        if coin(rng, 0.2):
            delay = delay + rng.integers(0, 4, w.shape[1])
        synapses.append(Synapses(
            name, source, target, sparse.csr_array(w) if coin(rng) else w, None, int(rng.integers(-2, 3)), bits, sign,
            shapes[source], shapes[target], extra_delay=delay if np.ptp(delay) else int(delay[0]), feedback=feedback,
            message_bits=bits_of[source]))

    depth = int(rng.integers(1, 5))
    previous = "in"
    for i in range(depth):
        name, last = f"n{i}", i == depth - 1
        native, graded = coin(rng), coin(rng, 0.4)
        latencies[name] = latencies[previous] + 1
        source = shapes[previous]
        bits, sign = 8, "mixed"
        if len(source) > 1 and coin(rng, 0.8):
            w, kernel = convolution(rng, source, bits, sign)
            shapes[name] = kernel.output_shape
            extra = int(rng.integers(1, 3)) if coin(rng, 0.15) else 0
            synapses.append(Synapses(f"w{i}", previous, name, w, kernel, int(rng.integers(-1, 3)), bits, sign, source,
                                     kernel.output_shape, extra_delay=extra, message_bits=bits_of[previous]))
        else:
            shapes[name] = (int(rng.integers(1, 9)),)
            connect(f"w{i}", previous, name, int(rng.integers(1, 5)) if coin(rng, 0.15) else 0)
        p = population(rng, name, shapes[name], latencies[name], native, graded)
        if last and not native and coin(rng, 0.2):
            p = Population(name, p.shape, p.du, p.dv, p.vth, p.bias_mant, p.bias_exp, spiking=False,
                           latency=p.latency)
        populations.append(p)
        bits_of[name] = 16 if p.spikes_per_step == "many" else 0
        if i and coin(rng, 0.4):  # a shorter way, balanced by a delay
            early = str(rng.choice(["in", *(q.name for q in populations[:-2])]))
            connect(f"skip{i}", early, name, latencies[name] - 1 - latencies[early])
        previous = name
    for target in populations:
        source_population = populations[int(rng.integers(len(populations)))]
        later = latencies[source_population.name] >= latencies[target.name]
        if later and source_population.spiking and coin(rng, 0.4):
            connect(f"back to {target.name}", source_population.name, target.name, int(rng.integers(0, 3)), True)
    return IntegerNetwork("in", shape, previous, tuple(populations), tuple(synapses), Arithmetic(),
                          input_message_bits=input_bits)


def random_spikes(rng: Rng, network: IntegerNetwork, samples: int, steps: int) -> np.ndarray:
    shape = (samples, steps, *network.input_shape)
    values = (rng.random(shape) < 0.4).astype(np.int64)
    return values * rng.integers(-3, 8, shape) if network.input_message_bits else values
