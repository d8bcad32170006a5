"""What a layer file of lava-dl can not express."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from neurocompress.chip.on_chip.integer_network import IntegerNetwork, Population, Synapses
from neurocompress.errors import Problem
from neurocompress.network.connections import Connection
from neurocompress.network.graph import Network
from neurocompress.network.nodes import Neuron

#: Chip units of a bias of 1: lava-dl sets bias_exp to 6.
BIAS_UNIT = 1 << 6
#: Threshold mantissa that is never reached: that of a readout.
NEVER = (1 << 17) - 1
#: lava-dl clips mixed weights to this range, and drops their lowest bit.
LOW, HIGH = -256, 254
#: Entries of a matrix up to which pooling and a layer are written out as one dense layer.
DENSE_MAX = 2**26
#: Which of the limits here are not among those that are `foreseen`.
UNFORESEEN = ("the format has one decay and threshold to a layer, whole biases, no delays and no weights that are all "
              "zero: deploy asks it, with the network that the chip computes")
#: What to do where layers are no chain.
CHAIN = "Emit Lava: the format has no branches and no feedback"
#: What to do where neurons are others than lava-dl's.
NEURONS = "Read the model with --reset zero and a preset that fires above the threshold, or emit Lava"


def chain(network: IntegerNetwork) -> list[tuple[Synapses, Population]]:
    """Each population with the connection into it, in the order of the layers; of several the first."""
    return [(next(s for s in network.synapses if s.target == p.name), p) for p in network.populations]


def one(values: object) -> int:
    """The number that all entries are equal to."""
    return int(np.asarray(values).reshape(-1)[0])


def foreseen(network: Network, connections: tuple[Connection, ...]) -> Iterator[tuple[str, str, str]]:
    """What is known before compression: layer, reason and what to do, for all that is no chain of layers, and for
    neurons that reset or fire in another way than lava-dl's."""
    before, rule = network.input, network.conventions
    differ = [what for what, is_so in (("reset by subtraction", rule.reset == "subtract"),
                                       ("firing at the threshold (>=)", rule.fire == ">=")) if is_so]
    for name in network.populations if differ else ():
        node = network.nodes[name]
        if isinstance(node, Neuron) and node.spiking:
            yield name, " and ".join(differ), NEURONS
    for name in network.populations:
        into = [c for c in connections if c.target == name]
        if len(into) != 1 or into[0].source != before:
            yield name, "branches, sums or feedback", CHAIN
        before = name


def refusals(network: IntegerNetwork) -> list[Problem]:
    """Every reason why this network can not become a layer file, each with its layer; empty when it can."""
    if not isinstance(network, IntegerNetwork):
        return [Problem("its neurons keep real numbers, lava-dl's compute in integers",
                        fix="Deploy to a chip with integer neurons, or take lava-dl out of the profile's `emits`")]
    problems = list(_order(network))
    for p in network.populations:
        problems += _neurons(p)
    for s in network.synapses:
        problems += _weights(s)
    return problems


def _order(network: IntegerNetwork) -> Iterator[Problem]:
    before = network.input
    for p in network.populations:
        into = [s for s in network.synapses if s.target == p.name]
        if len(into) != 1 or into[0].source != before:
            sources = ", ".join(f"'{s.source}'" for s in into)
            yield Problem(f"it is driven by {sources}, a layer file only by the layer before, '{before}'",
                          f"neurons '{p.name}'", CHAIN)
        elif np.any(np.asarray(network.aligned_delay(into[0])) != 0):
            yield Problem("it waits, and a layer file has no delays that neurons share with others",
                          f"connection '{into[0].name}'", "Remove the delay, or emit Lava")
        before = p.name
    if network.output != before:
        yield Problem(f"the output is '{network.output}', the last layer '{before}'",
                      fix="End the network in its output")
    if network.input_message_bits:
        yield Problem("its input sends more than one spike in a step", f"input '{network.input}'",
                      "Keep one spike per input and step (`neurocompress events --binary`)")


def _neurons(p: Population) -> Iterator[Problem]:
    where = f"neurons '{p.name}'"
    for name, values in (("du", p.du), ("dv", p.dv), ("vth", p.vth)):
        if np.unique(values).size > 1:
            yield Problem(f"its neurons differ in {name}, a layer has one", where, "Give them the same parameters")
    differ = [what for what, is_so in (
        ("resets by subtraction", p.spiking and p.reset != "zero"),
        ("resets one step late", p.spiking and p.late_reset),
        ("fires at the threshold (>=)", p.spiking and p.fire != ">"),
        ("sends several spikes in a step", p.spikes_per_step != "one"), ("has a floor", p.v_floor is not None),
        ("starts from a state of its own", bool(np.any(p.u_init) or np.any(p.v_init)))) if is_so]
    if differ:
        yield Problem(f"it {', '.join(differ)}, which lava-dl's neurons can not", where, NEURONS)
    bias = np.asarray(p.bias_mant, dtype=np.int64) << p.bias_exp
    if np.any(bias % BIAS_UNIT):
        yield Problem("its biases are no whole weights (multiples of 64 in the chip's units)", where,
                      "Deploy to loihi2-lava-dl, whose biases are")
    if len(p.shape) > 1:
        per_channel = np.broadcast_to(bias, p.shape).reshape(p.shape[0], -1)
        if np.any(per_channel != per_channel[:, :1]):
            yield Problem("its biases differ within a channel", where, "Use one bias for each channel, or emit Lava")


def _weights(s: Synapses) -> Iterator[Problem]:
    where = f"connection '{s.name}'"
    values = np.asarray(s.weight if isinstance(s.weight, np.ndarray) else s.weight.data, dtype=np.int64)
    if not np.any(values):
        yield Problem("all its weights are zero, which lava-dl can not load", where, "Compress it less")
        return
    scaled = np.ldexp(values.astype(np.float64), s.exponent)
    if scaled.min() < LOW or scaled.max() > HIGH or np.any(scaled % 1):
        yield Problem(f"its weights reach from {scaled.min():g} to {scaled.max():g} with their exponent {s.exponent}; "
                      f"the format has no exponent and holds whole numbers from {LOW} to {HIGH}", where,
                      "Deploy to loihi2-lava-dl, whose weights have no exponent")
    if s.kernel is None:
        if len(s.target_shape) > 1:
            yield Problem("a matrix drives neurons of an image, for which the format has no layer", where,
                          "Put a convolution or a flat population there")
        if int(np.prod(s.weight.shape)) > DENSE_MAX:
            yield Problem(f"written out it has {int(np.prod(s.weight.shape)):,} weights", where,
                          "Leave out the pooling before it, or emit Lava")
    elif len(s.kernel.stride) != 2 or any(before != after for before, after in s.kernel.padding):
        yield Problem("it is a convolution over one axis, or padded unevenly", where,
                      "Use a two-dimensional convolution with the same padding on both sides")
