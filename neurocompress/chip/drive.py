"""What drives a population: gains of its neurons, its constant input, numbers by row of the weights."""

from __future__ import annotations

import numpy as np

from ..errors import Problem, Refused
from ..network.connections import Connection
from ..network.conventions import Conventions
from ..network.discrete import Step, discretize, threshold_of
from ..network.nodes import Array, Neuron, Node, Threshold


def step_of(node: Node, conventions: Conventions) -> Step | None:
    """Step coefficients of a population; None for a Threshold node, which has no memory."""
    return discretize(node, conventions) if isinstance(node, Neuron) else None


def gains(node: Node, step: Step | None, conventions: Conventions) -> Array:
    """By how many thresholds one unit of input moves the membrane at once, float64, broadcasts to the shape."""
    if step is None:
        assert isinstance(node, Threshold)
        return np.asarray(1.0 / np.asarray(node.threshold, dtype=np.float64))
    distance = threshold_of(step)
    gain = step.input_gain
    if conventions.input_decays:
        gain = gain * (step.beta if step.alpha is None else step.alpha)
    return np.asarray(gain / distance)


def constant_input(into: list[Connection], shape: tuple[int, ...]) -> Array:
    """Biases into a population, summed, in the model's units."""
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


def hears(gain: Array) -> np.ndarray:
    """Whether what arrives moves the membrane: not where r or w_in is 0, or a decay that the input passes is. bool."""
    return np.abs(gain) >= np.finfo(np.float64).tiny  # below it no weight in thresholds is a number that is held


def in_rows(rows: Array, gain: Array, population: str) -> Array:
    """By how much a neuron's threshold is that of its row, rows / gain: 1 where neither hears anything.

    Raises `Refused` where a neuron that hears nothing shares its weights with one that does: it would hear them.
    """
    rows, gain = np.broadcast_arrays(rows, gain)
    if alone := int(np.count_nonzero(hears(rows) != hears(gain))):
        raise Refused(Problem(
            f"{alone} of its {gain.size} neurons take no input (r or w_in is 0) and share their weights with neurons "
            "that do", f"neurons '{population}'", "Give all neurons of a channel the same r and w_in"))
    return np.divide(rows, gain, out=np.ones(gain.shape), where=hears(gain))


def per_neuron(rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """One number per row of the weights (neuron or channel), or one for all, broadcast to the population's shape."""
    rows = np.asarray(rows)
    if rows.ndim == 0:
        return rows
    return np.broadcast_to(rows.reshape(len(rows), *(1,) * (len(shape) - 1)), shape)
