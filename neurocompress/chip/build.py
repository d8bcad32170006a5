"""From a compressed network to a chip's own: stored weights, delays, and populations as its neurons compute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from scipy import sparse

from ..errors import Problem, Refused
from ..network.connections import Connection, Weight, connections
from ..network.graph import Network
from ..network.nodes import WEIGHTED, Neuron
from .build_integer import integer_population
from .build_real import real_population
from .drive import gains, step_of
from .features import Features
from .formats import ChipArithmetic
from .integer import Arithmetic, IntegerNetwork, Population, Synapses
from .real import Analog, OnChip, RealNetwork, RealPopulation
from .units import Units, WeightFormat


def build(
    network: Network, integers: dict[str, np.ndarray], units: dict[str, Units], fmt: WeightFormat,
    arithmetic: ChipArithmetic, features: Features, input_bits: int = 0,
    formats: Mapping[str, WeightFormat] | None = None,
) -> OnChip:
    """A canonical network as the chip stores and computes it.

    integers: by node of weights, grid integers in the weight's shape (fixed connections are absent).
    units: by population. input_bits: of the numbers that the input sends, 0 for plain spikes.
    formats: by node, of weights that are stored otherwise than `fmt` says.
    Raises `Refused` with everything the chip can not hold.
    """
    problems: list[Problem] = []
    notes: list[str] = list(arithmetic.assumed)
    if isinstance(arithmetic, Analog):
        notes.append("'emulated' is the chip as designed; the mismatch of its circuits is in the virtual chips")
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
        if graded[c.source] and c.source != network.input and not features.graded_bits:
            problems.append(Problem(
                f"'{c.source}' never spikes, and the chip has no message for its potential",
                f"connection '{c.name}'", "Give it a threshold, or let it be the output"))
        unit = units[c.target]
        source_latency = latency.get(c.source, 0)
        extra = latency[c.target] + _lag(network, c) - source_latency - 1
        if np.any(np.asarray(extra) < 0):
            notes.append(
                f"the loop through '{c.name}' takes {1 + source_latency - latency[c.target]} steps on the chip, "
                f"{int(np.max(_lag(network, c)))} in the model: every connection takes one step")
            extra = np.maximum(extra, 0) if isinstance(extra, np.ndarray) else 0
        wait = c.delay - c.feedback if isinstance(arithmetic, Analog) else extra  # circuits do not wait for each other
        if features.delay_max is not None and np.max(wait) > features.delay_max:
            problems.append(Problem(
                f"it must wait {int(np.max(wait))} steps, the chip can wait {features.delay_max}",
                f"connection '{c.name}'", "Shorten the delay, or the longest branch beside it"))
        own = (formats or {}).get(c.name, fmt)
        weight = c.weight if c.trained else _fixed(c, unit, network, fmt)
        message = input_bits if c.source == network.input else features.graded_bits if graded[c.source] else 0
        synapses.append(Synapses(
            c.name, c.source, c.target, _stored(weight, own), c.kernel, unit.exponents[c.name], own.bits, own.sign,
            c.source_shape, c.target_shape, extra, c.feedback, message))
    integer: list[Population] = []
    real: list[RealPopulation] = []
    for name in network.populations:
        into = [exact[(c.name, c.source, c.target)] for c in found if c.target == name]
        if into and isinstance(arithmetic, Arithmetic):
            integer.append(integer_population(
                network, name, into, units[name], arithmetic, latency[name], notes, problems))
        elif into:
            real.append(real_population(network, name, into, units[name], latency[name], notes))
    (last,) = network.inputs_of(network.output) if len(network.inputs_of(network.output)) == 1 else (None,)
    if last not in network.populations:
        problems.append(Problem("the network does not end in a population of neurons", f"node '{network.output}'",
                                "End it in LIF, IF or LI neurons: a chip has no layer without them"))
    if problems:
        raise Refused(problems)
    assert last is not None
    shape = network.shapes[network.input]
    if isinstance(arithmetic, Arithmetic):
        return IntegerNetwork(network.input, shape, last, tuple(integer), tuple(synapses), arithmetic, tuple(notes),
                              input_bits)
    return RealNetwork(network.input, shape, last, tuple(real), tuple(synapses), arithmetic, tuple(notes), input_bits)


def _lag(network: Network, c: Connection) -> int | np.ndarray:
    """Steps that a connection takes in the model, conventions counted."""
    late = network.conventions.output_delay if isinstance(network.nodes[c.source], Neuron) else 0
    if c.feedback:  # takes one step in any case
        return c.delay + max(0, late - 1)
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
