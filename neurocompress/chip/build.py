"""From a compressed network to a chip's integers: weights, thresholds, biases, decays, delays."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from ..errors import Problem, Refused
from ..network.connections import Connection, Weight, connections
from ..network.conventions import Conventions
from ..network.discrete import Step, discretize
from ..network.graph import Network
from ..network.nodes import WEIGHTED, Array, Neuron, Node
from .integer import Arithmetic, IntegerNetwork, Population, Synapses
from .units import Units, WeightFormat, gains


@dataclass(frozen=True)
class Features:
    """What a chip's neurons can do, from its profile. graded_bits: 0 for plain spikes only."""

    graded_bits: int
    delay_max: int


def step_of(node: Node, conventions: Conventions) -> Step | None:
    """Step coefficients of a population; None for a Threshold node, which has no memory."""
    return discretize(node, conventions) if isinstance(node, Neuron) else None


def build(
    network: Network, integers: dict[str, np.ndarray], units: dict[str, Units], fmt: WeightFormat,
    arithmetic: Arithmetic, features: Features, input_bits: int = 0,
) -> IntegerNetwork:
    """The integer form of a canonical network.

    integers: by node of weights, grid integers in the weight's shape (fixed connections are absent).
    units: by population. input_bits: of the numbers that the input sends, 0 for plain spikes.
    Raises `Refused` with everything the chip can not hold.
    """
    problems: list[Problem] = []
    notes: list[str] = []
    rounded = network.with_nodes({
        name: replace(node, weight=integers[name].astype(np.float64))
        for name, node in network.nodes.items() if isinstance(node, WEIGHTED) and name in integers
    })
    exact = {(c.name, c.source, c.target): c for c in connections(network)}
    found = connections(rounded)
    latency = latencies(network, found)
    graded = {
        name: isinstance(node, Neuron) and (
            node.v_threshold is None or network.conventions.spikes_per_step == "many")
        for name, node in network.nodes.items()
    } | {network.input: input_bits > 0}
    synapses = []
    for c in found:
        unit = units[c.target]
        source_latency = latency.get(c.source, 0)
        extra = latency[c.target] + _lag(network, c) - source_latency - 1
        if np.any(np.asarray(extra) < 0):
            notes.append(
                f"the loop through '{c.name}' takes {1 + source_latency - latency[c.target]} steps on the chip, "
                f"{int(np.max(_lag(network, c)))} in the model: every connection takes one step")
            extra = np.maximum(extra, 0) if isinstance(extra, np.ndarray) else 0
        if np.max(extra) > features.delay_max:
            problems.append(Problem(
                f"it must wait {int(np.max(extra))} steps, the chip can wait {features.delay_max}",
                f"connection '{c.name}'", "Shorten the delay, or the longest branch beside it"))
        weight = c.weight if c.trained else _fixed(c, unit, network, fmt)
        message = input_bits if c.source == network.input else features.graded_bits if graded[c.source] else 0
        synapses.append(Synapses(
            c.name, c.source, c.target, _stored(weight, fmt), c.kernel, unit.exponents[c.name], fmt.bits, "mixed",
            c.source_shape, c.target_shape, extra, c.feedback, message))
    populations = []
    for name in network.populations:
        if any(c.target == name for c in found):
            into = [exact[(c.name, c.source, c.target)] for c in found if c.target == name]
            populations.append(_population(
                network, name, into, units[name], arithmetic, latency[name], notes, problems))
    (last,) = network.inputs_of(network.output) if len(network.inputs_of(network.output)) == 1 else (None,)
    if last not in network.populations:
        problems.append(Problem("the network does not end in a population of neurons", f"node '{network.output}'",
                                "End it in LIF, IF or LI neurons: a chip has no layer without them"))
    if problems:
        raise Refused(problems)
    assert last is not None
    return IntegerNetwork(
        network.input, network.shapes[network.input], last, tuple(populations), tuple(synapses), arithmetic,
        tuple(notes), input_bits)


def _lag(network: Network, c: Connection) -> int | np.ndarray:
    """Steps that a connection takes in the model, conventions counted."""
    if c.feedback:
        return c.delay
    late = network.conventions.output_delay if isinstance(network.nodes[c.source], Neuron) else 0
    return c.delay + network.conventions.synaptic_delay + late


def latencies(network: Network, found: tuple[Connection, ...]) -> dict[str, int]:
    """By how many steps each population runs behind the input, so that all its branches arrive together."""
    behind = {network.input: 0}
    for name in network.populations:
        into = [c for c in found if c.target == name and not c.feedback]
        behind[name] = max(
            [1, *(behind.get(c.source, 0) + 1 - int(np.min(_lag(network, c))) for c in into)])
    return behind


def _stored(weight: Weight, fmt: WeightFormat) -> Weight:
    if isinstance(weight, np.ndarray):
        return np.rint(weight).astype(np.int64) * fmt.lsb
    whole = sparse.csr_array(weight)
    return sparse.csr_array((np.rint(whole.data).astype(np.int64) * fmt.lsb, whole.indices, whole.indptr), whole.shape)


def _fixed(c: Connection, unit: Units, network: Network, fmt: WeightFormat) -> Weight:
    """Weights of a connection without trained ones (pooling, an edge), as grid integers."""
    node = network.nodes[c.target]
    gain = float(np.mean(gains(node, step_of(node, network.conventions), network.conventions)))
    scale = gain / float(np.mean(unit.steps[c.name]))
    if isinstance(c.weight, np.ndarray):
        return np.rint(c.weight * scale)
    whole = sparse.csr_array(c.weight)
    return sparse.csr_array((np.rint(whole.data * scale), whole.indices, whole.indptr), whole.shape)


def per_neuron(rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """One number per row of the weights (neuron or channel), or one for all, broadcast to the population's shape."""
    rows = np.asarray(rows)
    if rows.ndim == 0:
        return rows
    return np.broadcast_to(rows.reshape(len(rows), *(1,) * (len(shape) - 1)), shape)


def _scalar(values: np.ndarray) -> np.ndarray:
    """One number instead of an array of equal numbers."""
    values = np.asarray(values)
    return values.reshape(-1)[0] if values.size and np.all(values == values.reshape(-1)[0]) else values


def _population(  # type: ignore[no-untyped-def]
    network, name, into: list[Connection], unit: Units, arithmetic: Arithmetic, latency: int,
    notes: list[str], problems: list[Problem],
) -> Population:
    node, conventions = network.nodes[name], network.conventions
    shape, step = network.shapes[name], step_of(node, network.conventions)
    unity = 2**arithmetic.decay_bits
    gain = np.broadcast_to(gains(node, step, conventions), shape)
    rows = per_neuron(row_gain(gain, into, shape), shape)
    # a neuron whose gain differs from its row's has a threshold of its own instead
    vth = _scalar(np.rint(per_neuron(unit.vth, shape) * rows / gain).astype(np.int64))
    scale = (vth.astype(np.float64)) * 2.0**arithmetic.threshold_shift  # chip units per threshold
    if np.any(vth > 2**arithmetic.threshold_bits - 1):
        problems.append(Problem(
            f"thresholds up to {int(np.max(vth))} in weight units, the chip holds {2**arithmetic.threshold_bits - 1}",
            f"neurons '{name}'", "Its neurons' gains differ too much: rescale the weights into it"))
    zero: Array = np.zeros(())
    if step is None:
        beta, leak, alpha, distance, v_reset = zero, zero, None, np.asarray(node.threshold, float), zero
        notes.append(f"'{name}': a threshold without memory runs as a neuron that keeps 1/{unity} of its potential")
    else:
        beta, leak, alpha, v_reset = step.beta, step.leak, step.alpha, step.v_reset
        distance = np.ones(()) if step.v_threshold is None else step.v_threshold - v_reset
    constant, late = _constant_input(into, shape), _constant_input([c for c in into if c.feedback], shape)
    if conventions.recurrent_bias_at_start:
        late = np.zeros_like(late)
    u_init, v_init = zero, np.asarray(-v_reset / distance) * scale
    per_step = constant * gain
    if alpha is not None:
        per_step = per_step / (1 - alpha)
        if conventions.bias == "current":
            # a constant input through the synapse is its steady state less a decaying start
            u_init = -(per_step + late * gain / (1 - alpha) * (1 / np.maximum(alpha, 1e-12) - 1)) * scale
    elif np.any(late):
        v_init = v_init - np.where(beta > 0, late * gain / np.where(beta > 0, beta, 1), 0) * scale
    bias = (per_step + (leak - (1 - beta) * v_reset) / distance) * scale
    mantissa, exponent = _bias(bias, arithmetic, name, problems)
    many = conventions.spikes_per_step == "many"
    spiking = not isinstance(node, Neuron) or node.v_threshold is not None
    return Population(
        name, shape,
        du=_scalar(np.asarray(unity - 1 if alpha is None else np.clip(np.rint(unity * (1 - alpha)) - 1, 0, unity - 1)
                              ).astype(np.int64)),
        dv=_scalar(np.clip(np.rint(unity * (1 - beta)), 0, unity - 1).astype(np.int64)),
        vth=vth if spiking else np.asarray(2**arithmetic.threshold_bits - 1),
        bias_mant=mantissa, bias_exp=exponent, reset=conventions.reset,
        reset_by=vth << arithmetic.threshold_shift, fire=conventions.fire if step is not None else ">",
        spikes_per_step="many" if many and step is not None else "one",
        v_floor=-(vth << arithmetic.threshold_shift) if conventions.v_floor and step is not None else None,
        two_phase=conventions.two_phase_reset and conventions.reset == "subtract",
        u_init=_scalar(np.rint(u_init).astype(np.int64)), v_init=_scalar(np.rint(v_init).astype(np.int64)),
        spiking=spiking, latency=latency)


def _constant_input(into: list[Connection], shape: tuple[int, ...]) -> Array:
    total = np.zeros(shape)
    for c in into:
        if c.bias is not None:
            total = total + c.bias.reshape(shape)
    return total


def row_gain(gain: Array, into: list[Connection], shape: tuple[int, ...]) -> Array:
    """Gain of each row of the weights into a population: of each neuron, or of each channel (its first neuron)
    when a convolution shares the row. (rows,), or () when all neurons are alike."""
    gain = np.broadcast_to(gain, shape)
    if np.all(gain == gain.reshape(-1)[0]):
        return np.asarray(gain.reshape(-1)[0])
    if any(c.kernel is not None for c in into):
        return gain.reshape(shape[0], -1)[:, 0]
    return gain.reshape(-1)


def _bias(bias: Array, arithmetic: Arithmetic, name: str, problems: list[Problem]) -> tuple[np.ndarray, int]:
    """Mantissas and the smallest shared exponent that holds them."""
    largest = float(np.max(np.abs(bias)))
    limit = 2 ** (arithmetic.bias_mantissa_bits - 1) - 1
    for exponent in range(arithmetic.bias_exponent_max + 1):
        if largest <= limit * 2**exponent:
            return _scalar(np.rint(bias / 2**exponent).astype(np.int64)), exponent
    problems.append(Problem(
        f"its bias is {largest:.0f} in the chip's units, the largest is {limit * 2**arithmetic.bias_exponent_max}",
        f"neurons '{name}'", "Lower the biases into it, or the leak voltage"))
    return np.zeros((), dtype=np.int64), 0
