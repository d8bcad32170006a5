"""The rules of fitting that concern all cores of a chip, or all chips together."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ...chip.profile.fact import Entry
from ...chip.profile.memory_formulas import BLOCKS
from ..mapping.layer import Layer
from ..mapping.synapse_counts import Ints
from .rule import Case, Finding, Unchecked, Violation, limit_of, rule


@rule("NC301", "topology.cores_per_chip", "bits", "sparsity", "chips")
def cores(case: Case) -> Iterator[Finding]:
    """All layers together take no more cores than the chips have."""
    available = _cores(case)
    if available is None:
        yield Unchecked("NC301", "cores", case.profile.topology.cores_per_chip.source)
    elif case.placement.cores > available:
        yield Violation("NC301", _largest(case, "cores").title, "cores", case.placement.cores, available, "cores")


@rule("NC302", "core.synapse_memory", "bits", "sparsity", "chips")
def chip_memory(case: Case) -> Iterator[Finding]:
    """All layers together store no more than the cores of the chips can hold."""
    available, each = _cores(case), case.profile.core.memory_bits
    needed = sum(int(layer.memory.sum()) for layer in case.placement.layers)
    known = case.profile.memory.formula.value is not None  # NC202 says so where it is not
    if available is not None and each is not None and known and needed > available * each:
        yield Violation("NC302", _largest(case, "memory").title, "synapse memory of all cores", needed / 8,
                        available * each / 8, "bytes")


@rule("NC303", "core.neurons", "chips")
def chip_neurons(case: Case) -> Iterator[Finding]:
    """All layers together have no more neurons than the cores of the chips can compute."""
    available, each = _cores(case), case.profile.core.neurons.value
    needed = sum(int(layer.compartments.sum()) for layer in case.placement.layers)
    if available is not None and each is not None and needed > available * each:
        yield Violation("NC303", _largest(case, "compartments").title, "neurons of all cores", needed,
                        available * each, "neurons")


@rule("NC304", "topology.synapses_per_chip", "sparsity", "chips")
def chip_synapses(case: Case) -> Iterator[Finding]:
    """All layers together have no more synapses than the chips can hold."""
    limit, unknown = limit_of("NC304", case.profile.topology.synapses_per_chip, "synapses per chip")
    yield from unknown
    needed = sum(int(layer.synapses.sum()) for layer in case.placement.layers)
    if limit is not None and needed > limit * case.placement.chips:
        yield Violation("NC304", _largest(case, "synapses").title, "synapses of all chips", needed,
                        limit * case.placement.chips, "synapses")


@rule("NC305", "topology.memory_per_chip", "sparsity", "chips")
def shared_memory(case: Case) -> Iterator[Finding]:
    """All layers together store no more than the memory that the cores of a chip share."""
    entry = case.profile.topology.memory_per_chip
    if entry is None:
        return
    formula = case.profile.memory.formula
    if entry.bits is None or formula.value is None:
        yield Unchecked("NC305", "memory of a chip", (entry if entry.bits is None else formula).source)
        return
    available, needed = entry.bits // 8 * case.placement.chips, _stored_bytes(case)
    if needed > available:
        yield Violation("NC305", _largest(case, "memory").title, "memory of all chips", needed, available, "bytes")


@rule("NC306", "topology.inputs")
def inputs(case: Case) -> Iterator[Finding]:
    """The network has no more input channels than the chip.

    Fix: Join or leave out channels of the recording, and train again.
    """
    yield from _ends(case, "NC306", case.profile.topology.inputs, "input channels", (case.network.input,), "channels",
                     "Join or leave out channels of the recording, and train again")


@rule("NC307", "topology.hidden")
def hidden(case: Case) -> Iterator[Finding]:
    """There are no more hidden neurons (those that are no output) than the chip has room for.

    Fix: Choose smaller hidden layers.
    """
    names = tuple(n for n in case.network.populations if n not in _outputs(case))
    yield from _ends(case, "NC307", case.profile.topology.hidden, "hidden neurons", names, "neurons",
                     "Choose smaller hidden layers")


@rule("NC308", "topology.outputs")
def outputs(case: Case) -> Iterator[Finding]:
    """The output has no more neurons than the chip has for it.

    Fix: Choose fewer classes, or several networks of some of them each.
    """
    yield from _ends(case, "NC308", case.profile.topology.outputs, "output neurons", _outputs(case), "neurons",
                     "Choose fewer classes, or several networks of some of them each")


@rule("NC309", "topology.input_side_max")
def input_side(case: Case) -> Iterator[Finding]:
    """An input image is no higher and no wider than the chip reads.

    Fix: Crop or scale down the recording, and train again.
    """
    limit, unknown = limit_of("NC309", case.profile.topology.input_side_max, "height and width of the input")
    yield from unknown
    side = max(case.network.shapes[case.network.input][1:], default=0)
    if limit is not None and side > limit:
        yield Violation("NC309", case.network.input, "height and width of the input", side, limit, "pixels",
                        "Crop or scale down the recording, and train again")


def _ends(case: Case, code: str, entry: Entry[int] | None, resource: str, names: tuple[str, ...], unit: str,
          fix: str) -> Iterator[Finding]:
    """One violation when populations together have more neurons than a chip; more chips have more of them."""
    limit, unknown = limit_of(code, entry, resource)
    yield from unknown
    needed = sum(math.prod(case.network.shapes[n]) for n in names)
    if limit is not None and needed > limit * case.placement.chips:
        yield Violation(code, names[0], resource, needed, limit * case.placement.chips, unit, fix)


def _outputs(case: Case) -> tuple[str, ...]:
    """The populations that the output hears."""
    return tuple(n for n in case.network.inputs_of(case.network.output) if n in case.network.populations)


def _stored_bytes(case: Case) -> int:
    """What all cores store; with what lies between the lists, where the formula says so."""
    block = BLOCKS.get(case.profile.memory.formula.value or "")
    if block is None:
        return sum(int(layer.memory.sum()) for layer in case.placement.layers) // 8
    total = 0
    for layer in case.placement.layers:
        ends: Ints | None = None
        for i in layer.incoming:
            rows = i.fan.load(layer.cut, i.form).longest // 8
            ends = block(i.connection.n_sources, rows, case.profile.core.neurons.value or i.connection.n_sources, ends)
        total += 0 if ends is None else int(ends.sum())
    return total


def _cores(case: Case) -> int | None:
    per_chip = case.profile.topology.cores_per_chip.value
    return None if per_chip is None else per_chip * case.placement.chips


def _largest(case: Case, attribute: str) -> Layer:
    def amount(layer: Layer) -> int:
        value = getattr(layer, attribute)
        return int(value if isinstance(value, int) else value.sum())

    return max(case.placement.layers, key=amount)
