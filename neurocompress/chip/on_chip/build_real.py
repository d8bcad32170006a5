"""Populations with real states, counted in stored weights (see on_chip.real_network): nothing is rounded but the
weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...network.connections import Connection
from ...network.conventions import Conventions
from ...network.discrete import Step, lost, threshold_of
from ...network.drive import constant_input, gains, height, per_neuron, step_of, thresholds_by_row
from ...network.graph import Network
from ...network.nodes import Array
from ...network.resets import resets_late
from .real_network import RealPopulation
from .units import Units


def real_population(
    network: Network, name: str, into: list[Connection], unit: Units, latency: int, notes: list[str]
) -> RealPopulation:
    """into: connections with the model's own biases. What the chip does otherwise than the model goes into notes."""
    node, conventions = network.nodes[name], network.conventions
    shape, step = network.shapes[name], step_of(node, conventions)
    gain = np.broadcast_to(gains(node, step, conventions), shape)
    scale = per_neuron(unit.vth, shape) * thresholds_by_row(gain, shape)  # stored weights in one threshold
    constant, late = constant_input(into, shape), constant_input([c for c in into if c.feedback], shape)
    one: Array = np.ones(())
    zero: Array = np.zeros(())
    if step is None:  # a threshold without memory keeps nothing of its potential
        bias = constant * gain + height(node)[1] / height(node)[0]
        return RealPopulation(name, shape, Step(None, None, zero, one, bias * scale, scale, zero),
                              Conventions(), zero, 1 / scale, latency)
    bias, v_init = constant * gain, zero
    if step.alpha is not None:
        if conventions.bias == "current" and np.any(constant):
            notes.append(f"'{name}': its biases enter on the membrane at their full strength from the first step on, "
                         "where the model lets them pass the synapse")
        bias = bias / lost(step.alpha)
    elif np.any(late) and not conventions.recurrent_bias_at_start:
        v_init = -np.where(step.beta > 0, late * gain / np.where(step.beta > 0, step.beta, 1), 0) * scale
    in_units = scale / threshold_of(step)  # stored weights in one of the model's units of v
    v_init = v_init + step.v_start * in_units
    found = Step(
        step.alpha, None if step.alpha is None else one, step.beta, one, bias * scale + step.leak * in_units,
        None if step.v_threshold is None else step.v_threshold * in_units, step.v_reset * in_units)
    rule = replace(conventions, input_decays=False, bias="current",  # both are in the coefficients now
                   reset_delay=resets_late(network, name))
    return RealPopulation(name, shape, found, rule, v_init, 1 / in_units, latency)
