"""Which Lava process stands for each connection and each population, and how large its numbers can grow."""

from __future__ import annotations

import math

import numpy as np

from neurocompress.chip.on_chip.integer_network import IntegerNetwork, Population, Synapses

#: Lava sums what arrives at a neuron, and shifts it by 6 bits on top of u, in 32 bit integers.
INT32 = 2**31
#: Largest |a| for which (a << 6) + u stays within them.
NATIVE_INPUT = 2**25 - 2**17
#: Conv wraps its output at 24 bits.
CONV_OUTPUT = 2**23
#: Conv stores stride, padding, dilation, kernel size and groups as int8.
CONV_GEOMETRY = 127
#: A matrix with a smaller share of nonzero weights is Sparse. It takes less memory then, on a chip as well; Lava runs
#: both about equally fast (2312-512-10 at 10 %: 2.5 to 4.1 ms per step as Dense, 4.5 to 4.9 as Sparse, two busy cores).
SPARSE_BELOW = 0.25


def padding(network: IntegerNetwork) -> int:
    """Steps without input after each sample: enough for every spike to arrive before the next sample begins."""
    late = [int(np.max(network.aligned_delay(s))) for s in network.synapses]
    return max([network.latency, *late])


def uniform(values: object) -> int | None:
    """The number that all entries are equal to, or None when they differ."""
    array = np.asarray(values)
    first = array.reshape(-1)[0]
    return int(first) if bool(np.all(array == first)) else None


def largest_message(network: IntegerNetwork, source: str) -> int:
    """Largest absolute value that a population, or the input, can send in one step."""
    state_max = network.arithmetic.state_max
    if source == network.input:
        return max(1, (1 << network.input_message_bits) - 1)
    population = network.population(source)
    if not population.spiking:
        return state_max
    if population.spikes_per_step == "one":
        return 1
    return state_max // (max(1, int(np.min(population.vth))) << network.arithmetic.threshold_shift)


def largest_sum(network: IntegerNetwork, synapses: Synapses, shifted: bool = True) -> int:
    """Largest absolute value that a connection can deliver to one neuron; shifted: after its exponent."""
    if synapses.kernel is not None:
        rows = np.abs(np.asarray(synapses.weight, dtype=np.int64)).reshape(len(synapses.weight), -1).sum(axis=1)
    else:
        rows = np.asarray(abs(synapses.matrix().astype(np.int64)).sum(axis=1)).reshape(-1)
    total = int(rows.max(initial=0)) * largest_message(network, synapses.source)
    return total << synapses.exponent if shifted and synapses.exponent > 0 else total


def largest_input(network: IntegerNetwork, population: str) -> int:
    """Largest absolute value that a neuron of this population can receive in one step."""
    return sum(largest_sum(network, s) for s in network.synapses if s.target == population)


def is_native(network: IntegerNetwork, population: Population) -> bool:
    """True when lava.proc.lif.LIFReset does exactly what the population does.

    It resets to zero, fires once when v > vth, and shares du, dv and vth among its neurons. It never falls silent
    between two samples, so nothing of what it sends may arrive late (feedback, delays): the next sample would see it.
    """
    p = population
    return (
        p.spiking and p.reset == "zero" and p.fire == ">" and p.spikes_per_step == "one"
        and not p.two_phase and not p.late_reset and p.v_floor is None
        and uniform(p.u_init) == 0 and uniform(p.v_init) == 0
        and all(uniform(values) is not None for values in (p.du, p.dv, p.vth))
        and all(uniform(network.aligned_delay(s)) == 0 for s in network.synapses if s.source == p.name)
        and largest_input(network, p.name) < NATIVE_INPUT
    )


def connection_process(network: IntegerNetwork, synapses: Synapses, convolutions: str = "Conv") -> str:
    """Name of the Lava process for a connection: Conv, Dense, Sparse, DelayDense or DelaySparse.

    convolutions: "Conv" where that is exact, or "Sparse" for all of them.
    """
    delayed = bool(np.any(np.asarray(synapses.extra_delay) > 0))
    if synapses.kernel is not None:
        kernel = synapses.kernel
        geometry = (*kernel.stride, *kernel.dilation, *np.shape(synapses.weight)[2:], kernel.groups,
                    *(side for pair in kernel.padding for side in pair))
        if (convolutions == "Conv" and not delayed and synapses.exponent >= 0
                and max(geometry) <= CONV_GEOMETRY
                and all(before == after for before, after in kernel.padding)
                and largest_sum(network, synapses) < CONV_OUTPUT):
            return "Conv"
        return "DelaySparse" if delayed else "Sparse"
    weight = synapses.weight
    nonzero = int(np.count_nonzero(weight)) if isinstance(weight, np.ndarray) else int(weight.count_nonzero())
    sparse = nonzero < SPARSE_BELOW * math.prod(weight.shape)
    return ("Delay" if delayed else "") + ("Sparse" if sparse else "Dense")
