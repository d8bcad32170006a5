"""The rules of fitting that concern analog circuits."""

from __future__ import annotations

from collections.abc import Iterator

from ...chip.arithmetic import Analog
from ...chip.on_chip.analog_circuits import at_speed, breaches
from .rule import Case, Finding, Violation, rule


@rule("NC107", "arithmetic.tau_mem")
def time_constants(case: Case) -> Iterator[Finding]:
    """Membrane and synaptic time constants are within the range of the chip's circuits, all at one speed.

    Fix: Train with time constants within the range that the message states.
    """
    if case.profile.formats is None or not isinstance(chip := case.profile.arithmetic, Analog):
        return
    chip = at_speed(case.network, chip)
    for b in breaches(case.network, chip):
        if not 0 < b.wanted < float("inf"):
            continue  # of a kind of neuron that the chip lacks (NC101), or a synapse that acts at once
        ends = chip.tau_mem if "membrane" in b.quantity else chip.tau_syn
        low, high = (1e3 * chip.acceleration * end for end in ends)
        fix = f"Train with {b.quantity}s from {low:.3g} to {high:.3g} ms"
        if b.wanted > b.nearest:
            yield Violation("NC107", b.population, b.quantity, b.wanted, b.nearest, "us", fix)
        else:
            yield Violation("NC107", b.population, b.quantity.replace("time constant", "decay rate"), 1 / b.wanted,
                            1 / b.nearest, "per us", fix)
