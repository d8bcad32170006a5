"""What Lava and its chip can not express: every range that its simulator would break without a word.

A float threshold makes a Lava run hang, a bias beyond 16 bits wraps, a weight off its grid loses bits, and nothing
is said. So all of it is checked here, before anything is written.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import numpy as np

from neurocompress.chip.arithmetic import Arithmetic
from neurocompress.chip.on_chip.integer_network import IntegerNetwork, Population, Synapses
from neurocompress.errors import Problem

from .processes import INT32, largest_input, largest_message, largest_sum

#: The arithmetic that lava.proc.lif and the program's own neurons compute in.
LAVA = {"state_bits": 24, "decay_bits": 12, "activation_shift": 6, "threshold_shift": 6}


def refusals(network: IntegerNetwork) -> list[Problem]:
    """Every reason why this network can not become a Lava program, each with its layer; empty when it can."""
    problems = list(_structure(network))
    if problems:  # ranges mean nothing while names and shapes do not fit together
        return problems
    for population in network.populations:
        problems += _population(population, network.arithmetic)
    for synapses in network.synapses:
        problems += _synapses(synapses, network)
    return problems or list(_growth(network))


def _integers(values: object) -> bool:
    return np.asarray(values).dtype.kind in "iu"


def _structure(network: IntegerNetwork) -> Iterator[Problem]:
    if not isinstance(network, IntegerNetwork):
        yield Problem("its neurons keep real numbers, Lava's Loihi computes in integers",
                      fix="Deploy to a chip with integer neurons, or take lava out of the profile's `emits`")
        return
    a = network.arithmetic
    for field, expected in LAVA.items():
        if getattr(a, field) != expected:
            yield Problem(f"the network is made for {field} {getattr(a, field)}, Lava computes with {expected}",
                          fix="Compress for a profile whose neurons Lava simulates")
    names = [network.input, *(p.name for p in network.populations)]
    for name, count in Counter(names).items():
        if count > 1:
            yield Problem(f"{count} populations are called '{name}'", fix="Give each node its own name")
        if not name or not name.isprintable():
            yield Problem(f"the name {name!r} can not be printed", fix="Rename the node")
    if network.output not in names[1:]:
        yield Problem(f"the output '{network.output}' is no population", fix=f"Choose one of {', '.join(names[1:])}")
    if not 0 <= network.input_message_bits <= 24:
        yield Problem(f"input_message_bits is {network.input_message_bits}", f"input '{network.input}'",
                      "Use 0 (plain spikes) to 24")
    shapes = {network.input: network.input_shape} | {p.name: p.shape for p in network.populations}
    for name, shape in shapes.items():
        if not shape or min(shape) < 1:
            yield Problem(f"its shape is {shape}", f"layer '{name}'", "Give it at least one neuron")
    for p in network.populations:
        yield from _broadcasts(p)
    for s in network.synapses:
        yield from _ends(s, shapes)


def _broadcasts(p: Population) -> Iterator[Problem]:
    for field in ("du", "dv", "vth", "bias_mant", "reset_by", "v_floor", "u_init", "v_init"):
        values = getattr(p, field)
        if values is None:
            continue
        shape = np.shape(values)
        try:
            fits = np.broadcast_shapes(shape, p.shape) == p.shape
        except ValueError:
            fits = False
        if not fits:
            yield Problem(f"{field} of shape {shape} does not broadcast to {p.shape}", f"layer '{p.name}'",
                          "Give one value, or one for each neuron")
        elif not _integers(values):
            yield Problem(f"{field} holds {np.asarray(values).dtype}", f"layer '{p.name}'",
                          "Round it to integers: Lava hangs on a float")


def _ends(s: Synapses, shapes: dict[str, tuple[int, ...]]) -> Iterator[Problem]:
    where = f"connection '{s.name}'"
    if not s.name or not s.name.isprintable():
        yield Problem(f"the name {s.name!r} can not be printed", fix="Rename the node")
    for role, name, shape in (("source", s.source, s.source_shape), ("target", s.target, s.target_shape)):
        if name not in shapes:
            yield Problem(f"its {role} '{name}' is no population", where, f"Known: {', '.join(shapes)}")
        elif math.prod(shapes[name]) != math.prod(shape):
            yield Problem(f"its {role} shape {shape} does not fit '{name}' {shapes[name]}", where,
                          "Check the layers between")
    sizes = (math.prod(s.target_shape), math.prod(s.source_shape))
    if not _integers(s.weight if isinstance(s.weight, np.ndarray) else s.weight.data):
        yield Problem(f"its weights are {s.weight.dtype}", where, "Quantize them to integers")
    if s.kernel is None:
        if s.weight.shape != sizes:
            yield Problem(f"its weights have shape {s.weight.shape}, expected {sizes}", where,
                          "Give one row for each target and one column for each source")
    elif (math.prod(s.kernel.output_shape), math.prod(s.kernel.input_shape)) != sizes:
        yield Problem(f"its kernel maps {s.kernel.input_shape} to {s.kernel.output_shape}, its populations are "
                      f"{s.source_shape} and {s.target_shape}", where, "Check the layers between")
    if np.shape(s.extra_delay) not in ((), (1,), (sizes[1],)):
        yield Problem(f"extra_delay has shape {np.shape(s.extra_delay)}", where,
                      "Give one value, or one for each source")


def _outside(values: object, low: int, high: int) -> str:
    """'' when all values lie in low..high, else the range they have."""
    array = np.asarray(values)
    if array.min() >= low and array.max() <= high:
        return ""
    return f"{array.min()}" if array.min() == array.max() else f"{array.min()} to {array.max()}"


def _population(p: Population, a: Arithmetic) -> Iterator[Problem]:
    where = f"layer '{p.name}'"
    state = a.state_max - 1
    mantissa = 2 ** (a.bias_mantissa_bits - 1)
    lowest_vth = 1 if p.spikes_per_step == "many" else 0  # many divides by it
    limits = {
        "du": (0, 2**a.decay_bits - 1, "Use a longer time constant or a larger dt"),
        "dv": (0, 2**a.decay_bits - 1, "Use a longer time constant or a larger dt"),
        "vth": (lowest_vth, 2**a.threshold_bits - 1, "Scale weights, bias and threshold of the layer together"),
        "bias_mant": (-mantissa, mantissa - 1, "Use a larger bias_exp or a smaller scale"),
        "reset_by": (0, state, "Use a smaller scale"),
        "u_init": (-state, state, "Use a smaller scale"),
        "v_init": (-state, state, "Use a smaller scale"),
        "v_floor": (-state, 0, "A floor lies at or below the resting potential"),
    }
    for field, (low, high, fix) in limits.items():
        values = getattr(p, field)
        if values is not None and (found := _outside(values, low, high)):
            yield Problem(f"{field} is {found}, it must lie in {low}..{high}", where, fix)
    if isinstance(p.bias_exp, bool) or not isinstance(p.bias_exp, (int, np.integer)) \
            or not 0 <= p.bias_exp <= a.bias_exponent_max:
        yield Problem(f"bias_exp is {p.bias_exp!r}, it must be an integer in 0..{a.bias_exponent_max}", where,
                      "Use a smaller scale")
    kinds = {"reset": ("zero", "subtract"), "fire": (">", ">="), "spikes_per_step": ("one", "many")}
    for field, allowed in kinds.items():
        if getattr(p, field) not in allowed:
            yield Problem(f"{field} is {getattr(p, field)!r}", where, f"Use one of {', '.join(allowed)}")
    if p.latency < 1:
        yield Problem(f"its latency is {p.latency}", where, "Every connection takes one step: use 1 or more")


def _synapses(s: Synapses, network: IntegerNetwork) -> Iterator[Problem]:
    where, a = f"connection '{s.name}'", network.arithmetic
    if s.sign not in ("mixed", "excitatory", "inhibitory") or not 1 <= s.bits <= 8:
        yield Problem(f"its weights are {s.bits} bit {s.sign}", where,
                      "Use 1 to 8 bits, mixed, excitatory or inhibitory")
    else:
        values = s.weight if isinstance(s.weight, np.ndarray) else s.weight.data
        step = 2 ** (8 - s.bits + (s.sign == "mixed"))
        low, high = {"mixed": (-256, 256 - step), "excitatory": (0, 256 - step), "inhibitory": (step - 256, 0)}[s.sign]
        if values.size and (found := _outside(values, low, high)):
            yield Problem(f"its weights are {found}, {s.bits} bit {s.sign} weights lie in {low}..{high}", where,
                          "Use a larger exponent or more bits")
        elif np.any(values % step):
            yield Problem(f"some of its weights are no multiple of {step}, as {s.bits} bit {s.sign} weights are",
                          where, "Quantize to the chip's grid: Lava drops the low bits")
    low, high = a.weight_exponent_min, a.weight_exponent_max
    if not low <= s.exponent <= high:
        yield Problem(f"its exponent is {s.exponent}, it must lie in {low}..{high}", where, "Scale the layer")
    if not _integers(s.extra_delay) or _outside(s.extra_delay, 0, a.delay_max):
        yield Problem(f"its delay is {np.min(s.extra_delay)} to {np.max(s.extra_delay)} steps, it must be integer "
                      f"and lie in 0..{a.delay_max}", where, "Use a larger dt or a shorter delay")
    elif np.min(network.aligned_delay(s)) < 0:
        yield Problem(f"its spikes arrive {-int(np.min(network.aligned_delay(s)))} steps before '{s.target}' starts",
                      where, "Give the shorter branch an extra delay")
    graded = largest_message(network, s.source) > 1
    if graded and s.message_bits == 0:
        yield Problem(f"'{s.source}' sends graded spikes and the connection takes plain ones", where,
                      "Set message_bits, or let the layer send one spike per step")
    if not 0 <= s.message_bits <= 32:
        yield Problem(f"message_bits is {s.message_bits}", where, "Use 0 (plain spikes) to 32")


def _growth(network: IntegerNetwork) -> Iterator[Problem]:
    """Sums that 32 bit integers can not hold in the worst case."""
    for s in network.synapses:
        if largest_sum(network, s, shifted=False) >= INT32:
            yield Problem(f"its sum can reach {largest_sum(network, s, shifted=False):,}, Lava sums in 32 bits",
                          f"connection '{s.name}'", "Let the host compute the first layer (--input host)"
                          if s.source == network.input else "Send fewer message bits, or raise the source's threshold")
    for p in network.populations:
        if largest_input(network, p.name) >= INT32:
            yield Problem(f"its input can reach {largest_input(network, p.name):,}, Lava sums in 32 bits",
                          f"layer '{p.name}'", "Use smaller exponents, fewer message bits or a larger source threshold")
