"""From NIR's differential equations to one time step, under given conventions.

One step of a neuron with input x:
    I <- alpha I + gain_syn x          (only with a synapse; input_decays: alpha (I + gain_syn x))
    v <- beta v + gain I + leak        (without a synapse I = x)
    then it fires and resets.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .conventions import Conventions
from .nodes import Array, Delay, Neuron


@dataclass(frozen=True, eq=False)
class Step:
    """Coefficients of one time step, float64 arrays that broadcast to the neuron's shape.

    alpha, gain_syn: None without a synapse. beta 1 for IF. v_threshold: None for a neuron that never spikes.
    v_reset: 0 where the reset is a subtraction, which does not look at it. v_start: v before the first step.
    """

    alpha: Array | None
    gain_syn: Array | None
    beta: Array
    gain: Array
    leak: Array
    v_threshold: Array | None
    v_reset: Array
    v_start: Array = field(default_factory=lambda: np.zeros(()))

    @property
    def input_gain(self) -> Array:
        """What one unit of input adds to v in the step it arrives."""
        return self.gain if self.gain_syn is None else self.gain * self.gain_syn


def _factor(tau: Array, dt: float, decay: str) -> Array:
    tau = np.asarray(tau, dtype=np.float64)
    return np.exp(-dt / tau) if decay == "exponential" else 1.0 - dt / tau


def _gain(factor: Array, keep: Array) -> Array:
    """factor (1 - keep); 1 where a state never decays and its factor is infinite (r = tau/dt of a tau without end)."""
    with np.errstate(invalid="ignore"):
        return np.where(np.isinf(factor) & (keep == 1.0), 1.0, factor * (1.0 - keep))


#: 1 - alpha at least, where a bias counts by its steady state behind a synapse: one that never decays has none, and is
#: taken as one that keeps 4095/4096 in each step, the most that integer chips keep.
LEAST_LOSS = 2.0**-12


def lost(alpha: Array) -> Array:
    """1 - alpha of a synapse, for the steady state of a constant input."""
    return np.asarray(np.maximum(1.0 - alpha, LEAST_LOSS))


def discretize(neuron: Neuron, conventions: Conventions) -> Step:
    """The step coefficients of a neuron. `conventions.dt` must be set unless nothing depends on it."""
    dt = 1.0 if conventions.dt is None else conventions.dt
    unit = conventions.gain == "unit"
    one: Array = np.ones(())
    zero: Array = np.zeros(())

    def value(name: str, neutral: Array) -> Array:
        given = getattr(neuron, name)
        return neutral if given is None or name in conventions.ignore else np.asarray(given, dtype=np.float64)

    r = value("r", one)
    if neuron.tau_syn is None and "r_without_synapse" in conventions.ignore:
        r = one
    alpha = gain_syn = None
    if neuron.tau_syn is not None:
        alpha = _factor(neuron.tau_syn, dt, conventions.decay)
        gain_syn = one if conventions.gain != "nir" else _gain(value("w_in", one), alpha)
    if neuron.tau_mem is None:
        beta, leak = one, zero
        gain = one if unit or np.all(r == 1.0) else r * dt
    else:
        beta = _factor(neuron.tau_mem, dt, conventions.decay)
        leak = value("v_leak", zero) * (1.0 - beta)
        gain = one if unit else _gain(r, beta)
    threshold = None if neuron.v_threshold is None else np.asarray(neuron.v_threshold, dtype=np.float64)
    v_reset = zero if conventions.reset == "subtract" else value("v_reset", zero)
    starts = {"zero": zero, "leak": value("v_leak", zero), "reset": value("v_reset", zero)}
    return Step(alpha, gain_syn, beta, gain, leak, threshold, v_reset, starts[conventions.start])


def threshold_of(step: Step) -> Array:
    """Distance from reset to threshold, float64; 1 for a neuron that never spikes."""
    return np.ones(()) if step.v_threshold is None else np.asarray(step.v_threshold - step.v_reset)


def delay_steps(node: Delay, conventions: Conventions) -> np.ndarray:
    """A Delay node's delays in whole time steps, int64; dt None counts one second per step."""
    steps: np.ndarray = np.rint(np.asarray(node.delay) / (conventions.dt or 1.0)).astype(np.int64)
    return steps


def hears(gain: Array) -> np.ndarray:
    """Whether what arrives moves the membrane: not where r or w_in is 0, or a decay that the input passes is. bool."""
    return np.abs(gain) >= np.finfo(np.float64).tiny  # below it no weight in thresholds is a number that is held
