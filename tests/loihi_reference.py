"""A literal interpreter of integer networks: one stream, one step after another, one neuron after another.

It follows the text of `neurocompress/chip/on_chip/integer_network.py` in Python's unbounded integers and shares no code
with the product: convolutions are torch's, neurons are scalar functions. Slow, and meant to be obvious.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch

from neurocompress.chip.arithmetic import Arithmetic
from neurocompress.chip.on_chip.integer_network import IntegerNetwork, Population, Synapses


@dataclass
class Trace:
    """(samples, steps, *shape) int64: what a population sent, and its states after each step."""

    spikes: np.ndarray
    u: np.ndarray
    v: np.ndarray


def decay(x: int, factor: int, unity: int) -> int:
    """x * factor / unity, rounded towards zero."""
    return -((-x * factor) // unity) if x < 0 else (x * factor) // unity


def neuron(p: dict, u: int, v: int, before: int, a: int, rule: Arithmetic) -> tuple[int, int, int]:
    """One step of one neuron with parameters p that sent `before`: new u, new v, and what it sends. Loihi: words
    of 24 bits, decays in parts of 4096, shifts of 6."""
    word, unity = 2**rule.state_bits, 2**rule.decay_bits
    threshold = p["vth"] * 2**rule.threshold_shift

    def fires(v: int, at: int) -> bool:
        return v > at if p["fire"] == ">" else v >= at

    offset = p["reset_by"] if p["two_phase"] and v > threshold else 0
    u = decay(u, unity - p["du"] - 1, unity) + a * 2**rule.activation_shift
    if not rule.u_wraps:
        u = max(min(u, word // 2 - 1), 1 - word // 2)
    elif u > word // 2:
        u -= word
    elif u <= -word // 2:
        u += word
    v = decay(v, unity - p["dv"], unity) + u + p["bias_mant"] * 2 ** p["bias_exp"]
    if p["late_reset"] and before:
        v = 0 if p["reset"] == "zero" else v - before * p["reset_by"]
    v = max(min(v, word // 2 - 1), 1 - word // 2)
    if p["v_floor"] is not None:
        v = max(v, p["v_floor"])
    if not p["spiking"]:
        return u, v, v
    n = 0
    left = v - offset
    if p["spikes_per_step"] == "one":
        n = int(fires(left, threshold))
    else:
        while fires(left, threshold):  # as many thresholds as fit
            left -= threshold
            n += 1
    if n and not p["late_reset"] and p["reset"] == "zero":
        v = 0
    elif n and not p["late_reset"]:
        v -= n * p["reset_by"]
    if p["v_floor"] is not None:
        v = max(v, p["v_floor"])
    return u, v, n


def parameters(p: Population) -> list[dict]:
    """The parameters of each neuron, in row-major order."""
    size = int(np.prod(p.shape))

    def spread(values: object) -> list[int]:
        return [int(x) for x in np.broadcast_to(np.asarray(values), p.shape).reshape(-1)]

    fields = {name: spread(getattr(p, name)) for name in
              ("du", "dv", "vth", "bias_mant", "bias_exp", "reset_by", "u_init", "v_init")}
    fields["v_floor"] = [None] * size if p.v_floor is None else spread(p.v_floor)
    shared = {name: getattr(p, name) for name in
              ("reset", "fire", "spikes_per_step", "two_phase", "late_reset", "spiking")}
    return [shared | {name: values[i] for name, values in fields.items()} for i in range(size)]


def product(s: Synapses, x: np.ndarray) -> np.ndarray:
    """weight * x for integers x (sources,): what arrives at each target, before the exponent."""
    if s.kernel is None:
        return (s.weight.astype(np.int64) @ x).reshape(-1)
    k = s.kernel
    image = torch.from_numpy(x.reshape(k.input_shape).astype(np.float64))[None]
    pads = [side for pair in reversed(k.padding) for side in pair]  # torch pads the last axis first
    convolve = torch.nn.functional.conv1d if len(k.input_shape) == 2 else torch.nn.functional.conv2d
    weight = torch.from_numpy(np.asarray(s.weight).astype(np.float64))
    found = convolve(torch.nn.functional.pad(image, pads), weight, stride=k.stride, dilation=k.dilation,
                     groups=k.groups)
    return found[0].numpy().reshape(-1).astype(np.int64)


def simulate(network: IntegerNetwork, samples: np.ndarray, gap: int = 200) -> dict[str, Trace]:
    """Runs the samples (samples, steps, *input shape) one after another, `gap` silent steps between them.

    A population works in the steps [start + latency, start + latency + steps) of each sample, from u_init and
    v_init on, and sends nothing outside. A message sent in step t arrives in step t + 1 + extra_delay; all that
    arrives over one connection with the same delay is summed and shifted together.
    """
    n, steps = samples.shape[:2]
    neurons = {p.name: parameters(p) for p in network.populations}
    traces = {p.name: Trace(*(np.zeros((n, steps, *p.shape), np.int64) for _ in range(3))) for p in network.populations}
    state = {}
    arriving: dict[tuple[int, str], np.ndarray] = defaultdict(lambda: np.zeros((), np.int64))
    period = steps + gap
    for t in range(n * period):
        sent = {}
        sample, step = divmod(t, period)
        if step < steps:
            sent[network.input] = samples[sample, step].reshape(-1).astype(np.int64)
        for p in network.populations:
            sample, step = divmod(t - p.latency, period)
            if sample < 0 or step >= steps:
                continue
            if step == 0:
                state[p.name] = [(q["u_init"], q["v_init"], 0) for q in neurons[p.name]]
            a = np.broadcast_to(arriving[t, p.name], len(neurons[p.name]))
            done = [neuron(q, *uv, int(x), network.arithmetic)
                    for q, uv, x in zip(neurons[p.name], state[p.name], a, strict=True)]
            state[p.name] = done
            sent[p.name] = np.array([out for _, _, out in done])
            for array, values in zip((traces[p.name].u, traces[p.name].v, traces[p.name].spikes),
                                     zip(*done, strict=True), strict=True):
                array[sample, step] = np.reshape(values, p.shape)
        for s in network.synapses:
            if s.source not in sent or not sent[s.source].any():
                continue
            delays = np.broadcast_to(np.asarray(s.extra_delay), sent[s.source].shape)
            for d in np.unique(delays):
                total = product(s, np.where(delays == d, sent[s.source], 0))
                total = total * 2**s.exponent if s.exponent >= 0 else np.floor_divide(total, 2**-s.exponent)
                arriving[t + 1 + int(d), s.target] = arriving[t + 1 + int(d), s.target] + total
    return traces
