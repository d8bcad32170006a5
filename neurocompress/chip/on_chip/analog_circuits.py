"""A model on analog circuits: its time constants in the chip's time, and the nearest that the circuits can do.

One second of the model is 1 / acceleration seconds of the chip, or more (or less) where the time constants fit only so:
circuits do not know how fast the model is meant to run, and its inputs can be sent at any speed. What lies outside of
the circuits' range is set to its nearest end, and said: the emulation then shows what the chip would do, not what the
model asks for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ...errors import refuse
from ...network.discrete import discretize
from ...network.graph import Network
from ...network.nodes import WEIGHTED, Array, Neuron, Node
from ..arithmetic import Analog

#: Where a violation is reported in a person's unit.
MICROSECONDS = 1e6
#: Relative room for rounding at the end of a range.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Breach:
    """A time constant of a population that the circuits can not have, in microseconds of the chip. wanted: the value
    farthest out; infinite for a neuron that does not leak. nearest: the end of the range that it is set to."""

    population: str
    quantity: str
    wanted: float
    nearest: float

    def __str__(self) -> str:
        side = "shortest" if self.nearest > self.wanted else "longest"
        wanted = "never decays" if np.isinf(self.wanted) else f"is {self.wanted:.3g} us"
        return (f"'{self.population}': its {self.quantity} {wanted} on the chip, the {side} there is "
                f"{self.nearest:.3g} us, which it gets")


def breaches(network: Network, chip: Analog) -> Iterator[Breach]:
    """Every time constant outside of the chip's range at its acceleration, population by population."""
    for name, quantity, wanted, (low, high) in _constants(network, chip):
        for end, out in ((low, float(wanted.min())), (high, float(wanted.max()))):
            if (out < end) if end == low else (out > end):
                yield Breach(name, quantity, out * MICROSECONDS, end * MICROSECONDS)


def at_speed(network: Network, chip: Analog) -> Analog:
    """The chip at the acceleration nearest to its own at which all time constants are in range (but for those that no
    speed brings there: of neurons that never leak, of synapses that act at once); itself where there is none."""
    slowest, fastest = 0.0, np.inf  # how many times slower than the chip's own acceleration
    for _, _, wanted, (low, high) in _constants(network, chip):
        if wanted.min() > 0 and wanted.max() < np.inf:
            slowest, fastest = max(slowest, low / float(wanted.min())), min(fastest, high / float(wanted.max()))
    if slowest <= 1 <= fastest or slowest * (1 + ROUNDING) > fastest:
        return chip
    slower = slowest * (1 + ROUNDING) if slowest > 1 else fastest * (1 - ROUNDING)
    return replace(chip, acceleration=chip.acceleration / slower)


def _constants(network: Network, chip: Analog) -> Iterator[tuple[str, str, Array, tuple[float, float]]]:
    """Population, quantity, seconds of the chip, range."""
    for name in network.populations:
        node = network.nodes[name]
        if isinstance(node, Neuron):
            yield name, "membrane time constant", times(node.tau_mem, np.inf, chip), chip.tau_mem
            yield name, "synaptic time constant", times(node.tau_syn, 0.0, chip), chip.tau_syn


def times(tau: Array | None, missing: float, chip: Analog) -> Array:
    """A time constant in seconds of the chip."""
    return np.asarray(missing if tau is None else tau, dtype=np.float64) / chip.acceleration


def seconds_per_step(network: Network) -> float:
    if network.conventions.dt is None:
        raise refuse("an analog chip runs in time, and the model says nothing about seconds per step",
                     fix="Give --dt, or a --preset that has one")
    return network.conventions.dt


def on_circuits(network: Network, chip: Analog) -> tuple[Network, tuple[str, ...]]:
    """The network with neurons that the chip has, and a sentence for each change.

    Every neuron leaks and has a synapse; time constants are within the chip's range; states decay exponentially.
    The charge that an input brings in one step is kept where a synapse is added; a bias shifts the leak potential,
    which no synapse filters. Raises `Refused` without a dt.
    """
    dt, fast = seconds_per_step(network), chip.acceleration
    chip = at_speed(network, chip)
    notes = [str(b) for b in breaches(network, chip)]
    if chip.acceleration != fast:
        notes.append(f"it runs {chip.acceleration:.4g} times faster than the model's own time, not {fast:.4g} times: "
                     "only so are its time constants within the circuits' range")
    if dt / chip.acceleration < chip.refractory:
        notes.append(f"a step of {dt:.3g} s is {dt / chip.acceleration * MICROSECONDS:.3g} us on the chip, shorter "
                     f"than a neuron's shortest pause of {chip.refractory * MICROSECONDS:.3g} us: it can not spike in "
                     "every step, which is not emulated")
    rule = network.conventions
    for what, there in (("a floor of the membrane", rule.v_floor), ("a reset in two phases", rule.two_phase)):
        if there:
            notes.append(f"the model has {what}, the chip has none")
    biased = any(isinstance(n, WEIGHTED) and n.bias is not None and np.any(n.bias) for n in network.nodes.values())
    if biased and rule.bias == "current" and any(
            isinstance(n, Neuron) and n.tau_syn is not None for n in network.nodes.values()):
        notes.append("biases shift the leak potential: they are there in full from the first step on, where the model "
                     "lets them pass the synapse")
    changed: dict[str, Node] = {}
    for name in network.populations:
        node = network.nodes[name]
        if isinstance(node, Neuron):
            step = discretize(node, rule)
            tau_mem = np.clip(times(node.tau_mem, np.inf, chip), *chip.tau_mem) * chip.acceleration
            tau_syn = np.clip(times(node.tau_syn, 0.0, chip), *chip.tau_syn) * chip.acceleration
            alpha, beta = np.exp(-dt / tau_syn), np.exp(-dt / tau_mem)
            gain_syn = (1 - alpha) if step.gain_syn is None else step.gain_syn
            gain = step.gain
            if rule.input_decays:
                gain = gain * (step.beta if step.alpha is None else step.alpha)
            decays: Array = np.where(step.beta < 1, 1 - step.beta, 1.0)  # what never leaks has no leak potential
            leak = np.zeros(()) if node.tau_mem is None else step.leak / decays
            changed[name] = replace(
                node, tau_mem=tau_mem, tau_syn=tau_syn, r=gain / (1 - beta), w_in=gain_syn / (1 - alpha), v_leak=leak)
    conventions = replace(rule, decay="exponential", gain="nir", input_decays=False, bias="membrane", ignore=(),
                          v_floor=False, two_phase_reset=False)
    return replace(network.with_nodes(changed), conventions=conventions), tuple(notes)
