"""From a compressed network to a chip's own: stored weights, delays, and populations as its neurons compute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from scipy import sparse

from ...errors import Problem, Refused
from ...network.connections import Connection, Weight, connections
from ...network.drive import gains, row_gain, step_of
from ...network.graph import Network
from ...network.nodes import WEIGHTED, Neuron
from ...network.readout import last_population, sends_spikes
from ..arithmetic import Analog, Arithmetic
from ..profile.features import Features
from ..profile.number_formats import ChipArithmetic
from .build_integer import integer_population
from .build_real import real_population
from .delays import lag, latencies, waits
from .integer_network import IntegerNetwork, Population, Synapses
from .reach import by_row
from .real_network import OnChip, RealNetwork, RealPopulation
from .units import Units, WeightFormat


def build(
    network: Network, integers: dict[str, np.ndarray], units: dict[str, Units], fmt: WeightFormat,
    arithmetic: ChipArithmetic, features: Features, input_bits: int = 0,
    formats: Mapping[str, WeightFormat] | None = None, host: bool = False,
) -> OnChip:
    """A network in `chip_form` as the chip stores and computes it.

    integers: by node of weights, grid integers in the weight's shape (fixed connections are absent).
    units: by population. input_bits: of the numbers that the input sends, 0 for plain spikes.
    formats: by node, of weights that are stored otherwise than `fmt` says. host: whether the
    host computes the outputs from what the populations send.
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
    latency, late, on_circuits = latencies(network, found), waits(network, found, False), waits(network, found, True)
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
        extra = late[id(c)]
        if np.any(np.asarray(extra) < 0):
            notes.append(
                f"the loop through '{c.name}' takes {1 + source_latency - latency[c.target]} steps on the chip, "
                f"{int(np.max(lag(network, c)))} in the model: every connection takes one step")
            extra = np.maximum(extra, 0) if isinstance(extra, np.ndarray) else 0
        wait = on_circuits[id(c)] if isinstance(arithmetic, Analog) else extra
        if features.delay_max is not None and np.max(wait) > features.delay_max:
            problems.append(Problem(
                f"it must wait {int(np.max(wait))} steps, the chip can wait {features.delay_max}",
                f"connection '{c.name}'", "Shorten the delay, or the longest branch beside it"))
        own = (formats or {}).get(c.layer, fmt)
        weight = c.weight if c.trained else _fixed(c, unit, network)
        weight = _held(c, weight, own, notes)
        message = input_bits if c.source == network.input else features.graded_bits if graded[c.source] else 0
        synapses.append(Synapses(
            c.name, c.source, c.target, _stored(weight, own), c.kernel, unit.exponents[c.layer], own.bits, own.sign,
            c.source_shape, c.target_shape, extra, c.feedback, message))
    integer: list[Population] = []
    real: list[RealPopulation] = []
    for name in network.populations:
        into = [exact[(c.name, c.source, c.target)] for c in found if c.target == name]
        if into and isinstance(arithmetic, Arithmetic):
            integer.append(integer_population(network, name, into, units[name], arithmetic, latency[name], notes))
        elif into:
            real.append(real_population(network, name, into, units[name], latency[name], notes))
    last = last_population(network)
    if last is None:
        problems.append(Problem("the network does not end in a population of neurons", f"node '{network.output}'",
                                "End it in LIF, IF or LI neurons: a chip has no layer without them"))
    if problems:
        raise Refused(problems)
    assert last is not None
    shape = network.shapes[network.input]
    reading = "mean" if sends_spikes(network, last) else network.conventions.reading
    if isinstance(arithmetic, Arithmetic):
        return IntegerNetwork(network.input, shape, last, tuple(integer), tuple(synapses), arithmetic, tuple(notes),
                              input_bits, reading=reading, host=host)
    return RealNetwork(network.input, shape, last, tuple(real), tuple(synapses), arithmetic, tuple(notes), input_bits,
                       reading=reading, host=host)


def _stored(weight: Weight, fmt: WeightFormat) -> Weight:
    if isinstance(weight, np.ndarray):
        return np.rint(weight).astype(np.int64) * fmt.lsb
    whole = sparse.csr_array(weight)
    return sparse.csr_array((np.rint(whole.data).astype(np.int64) * fmt.lsb, whole.indices, whole.indptr), whole.shape)


def _fixed(c: Connection, unit: Units, network: Network) -> Weight:
    """Weights of a connection without trained ones (pooling, an edge), as grid integers."""
    node, shape = network.nodes[c.target], network.shapes[c.target]
    rows = row_gain(gains(node, step_of(node, network.conventions), network.conventions), shape)
    scale = by_row(c, rows / unit.steps[c.layer], shape)
    if isinstance(c.weight, np.ndarray):
        return np.rint(c.weight * scale.reshape(-1, *(1,) * (c.weight.ndim - 1)))
    whole = sparse.csr_array(c.weight)
    scaled = np.rint(whole.data * np.repeat(scale, np.diff(whole.indptr)))
    return sparse.csr_array((scaled, whole.indices, whole.indptr), whole.shape)


def _held(c: Connection, weight: Weight, fmt: WeightFormat, notes: list[str]) -> Weight:
    """Grid integers within the grid; those beyond are set to its end, and said."""
    values = weight if isinstance(weight, np.ndarray) else weight.data
    beyond = int(np.count_nonzero(np.abs(values) > fmt.m_max))
    if not beyond:
        return weight
    notes.append(f"'{c.name}': {beyond:,} of {values.size:,} stored weights lie beyond the chip's largest, "
                 f"{fmt.m_max}, and end there (the largest is {float(np.max(np.abs(values))):.4g})")
    if isinstance(weight, np.ndarray):
        return np.clip(weight, -fmt.m_max, fmt.m_max)
    whole = sparse.csr_array(weight)
    return sparse.csr_array((np.clip(whole.data, -fmt.m_max, fmt.m_max), whole.indices, whole.indptr), whole.shape)
