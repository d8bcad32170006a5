"""What lies on each core, counted source by source and synapse by synapse from the literal paths of a network. Taken as
it was decided: which neuron lies on which core, and whether a convolution (with the pool before it) is stored as its
kernel."""

from __future__ import annotations

import math
from itertools import product

from literal_network import Path, paths

from neurocompress.fit.check import Fit
from neurocompress.fit.mapping.counts_of_kernel import KernelFan
from neurocompress.fit.mapping.counts_of_sparse_kernel import ThinFan
from neurocompress.fit.mapping.layer import Layer
from neurocompress.network.connections import Connection

Place = tuple[int, ...]


def index(neurons: int, least: int = 1) -> int:
    bits = least
    while 2**bits < neurons:
        bits += 1
    return bits


def nxtf(n: int, bits: int, prefix: int = 0, runs: int = 1) -> int:
    total = 0
    for _ in range(runs):
        left = n
        while left > 0:
            total += 10 + prefix + min(left, 60) * bits
            left -= 60
    return 0 if not total else math.ceil(total / 64) + (total % 64 == 0 or total % 64 >= 59)


def nengo(n: int, bits: int) -> int:
    words = 0
    while n > 0:
        words += math.ceil((min(n, 64) * bits + 10) / 64)
        n -= 64
    return words


def lists(formula: str, runs: int, length: int, kept: int, told_apart: int, bits: int, delay: int) -> tuple[int, int]:
    """Bits of one list, stored dense and stored sparse, as the sources of the formulas say it."""
    if formula == "nxtf-and-nengo-loihi":
        bits, name = bits + (max(delay, 3) if delay else 0), index(told_apart, 6)
        return (64 * max(nxtf(length, bits, name, runs), runs * nengo(length, bits)),
                64 * max(nxtf(kept, bits + name), nengo(kept, bits + name)))
    if formula == "synapse-words":
        word = max(16, 2 ** index(bits + index(told_apart) + delay))
        return 32 + runs * length * 8 * math.ceil((bits + delay) / 8), 32 + kept * word
    if formula == "signed-pairs":
        return 2 * bits * kept, 2 * bits * kept
    return runs * length * (bits + delay), kept * (bits + delay + index(told_apart))


def where(layer: Layer, shape: Place) -> dict[Place, int]:
    """The piece of each neuron, by its place."""
    cut = layer.cut if len(layer.cut) == len(shape) else None
    found = {}
    for number, place in enumerate(product(*map(range, shape))):
        at = place if cut is not None else (number,)
        piece = 0
        for bounds, k in zip(layer.cut, at, strict=True):
            piece = piece * (len(bounds) - 1) + sum(1 for b in bounds[1:-1] if k >= b)
        found[place] = piece
    return found


def cores(fit: Fit) -> dict[str, list[int]]:
    """Neurons, axons in and out, bits of memory and of the longest list, of each core."""
    plan, profile = fit.plan, fit.plan.profile
    network, layers = plan.network, {x.name: x for x in plan.placement.layers}
    formula = profile.memory.formula.value or "weight-and-index-bits"
    state = (profile.memory.neuron_bits.value or 0) if profile.memory.neuron_bits else 0
    used = {name: [0] * fit.cores for name in ("neurons", "axons_in", "axons_out", "memory", "memory_per_axon")}
    on = [0] * fit.cores
    for layer in layers.values():
        for core in layer.at.tolist():
            on[core] += 1
    real, full = paths(network), paths(network, ones=True)
    places = {name: where(layer, network.shapes[name]) for name, layer in layers.items()}
    for name, layer in layers.items():
        each = profile.neurons_per_neuron(network.conventions.reset) * plan.wiring.joined.get(name, 1)
        for piece in places[name].values():
            used["neurons"][layer.at[piece]] += each
            used["memory"][layer.at[piece]] += state
        sizes = [sum(1 for p in places[name].values() if p == k) for k in range(len(layer.at))]
        for i in layer.incoming:
            kernel = isinstance(i.fan, KernelFan) and not isinstance(i.fan, ThinFan)
            path = path_of(real, i.connection.source, name, i.connection.name)
            heard = path_of(full, i.connection.source, name, i.connection.name) if kernel else path
            for k, core in enumerate(layer.at.tolist()):
                here = {s: [t for t, w in to.items() if w != 0.0 and places[name][t] == k]
                        for s, to in heard.synapses.items()}
                here = {s: to for s, to in here.items() if to}
                used["axons_in"][core] += len(here)
                if i.connection.source in layers:
                    for s in here:
                        source = layers[i.connection.source]
                        used["axons_out"][source.at[places[i.connection.source][s]]] += 1
                told = profile.core.neurons.value if on[core] > 1 else max(sizes) if kernel else sizes[k]
                if kernel:
                    found = kernel_lists(path, here, i.connection, bool(i.form.shared))
                else:
                    found = [(1, sizes[k], len(to)) for to in here.values()]
                bits = [lists(formula, *one, told, i.form.bits, i.form.delay_bits) for one in found]
                dense, thin = (sum(b[n] for b in bits) for n in (0, 1))
                used["memory"][core] += min(dense, thin)
                longest = max((b[0 if dense <= thin else 1] for b in bits), default=0)
                used["memory_per_axon"][core] = max(used["memory_per_axon"][core], longest)
    return used


def path_of(found: list[Path], source: str, target: str, name: str) -> Path:
    (path,) = [p for p in found if (p.source, p.target) == (source, target)
               and (not p.nodes or name in p.nodes or name.rpartition("@")[0] in p.nodes)]
    return path


def kernel_lists(
    path: Path, here: dict[Place, list[Place]], connection: Connection, shared: bool
) -> list[tuple[int, int, int]]:
    """Runs, length of a run and weights that are kept of each list of a kernel: neurons are numbered channel last, so
    that the taps of one row are a run; sources of a channel that reach the piece alike share a list; every channel of a
    location takes the space of its longest list. Zeros are stored but where a kernel without groups has many."""
    node, weight = connection.kernel, connection.weight
    many = node.groups == 1 and sum(1 for w in weight.ravel().tolist() if w != 0) < 0.8 * weight.size
    row_is_run = node.dilation[-1] == 1 or node.stride[-1] % node.dilation[-1] == 0
    alike: dict[tuple, int] = {}
    locations: dict[Place, list[tuple[Place, list[Place]]]] = {}
    for s, to in here.items():
        locations.setdefault(s[1:], []).append((s, to))
    for at, channels in locations.items():
        taps = sorted({tuple(a + p[0] - t * step for a, p, t, step in
                             zip(at, node.padding, target[1:], node.stride, strict=True))
                       for _, to in channels for target in to})
        inner = max(len({t[0] for t in to}) for _, to in channels)
        runs = len({tap[0] for tap in taps}) if row_is_run else len(taps)
        kept = inner * len(taps)
        if many:
            kept = max(sum(1 for t in to if path.synapses[s][t] != 0.0) for s, to in channels)
        for s, _ in channels:
            key = (s[0], tuple(taps)) if shared else (s,)
            size = (runs, inner * len(taps) // runs, kept)
            alike[key] = size if key not in alike else max(size, alike[key])
    return list(alike.values())
