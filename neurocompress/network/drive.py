"""What drives a population: gains of its neurons, its constant input, numbers by row of the weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .connections import Connection
from .conventions import Conventions
from .discrete import Step, discretize, hears, lost, threshold_of
from .nodes import Array, Neuron, Node, Threshold


def step_of(node: Node, conventions: Conventions) -> Step | None:
    """Step coefficients of a population; None for a Threshold node, which has no memory."""
    return discretize(node, conventions) if isinstance(node, Neuron) else None


def gains(node: Node, step: Step | None, conventions: Conventions) -> Array:
    """By how many thresholds one unit of input moves the membrane at once, float64, broadcasts to the shape."""
    if step is None:
        return np.asarray(1.0 / height(node)[0])
    distance = threshold_of(step)
    gain = step.input_gain
    if conventions.input_decays:
        gain = gain * (step.beta if step.alpha is None else step.alpha)
    return np.asarray(gain / distance)


def height(node: Node) -> tuple[Array, Array]:
    """The threshold of a Threshold node as one above rest, and the constant input that makes up for it: one that is
    not above 0 is met without any input, which a neuron does by a bias."""
    assert isinstance(node, Threshold)
    threshold = np.asarray(node.threshold, dtype=np.float64)
    above = np.where(threshold > 0, threshold, 1.0)
    return above, above - threshold


def constant_input(into: list[Connection], shape: tuple[int, ...]) -> Array:
    """Biases into a population, summed, in the model's units."""
    total = np.zeros(shape)
    for c in into:
        if c.bias is not None:
            total = total + c.bias.reshape(shape)
    return total


def row_gain(gain: Array, shape: tuple[int, ...]) -> Array:
    """Gain of each row of the weights into a population, (shape[0],): of each neuron, or of each channel of an image
    (the mean of its neurons, which share their weights; of magnitudes where signs differ, which must not cancel).
    () when all neurons are alike."""
    gain = np.broadcast_to(gain, shape)
    if np.all(gain == gain.reshape(-1)[0]):
        return np.asarray(gain.reshape(-1)[0])
    each = gain.reshape(shape[0], -1)
    both = (each > 0).any(axis=1) & (each < 0).any(axis=1)
    return np.asarray(np.where(both, np.abs(each).mean(axis=1), each.mean(axis=1)))


def thresholds_by_row(gain: Array, shape: tuple[int, ...]) -> Array:
    """What each neuron's threshold is of that of its row, in stored weights: 1 unless gains differ within a channel,
    then a neuron of twice the gain has half the threshold. Infinite where it hears nothing and shares the weights of
    neurons that do: it would hear them (NC111). Broadcasts to the shape."""
    row, gain = np.broadcast_arrays(per_neuron(row_gain(gain, shape), shape), gain)
    neither = ~hears(row) & ~hears(gain)
    found = np.divide(row, gain, out=np.where(neither, 1.0, np.inf), where=hears(gain) & (row != gain))
    found[row == gain] = 1.0
    return np.ones(()) if np.all(found == 1) else found


@dataclass(frozen=True, eq=False)
class Constants:
    """What a population has without any spike, in thresholds, float64 arrays that broadcast to its shape: bias, on v
    in every step; u and v before the first step."""

    bias: Array
    u_init: Array
    v_init: Array


def constants(node: Node, into: list[Connection], shape: tuple[int, ...], conventions: Conventions) -> Constants:
    """Biases, leak and reset potentials as constant inputs and initial states. into: with their biases."""
    step = step_of(node, conventions)
    gain = gains(node, step, conventions)
    zero: Array = np.zeros(())
    if step is None:
        distance, leak = height(node)
        beta, alpha, v_reset, v_start = zero, zero, zero, zero
    else:
        beta, leak, v_reset, distance = step.beta, step.leak, step.v_reset, threshold_of(step)
        v_start = step.v_start
        alpha = zero if step.alpha is None else step.alpha
    constant, late = constant_input(into, shape), constant_input([c for c in into if c.feedback], shape)
    if conventions.recurrent_bias_at_start:
        late = np.zeros_like(late)
    u_init, v_init = zero, np.asarray((v_start - v_reset) / distance)
    per_step = constant * gain / lost(alpha)
    if step is not None and step.alpha is not None:
        if conventions.bias == "current":
            # a constant input through the synapse is its steady state less a decaying start
            u_init = -(per_step + late * gain / lost(alpha) * (1 / np.maximum(alpha, 1e-12) - 1))
    elif np.any(late):
        v_init = v_init - np.where(beta > 0, late * gain / np.where(beta > 0, beta, 1), 0)
    return Constants(per_step + (leak - (1 - beta) * v_reset) / distance, u_init, v_init)


def per_neuron(rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """One number per row of the weights (neuron or channel), or one for all, broadcast to the population's shape."""
    rows = np.asarray(rows)
    if rows.ndim == 0:
        return rows
    return np.broadcast_to(rows.reshape(len(rows), *(1,) * (len(shape) - 1)), shape)
