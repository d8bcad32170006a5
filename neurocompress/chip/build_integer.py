"""Populations in integers: thresholds, decays and biases rounded to a chip's number formats (see chip.integer)."""

from __future__ import annotations

import numpy as np

from ..errors import Problem
from ..network.connections import Connection
from ..network.graph import Network
from ..network.nodes import Array, Neuron, Threshold
from ..network.resets import resets_late
from .drive import constant_input, gains, in_rows, per_neuron, row_gain, step_of
from .integer import Arithmetic, Population
from .units import Units


def integer_population(
    network: Network, name: str, into: list[Connection], unit: Units, arithmetic: Arithmetic, latency: int,
    notes: list[str], problems: list[Problem],
) -> Population:
    node, conventions = network.nodes[name], network.conventions
    shape, step = network.shapes[name], step_of(node, network.conventions)
    unity = 2**arithmetic.decay_bits
    gain = np.broadcast_to(gains(node, step, conventions), shape)
    rows = per_neuron(row_gain(gain, into, shape), shape)
    # a neuron whose gain differs from its row's has a threshold of its own instead
    vth = _scalar(np.rint(per_neuron(unit.vth, shape) * in_rows(rows, gain, name)).astype(np.int64))
    scale = (vth.astype(np.float64)) * 2.0**arithmetic.threshold_shift  # chip units per threshold
    if np.any(vth > 2**arithmetic.threshold_bits - 1):
        problems.append(Problem(
            f"thresholds up to {int(np.max(vth))} in weight units, the chip holds {2**arithmetic.threshold_bits - 1}",
            f"neurons '{name}'", "Its neurons' gains differ too much: rescale the weights into it"))
    zero: Array = np.zeros(())
    if step is None:
        assert isinstance(node, Threshold)
        beta, leak, alpha, distance, v_reset = zero, zero, None, np.asarray(node.threshold, float), zero
        notes.append(f"'{name}': a threshold without memory runs as a neuron that keeps 1/{unity} of its potential")
    else:
        beta, leak, alpha, v_reset = step.beta, step.leak, step.alpha, step.v_reset
        distance = np.ones(()) if step.v_threshold is None else step.v_threshold - v_reset
    constant, late = constant_input(into, shape), constant_input([c for c in into if c.feedback], shape)
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
    spiking = not isinstance(node, Neuron) or node.spiking
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
        two_phase=conventions.two_phase, late_reset=resets_late(network, name),
        u_init=_scalar(np.rint(u_init).astype(np.int64)), v_init=_scalar(np.rint(v_init).astype(np.int64)),
        spiking=spiking, latency=latency)


def _scalar(values: np.ndarray) -> np.ndarray:
    """One number instead of an array of equal numbers."""
    values = np.asarray(values)
    return values.reshape(-1)[0] if values.size and np.all(values == values.reshape(-1)[0]) else values


def _bias(bias: Array, arithmetic: Arithmetic, name: str, problems: list[Problem]) -> tuple[np.ndarray, int]:
    """Mantissas and the smallest shared exponent that holds them."""
    largest = float(np.max(np.abs(bias)))
    limit = 2 ** (arithmetic.bias_mantissa_bits - 1) - 1
    for exponent in range(arithmetic.bias_exponent_min, arithmetic.bias_exponent_max + 1):
        if largest <= limit * 2**exponent:
            return _scalar(np.rint(bias / 2**exponent).astype(np.int64)), exponent
    problems.append(Problem(
        f"its bias is {largest:.0f} in the chip's units, the largest is {limit * 2**arithmetic.bias_exponent_max}",
        f"neurons '{name}'", "Lower the biases into it, or the leak voltage"))
    return np.zeros((), dtype=np.int64), 0
