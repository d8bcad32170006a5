"""What a population asks of a chip's number formats: how large its weights, constant inputs and thresholds are beside
each other. `check` holds it against the formats, and compression chooses thresholds by it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...network.connections import Connection
from ...network.conventions import Conventions
from ...network.drive import constants, gains, per_neuron, row_gain, step_of, thresholds_by_row
from ...network.nodes import Array, Neuron, Node, Shape
from ..arithmetic import Arithmetic
from .units import WeightFormat

#: Room above the largest potential seen in calibration before the chip's registers end.
HEADROOM = 2.0
#: Room for what compression makes of a bias.
BIAS_ROOM = 1.25


@dataclass(frozen=True, eq=False)
class Reach:
    """What the thresholds of a population are held against, all in thresholds.

    weights: by connection, by how many the largest weight moves a neuron; rows: all weights of a neuron together, of
    feedback connections. bias: the largest constant input of a step,
    u and v before the first step: `start`. lowest, highest: threshold of a neuron beside that of its row, in stored
    weights; they are 1 unless gains differ within a channel. spiking: False of neurons that are read, whose threshold
    is one unit of their potential.
    """

    weights: dict[str, float]
    rows: dict[str, float]
    bias: float
    start: float
    lowest: float
    highest: float
    spiking: bool = True

    def most(self, arithmetic: Arithmetic, peak: float = 1.0) -> float:
        """The largest threshold mantissa of a row with which the thresholds of its neurons, their constant inputs and
        states of `peak` thresholds keep their registers. Below 1 / lowest there is none."""
        peak = max(peak, 1.0) if self.spiking else peak
        ends = [arithmetic.state_max / (2**arithmetic.activation_shift * peak * HEADROOM)]
        if self.spiking:
            ends.append(2**arithmetic.threshold_bits - 1)
        one = 2.0**arithmetic.threshold_shift  # of the mantissa, in the registers' units
        if self.bias > 0:
            ends.append(largest_bias(arithmetic) / (one * self.bias * BIAS_ROOM))
        if self.start > 0:
            ends.append((arithmetic.state_max - 1) / (one * self.start))
        return float(min(ends) / self.highest)


def largest_bias(arithmetic: Arithmetic) -> int:
    """In the chip's units."""
    return int((2 ** (arithmetic.bias_mantissa_bits - 1) - 1) * 2**arithmetic.bias_exponent_max)


@np.errstate(over="ignore")  # what is beyond every number is infinitely far
def reach(node: Node, into: list[Connection], shape: Shape, conventions: Conventions) -> Reach:
    """into: the connections into the population, with their biases."""
    gain = gains(node, step_of(node, conventions), conventions)
    relative = thresholds_by_row(gain, shape)
    found = constants(node, into, shape, conventions)
    start = max(float(np.max(np.abs(found.u_init))), float(np.max(np.abs(found.v_init))))
    rows = row_gain(gain, shape)
    sums = {c.name: largest_sum(c, rows, shape) for c in into if c.feedback}
    return Reach({c.name: largest(c, rows, shape) for c in into}, sums, float(np.max(np.abs(found.bias))), start,
                 float(np.min(relative)), float(np.max(relative)), not isinstance(node, Neuron) or node.spiking)


def largest(c: Connection, rows: Array, shape: Shape) -> float:
    """The largest weight of a connection in thresholds. rows: gain of each row of a population, or one for all."""
    weight = c.weight
    values = weight if isinstance(weight, np.ndarray) else weight.data
    if np.ndim(rows) == 0:
        return float(max(values.max(initial=0), -values.min(initial=0))) * abs(float(rows))
    each = by_row(c, rows, shape)
    if isinstance(weight, np.ndarray):
        flat = weight.reshape(len(weight), -1)
        return float(np.max(np.maximum(flat.max(axis=1), -flat.min(axis=1)) * np.abs(each), initial=0))
    return float(np.max(np.abs(values) * np.repeat(np.abs(each), np.diff(weight.indptr)), initial=0))


def largest_sum(c: Connection, rows: Array, shape: Shape) -> float:
    """By how many thresholds all synapses of a connection together move a neuron at most."""
    sums = np.asarray(abs(c.matrix()).sum(axis=1)).reshape(shape)
    return float(np.max(sums * np.abs(per_neuron(rows, shape))))


def by_row(c: Connection, rows: Array, shape: Shape) -> Array:
    """Numbers by row of a population, () or (shape[0],), for each row of a connection's weights: of a kernel channels,
    of a matrix neurons."""
    rows = np.asarray(rows)
    if c.kernel is not None:
        return np.broadcast_to(rows, (len(np.asarray(c.weight)),))
    return np.broadcast_to(per_neuron(rows, shape), shape).reshape(-1)


def overlap(c: Connection, weight: Array) -> float:
    """How many times larger the weights of a connection are than those of its node: 1, or more behind pools whose
    windows overlap, where a synapse carries the sum of several weights."""
    values = c.weight if isinstance(c.weight, np.ndarray) else c.weight.data
    own = float(np.max(np.abs(weight), initial=0))
    return max(1.0, float(np.max(np.abs(values), initial=0)) / own) if own else 1.0


def largest_weight(fmt: WeightFormat, lowest: float) -> float:
    """The largest weight that there is, in thresholds: at the smallest threshold and the largest exponent."""
    return fmt.m_max * fmt.lsb * 2.0**fmt.exponent_max * min(1.0, lowest)
