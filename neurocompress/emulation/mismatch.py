"""Virtual chips: an analog network whose circuits all differ a little, drawn again and again.

What differs, each by a normal factor of mean 1 whose spread is the profile's: the strength of every synapse, the
strength of a neuron's excitatory and of its inhibitory input, its threshold's distance from its reset, and its two time
constants. The pattern is fixed: one draw is one chip, and it stays through all samples. Noise from step to step,
drift and crosstalk are not in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy import sparse

from ..chip.arithmetic import Analog
from ..chip.on_chip.integer_network import Synapses
from ..chip.on_chip.real_network import RealNetwork, RealPopulation
from ..network.nodes import Array
from ..network.readout import scores
from .emulator import emulate

#: Virtual chips of a Monte Carlo run; the least and most samples that each of them sees; synapses x steps x samples of
#: all chips that are worked through (about two minutes on one core).
CHIPS, SAMPLES, WORK = 20, (16, 256), 2**39
#: Synapses of a network, every one counted, above which virtual chips are not drawn.
SYNAPSES_MAX = 2**26
#: The smallest factor: a circuit is weak, it does not turn its sign.
WEAKEST = 0.05


def virtual_chip(network: RealNetwork, rng: np.random.Generator) -> RealNetwork:
    """One chip with the spreads of `network.arithmetic`: weights are real numbers then, and no kernel is shared."""
    network = unrolled(network)
    chip = network.arithmetic
    assert isinstance(chip, Analog)
    strength = {p.name: (_factors(rng, chip.spread_synapse, p), _factors(rng, chip.spread_synapse, p))
                for p in network.populations}
    return replace(
        network, synapses=tuple(_synapses(s, *strength[s.target], chip.spread_weight, rng) for s in network.synapses),
        populations=tuple(_population(p, chip, rng) for p in network.populations))


def unrolled(network: RealNetwork) -> RealNetwork:
    """The same network with a matrix for every kernel: circuits share nothing."""
    return replace(network, synapses=tuple(
        s if s.kernel is None else replace(s, weight=s.matrix(), kernel=None) for s in network.synapses))


def monte_carlo(
    network: RealNetwork, spikes: np.ndarray, chips: int = CHIPS, seed: int = 0,
    progress: Callable[[int], None] | None = None, read: Callable[[dict[str, np.ndarray]], Array] | None = None,
) -> np.ndarray:
    """Scores of every virtual chip, (chips, samples, classes) float64.

    Chip k depends on seed and k alone. progress is told the chips done. read: what all populations send to
    (samples, classes); without it the outputs are summed over time.
    """
    found, network = [], unrolled(network)  # once for all chips
    for k in range(chips):
        made = virtual_chip(network, np.random.default_rng([seed, k]))
        sent = emulate(made, spikes, [p.name for p in network.populations] if read else ()).spikes
        found.append(read(sent) if read else scores(sent[network.output], network.reading))
        if progress:
            progress(k + 1)
    return np.stack(found)


def samples_seen(network: RealNetwork, steps: int) -> int:
    """Samples that each virtual chip sees."""
    least, most = SAMPLES
    return min(most, max(least, WORK // (CHIPS * max(1, steps) * max(1, synapse_count(network)))))


def synapse_count(network: RealNetwork) -> int:
    """Synapses, those of convolutions at every place counted (an upper bound: padding is not left out)."""
    total = 0
    for s in network.synapses:
        if s.kernel is None:
            total += int(np.prod(s.weight.shape))
        else:
            total += int(np.prod(s.weight.shape[1:])) * int(np.prod(s.kernel.output_shape))
    return total


def _factors(rng: np.random.Generator, spread: float, p: RealPopulation) -> Array:
    return _at_least(1 + spread * rng.standard_normal(p.shape))


def _at_least(factors: Array) -> Array:
    return np.maximum(factors, WEAKEST)


def _synapses(
    s: Synapses, excitatory: Array, inhibitory: Array, spread: float, rng: np.random.Generator
) -> Synapses:
    """Every synapse on its own: the neuron's strength of its sign times a factor of its own."""
    matrix = sparse.csr_array(s.matrix(), dtype=np.float64)
    target = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    neuron = np.where(matrix.data > 0, excitatory.ravel()[target], inhibitory.ravel()[target])
    values = matrix.data * neuron * _at_least(1 + spread * rng.standard_normal(len(matrix.data)))
    return replace(s, weight=sparse.csr_array((values, matrix.indices, matrix.indptr), matrix.shape))


def _population(p: RealPopulation, chip: Analog, rng: np.random.Generator) -> RealPopulation:
    """Time constants and threshold of each neuron. A factor f on a time constant makes its decay d to d^(1/f); the
    current that an input starts stays as large, and the leak pulls to the same potential."""
    threshold, mem, syn = (_factors(rng, spread, p) for spread in (
        chip.spread_threshold, chip.spread_tau_mem, chip.spread_tau_syn))
    step = p.step
    beta = step.beta ** (1 / mem)  # below 1: every circuit leaks
    return replace(p, step=replace(
        step, beta=beta, leak=step.leak * (1 - beta) / (1 - step.beta),
        alpha=None if step.alpha is None else step.alpha ** (1 / syn),
        v_threshold=None if step.v_threshold is None else step.v_reset + (step.v_threshold - step.v_reset) * threshold))
