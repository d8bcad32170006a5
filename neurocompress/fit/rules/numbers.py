"""The rules of fitting that concern numbers and what neurons send: a network that breaks one has no form on the chip.

They stop `deploy` before any work (see `Rule.stops`); what they let pass can be built.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...chip.arithmetic import Arithmetic
from ...chip.on_chip.reach import Reach, largest_bias, largest_weight, reach
from ...chip.on_chip.units import weight_format
from ...network.discrete import discretize
from ...network.nodes import Neuron
from .rule import Case, Finding, Undecided, Violation, rule


@rule("NC108", "neurons.graded_spikes", stops=True)
def hidden_potentials(case: Case) -> Iterator[Finding]:
    """Neurons that never spike (I, LI, CubaLI) are read and drive no others: neurons send each other spikes alone.

    Fix: Give these neurons a threshold (IF, LIF, CubaLIF), or let them be the output.
    """
    for name in case.network.populations:
        node = case.network.nodes[name]
        heard = [c.target for c in case.given if c.source == name]
        if isinstance(node, Neuron) and not node.spiking and heard:
            spiking = node.kind.removesuffix("I") + "IF"
            yield Violation("NC108", name, f"{node.kind} neurons that drive '{heard[0]}'", 1, 0, "potentials sent",
                            f"Give them a threshold ({spiking} neurons), or let them be the output")


@rule("NC109", "weights.exponent", stops=True)
def weights_beside_thresholds(case: Case) -> Iterator[Finding]:
    """No weight moves a neuron by more thresholds than the chip's largest weight moves its smallest threshold.

    Fix: Raise the thresholds of the population, or lower the weights into it or its gain.
    """
    for name, found in _reaches(case):
        if _arithmetic(case) is None or found.lowest <= 0 or not found.spiking:
            continue  # a potential that is read is counted in any unit
        for c in (c for c in case.given if c.target == name):
            if case.bits[c.layer] not in (case.profile.weights.bits.value or ()):
                continue  # NC105
            limit = largest_weight(weight_format(case.profile, case.bits[c.layer]), found.lowest)
            if found.weights[c.name] > limit * (1 + 1e-9):
                yield Violation("NC109", c.layer, "largest weight", found.weights[c.name], limit, "thresholds",
                                f"Raise the thresholds of '{name}', or lower the weights into it or its gain: one "
                                "input spike moves it that far")


@rule("NC110", "arithmetic.bias_mantissa_bits", stops=True)
def constant_inputs(case: Case) -> Iterator[Finding]:
    """Biases and leak potentials move a neuron by no more thresholds in a step than the bias register holds, and its
    reset potential lies no more thresholds away from rest than the membrane register.

    Fix: Lower biases or the leak potential, move the reset potential nearer to rest, or raise the thresholds.
    """
    arithmetic = _arithmetic(case)
    for name, found in _reaches(case) if arithmetic is not None else ():
        if found.lowest <= 0 or arithmetic is None or not found.spiking:
            continue  # NC111, or counted in any unit
        least = 1 / found.lowest
        one = 2.0**arithmetic.threshold_shift * found.highest * least  # a threshold in the registers' units, at least
        for what, value, limit, fix in (
            ("constant input", found.bias, largest_bias(arithmetic) / one,
             f"Lower the biases into '{name}' or its leak potential, or raise its thresholds"),
            ("reset potential", found.start, (arithmetic.state_max - 1) / one,
             f"Move the reset potential of '{name}' nearer to rest, or raise its thresholds"),
        ):
            if value > limit:
                yield Violation("NC110", name, what, value, limit, "thresholds", fix)


@rule("NC111", "arithmetic.threshold_bits", stops=True)
def thresholds_of_channels(case: Case) -> Iterator[Finding]:
    """Neurons of a channel, which share its weights, have thresholds in proportion to their gains; all of them are
    above 0 and within the threshold register.

    Fix: Give all neurons of a channel gains (r, w_in, threshold) of one sign and of similar size, none of them 0.
    """
    arithmetic = _arithmetic(case)
    limit = float("inf") if arithmetic is None else 2.0**arithmetic.threshold_bits - 1
    for name, found in _reaches(case):
        ratio = found.highest / found.lowest if found.lowest > 0 else float("inf")
        if not ratio < float("inf") or ratio > limit:
            yield Violation("NC111", name, "ratio of gains within a channel", ratio, limit, "times",
                            "Give all neurons of a channel gains (r, w_in, threshold) of one sign and of similar size, "
                            "none of them 0")


@rule("NC112", "arithmetic.state_bits", stops=True, decided="deploy")
def growing_states(case: Case) -> Iterator[Finding]:
    """Neurons that send several spikes in a step and drive themselves by more than they forget keep their states within
    the registers. How far they go depends on the data.

    Fix: Where `deploy` counts a wrap on the data, weaken the loop, or run it with one spike in a step.
    """
    network = case.network
    if _arithmetic(case) is None or network.conventions.spikes_per_step != "many":
        return
    for name, found in _reaches(case):
        node = network.nodes[name]
        back = [c for c in case.given if c.target == name and c.feedback]
        if not back or not isinstance(node, Neuron):
            continue
        step = discretize(node, network.conventions)
        forgets = 1.0 if step.alpha is None else 1.0 - float(np.max(step.alpha))
        if any(c.source != name for c in back) or sum(found.rows[c.name] for c in back) >= forgets:
            yield Undecided("NC112", name, "states of a loop", "several spikes in a step come back to the neurons that "
                            "send them, and may grow until a register wraps; deploy counts that on the data")


def _arithmetic(case: Case) -> Arithmetic | None:
    """Of a chip with integer neurons; None for others, and where it is not public."""
    found = None if case.profile.formats is None else case.profile.arithmetic
    return found if isinstance(found, Arithmetic) else None


def _reaches(case: Case) -> Iterator[tuple[str, Reach]]:
    """What each population asks of its thresholds, found once for all plans of a network."""
    network = case.network
    for name in network.populations:
        into = [c for c in case.given if c.target == name]
        if into and name not in case.reaches:
            case.reaches[name] = reach(network.nodes[name], into, network.shapes[name], network.conventions)
        if into:
            yield name, case.reaches[name]
