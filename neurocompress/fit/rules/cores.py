"""Rules on neurons, weights and single cores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...chip.on_chip.units import holds_both_signs
from ...chip.profile.fact import Entry
from ...chip.profile.memory_formulas import stored_bits
from ...network.graph import Network
from ...network.nodes import Conv, Linear, Neuron, Pool
from ...network.readout import last_population, sends_spikes
from .rule import Case, Finding, Unchecked, Violation, limit_of, rule


def _per_core(case: Case, code: str, entry: Entry[int] | None, resource: str, attribute: str, unit: str,
              bits: int = 1) -> Iterator[Finding]:
    """One violation for each layer with a core above a limit. bits: bits in one unit of the limit."""
    limit, unknown = limit_of(code, entry, resource)
    yield from unknown
    for layer in case.placement.layers if limit is not None else ():
        most = getattr(layer, attribute).max(initial=0) / bits
        if limit is not None and most > limit:
            yield Violation(code, layer.title, resource, float(most), limit, unit)


@rule("NC101", "neurons.models")
def neuron_models(case: Case) -> Iterator[Finding]:
    """Every neuron is of a kind that the chip computes.

    Fix: Train with neurons that the chip has.
    """
    known = case.profile.neurons.models.value
    if known is None:
        yield Unchecked("NC101", "neuron models", case.profile.neurons.models.source)
        return
    for name in case.network.populations:
        node = case.network.nodes[name]
        kind = node.kind if isinstance(node, Neuron) else type(node).__name__
        if kind not in known:
            yield Violation("NC101", name, f"{kind} neurons", 1, 0, "kinds of neuron",
                            f"Train with neurons that {case.profile.title} has: {', '.join(known)}")


@rule("NC102", "neurons.reset")
def resets(case: Case) -> Iterator[Finding]:
    """Neurons that spike reset in a way that the chip has (to zero, or by subtracting the threshold).

    Fix: Choose a reset that the chip has (`--reset`), and look at what it costs in accuracy.
    """
    ways, mode = case.profile.neurons.reset.value, case.network.conventions.reset
    if ways is None:
        yield Unchecked("NC102", f"reset to {mode}", case.profile.neurons.reset.source)
    elif mode not in ways and _spiking(case.network):
        yield Violation("NC102", _spiking(case.network)[0], f"reset '{mode}'", 1, 0, "kinds of reset",
                        f"Use --reset {' or '.join(ways)}, and look at what it costs in accuracy")


@rule("NC103", "neurons.graded_spikes")
def spikes_per_step(case: Case) -> Iterator[Finding]:
    """Neurons send at most one spike in a step, except on a chip with graded spikes.

    Fix: Run it with one spike in a step (`--convention spikes_per_step=one`), and look at what it costs in accuracy.
    """
    graded = case.profile.neurons.graded_spikes
    if case.network.conventions.spikes_per_step != "many" or not _spiking(case.network):
        return
    if graded.value is None:
        yield Unchecked("NC103", "graded spikes", graded.source)
    elif graded.value == 0:
        yield Violation("NC103", _spiking(case.network)[0], "spikes per step", 2, 1, "spikes",
                        "Run it with one spike per step (convention spikes_per_step 'one'), and look at what it "
                        "costs in accuracy")


@rule("NC104", "neurons.delay_max", stops=True)
def delays(case: Case) -> Iterator[Finding]:
    """No connection waits for more steps than the chip can delay a spike, counted as the chip runs it: a Delay of one
    step is the step that every connection takes, and analog populations do not wait for each other.

    Fix: Shorten the Delay node, or the branch beside it that is longer by so many layers.
    """
    limit, unknown = limit_of("NC104", case.profile.neurons.delay_max, "delay")
    yield from unknown if any(case.delays.values()) else ()
    for c in case.connections:
        if limit is not None and case.delays[id(c)] > limit:
            yield Violation("NC104", c.name, "delay", case.delays[id(c)], limit, "steps",
                            "Shorten the Delay node, or the branch beside it that is longer by this many layers")


@rule("NC105", "weights.bits", stops=True)
def weight_bits(case: Case) -> Iterator[Finding]:
    """Weights are stored in a width that the chip has, and that holds both signs.

    Fix: Use a width that the chip stores (`--bits`); the message names the nearest.
    """
    allowed = case.profile.weights.bits.value
    if allowed is None:
        yield Unchecked("NC105", "bits per weight", case.profile.weights.bits.source)
        return
    for name, bits in case.bits.items():
        if bits not in allowed:
            use = stored_bits(bits, allowed)
            yield Violation("NC105", name, "bits per weight", bits, use if bits > use else max(
                (b for b in allowed if b < bits), default=use), "bits",
                f"Use {use} bits; {case.profile.title} stores {', '.join(map(str, allowed))}", apply={"bits": use})
        elif not holds_both_signs(case.profile, bits):
            use = min(b for b in allowed if b > bits)
            yield Violation("NC105", name, "bits per weight of both signs", use, bits, "bits",
                            f"Use {use} bits: weights of {bits} bit hold no number above 0", apply={"bits": use})


@rule("NC106", "neurons.membrane_readout")
def readout(case: Case) -> Iterator[Finding]:
    """The potential of an output that never spikes can be read on the chip. Layers without neurons behind the last
    neurons are not counted.

    Fix: Let the host compute it from the spikes before it (`--readout host`).
    """
    network, entry = case.network, case.profile.neurons.membrane_readout
    for name in network.inputs_of(network.output):
        if isinstance(network.nodes[name], (Linear, Conv, Pool)):
            yield Unchecked("NC106", f"layer '{name}'", "no neurons follow it, so it is computed off the chip")
    last = last_population(network)
    if last is None or sends_spikes(network, last):
        return
    if entry is None or entry.value is None:
        yield Unchecked("NC106", f"membrane of '{last}'", entry.source if entry else "its profile does not say whether "
                        "a membrane can be read")
    elif not entry.value:
        yield Violation("NC106", last, "membranes that are read", 1, 0, "kinds of readout",
                        "Use --readout host: the host computes it from the spikes before it")


@rule("NC201", "core.neurons")
def neurons(case: Case) -> Iterator[Finding]:
    """A core computes no more neurons than it has (a reset in two compartments takes two for each).

    Fix: Make the layer smaller by the factor that the message states; of a reset in two compartments, choose another.
    """
    yield from _per_core(case, "NC201", case.profile.core.neurons, "neurons per core", "compartments", "neurons")


@rule("NC202", "core.synapse_memory", "bits", "sparsity")
def synapse_memory(case: Case) -> Iterator[Finding]:
    """What a core stores fits its synapse memory, by the public formula that the profile names."""
    core = case.profile.core
    available = core.memory_bits
    if core.synapse_memory is None:
        return
    if available is None:
        yield Unchecked("NC202", "synapse memory per core", core.synapse_memory.source)
        return
    if case.profile.memory.formula.value is None:
        yield Unchecked("NC202", "synapse memory per core", case.profile.memory.formula.source)
        return
    for layer in case.placement.layers:
        most = int(layer.memory.max(initial=0))
        if most > available:
            yield Violation("NC202", layer.title, "synapse memory per core", most / 8, available / 8, "bytes")


@rule("NC203", "core.axons_in", "sparsity")
def axons_in(case: Case) -> Iterator[Finding]:
    """No more axons end in a core than it has entries for; so a neuron has no more sources than that."""
    yield from _per_core(case, "NC203", case.profile.core.axons_in, "axons into a core", "axons_in", "axons")


@rule("NC204", "core.axons_out")
def axons_out(case: Case) -> Iterator[Finding]:
    """A core sends to no more destinations than it has entries for: one per neuron and core that listens to it.

    Fix: Make the layer, or those that listen to it, smaller by the factor that the message states.
    """
    yield from _per_core(case, "NC204", case.profile.core.axons_out, "axons out of a core", "axons_out", "entries")


@rule("NC205", "core.memory_per_axon", "bits", "sparsity")
def memory_per_axon(case: Case) -> Iterator[Finding]:
    """The list of synapses of one axon in one core is no longer than the chip can address."""
    entry = case.profile.core.memory_per_axon
    unit = 64 if entry is None or entry.bits is None or not entry.value else entry.bits // entry.value
    yield from _per_core(case, "NC205", entry, "synapse list of one axon", "longest", entry.unit if entry else "", unit)


@rule("NC206", "core.delay_slots")
def delay_slots(case: Case) -> Iterator[Finding]:
    """A core has slots for delayed spikes; the longer the delays, the fewer neurons it has room for.

    Fix: Shorten the delays, or make the layer smaller by the factor that the message states.
    """
    yield from _per_core(case, "NC206", case.profile.core.delay_slots, "delay slots per core", "delay_slots", "slots")


@rule("NC207", "core.fan_in", "fan_in")
def fan_in(case: Case) -> Iterator[Finding]:
    """No neuron has more synapses than the chip can give to one neuron; more cores do not help.

    Fix: Where the profile or `--fan-in-policy` allows it, sums are split over cores or neurons joined instead.
    """
    limit, unknown = limit_of("NC207", case.profile.core.fan_in, "synapses into a neuron")
    yield from unknown
    for layer in case.placement.layers:
        if limit is not None and layer.fan_in > limit:
            yield Violation("NC207", layer.title, "synapses into a neuron", layer.fan_in, limit, "synapses")


@rule("NC208", "core.fan_out", "sparsity", sends=True)
def fan_out(case: Case) -> Iterator[Finding]:
    """No neuron has more synapses leaving it than the chip can give to one neuron (inputs are no neurons)."""
    limit, unknown = limit_of("NC208", case.profile.core.fan_out, "synapses out of a neuron")
    yield from unknown
    if limit is None:
        return
    leaving: dict[str, Any] = {}
    for layer in case.placement.layers:
        for i in (i for i in layer.incoming if i.connection.source != case.network.input):
            leaving[i.connection.source] = leaving.get(i.connection.source, 0) + i.fan.fan_out()
    for name, counts in leaving.items():
        if counts.max(initial=0) > limit:
            yield Violation("NC208", name, "synapses out of a neuron", int(counts.max()), limit, "synapses")


def _spiking(network: Network) -> list[str]:
    return [n for n in network.populations if getattr(network.nodes[n], "v_threshold", None) is not None]
