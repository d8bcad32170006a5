"""Populations in integers: thresholds, decays and biases rounded to a chip's number formats (see
on_chip.integer_network)."""

from __future__ import annotations

import numpy as np

from ...network.connections import Connection
from ...network.drive import constants, gains, per_neuron, step_of, thresholds_by_row
from ...network.graph import Network
from ...network.nodes import Array, Neuron
from ...network.resets import resets_late
from ..arithmetic import Arithmetic
from .integer_network import Population
from .units import Units


def integer_population(
    network: Network, name: str, into: list[Connection], unit: Units, arithmetic: Arithmetic, latency: int,
    notes: list[str],
) -> Population:
    """into: connections with the model's own biases. What the chip does otherwise than the model goes into notes."""
    node, conventions = network.nodes[name], network.conventions
    shape, step = network.shapes[name], step_of(node, network.conventions)
    unity = 2**arithmetic.decay_bits
    # a neuron whose gain differs from its row's has a threshold of its own instead
    wanted = per_neuron(unit.vth, shape) * thresholds_by_row(gains(node, step, conventions), shape)
    vth = _scalar(np.clip(np.rint(wanted), 1, 2**arithmetic.threshold_bits - 1).astype(np.int64))
    spiking = not isinstance(node, Neuron) or node.spiking
    if spiking and np.any(np.abs(vth - wanted) > 0.5):
        notes.append(f"'{name}': gains within its channels differ so much that thresholds of some neurons end at the "
                     f"chip's 1..{2**arithmetic.threshold_bits - 1}")
    # chip units per threshold, or per unit of a potential that is read
    scale = (vth.astype(np.float64) if spiking else wanted) * 2.0**arithmetic.threshold_shift
    beta = np.zeros(()) if step is None else step.beta
    alpha = None if step is None else step.alpha
    if step is None:
        notes.append(f"'{name}': a threshold without memory runs as a neuron that keeps 1/{unity} of its potential")
    found = constants(node, into, shape, conventions)
    mantissa, exponent = _bias(found.bias * scale, arithmetic, name, notes)
    many = conventions.spikes_per_step == "many"
    end = arithmetic.state_max - 1
    return Population(
        name, shape,
        du=_scalar(np.asarray(unity - 1 if alpha is None else np.clip(np.rint(unity * (1 - alpha)) - 1, 0, unity - 1)
                              ).astype(np.int64)),
        dv=_scalar(np.clip(np.rint(unity * (1 - beta)), 0, unity - 1).astype(np.int64)),
        vth=vth if spiking else np.asarray(2**arithmetic.threshold_bits - 1),
        bias_mant=mantissa, bias_exp=exponent, reset=conventions.reset,
        reset_by=vth << arithmetic.threshold_shift, fire=conventions.fire if step is not None else ">",
        spikes_per_step="many" if many and step is not None else "one",
        v_floor=-(vth << arithmetic.threshold_shift) if conventions.v_floor and step is not None and spiking else None,
        two_phase=conventions.two_phase, late_reset=resets_late(network, name),
        u_init=_scalar(np.clip(np.rint(found.u_init * scale), -end, end).astype(np.int64)),
        v_init=_scalar(np.clip(np.rint(found.v_init * scale), -end, end).astype(np.int64)),
        spiking=spiking, latency=latency, unit=1.0 if spiking else _scalar(1.0 / scale))


def _scalar(values: np.ndarray) -> np.ndarray:
    """One number instead of an array of equal numbers."""
    values = np.asarray(values)
    return values.reshape(-1)[0] if values.size and np.all(values == values.reshape(-1)[0]) else values


def _bias(bias: Array, arithmetic: Arithmetic, name: str, notes: list[str]) -> tuple[np.ndarray, int]:
    """Mantissas and the smallest shared exponent that holds them."""
    largest = float(np.max(np.abs(bias)))
    limit = 2 ** (arithmetic.bias_mantissa_bits - 1) - 1
    for exponent in range(arithmetic.bias_exponent_min, arithmetic.bias_exponent_max + 1):
        if largest <= limit * 2**exponent:
            return _scalar(np.rint(bias / 2**exponent).astype(np.int64)), exponent
    notes.append(f"'{name}': its bias is up to {largest:.0f} in the chip's units after compression, and ends at the "
                 f"largest there is, {limit * 2**arithmetic.bias_exponent_max}")
    held = np.clip(np.rint(bias / 2**arithmetic.bias_exponent_max), -limit, limit)
    return _scalar(held.astype(np.int64)), arithmetic.bias_exponent_max
