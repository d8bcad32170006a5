"""What a chip's neurons can do, and a network with the conventions that they have."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...network.conventions import Reset
from ...network.ends import tail
from ...network.graph import Network
from ...network.readout import Mode, Tail
from ...network.resets import resets_late
from .schema import Profile


@dataclass(frozen=True)
class Features:
    """What a chip's neurons can do, from its profile. graded_bits: 0 for plain spikes only. delay_max: None when it is
    unknown, and then any delay is taken. resets: those it has. reset_delay: whether they can come in the step after
    the spike, behind the decay. models: kinds of neurons, None when unknown. membrane: whether a membrane can be read,
    None when unknown."""

    graded_bits: int
    delay_max: int | None
    resets: tuple[Reset, ...]
    reset_delay: bool = False
    models: tuple[str, ...] | None = None
    membrane: bool | None = None


def features(profile: Profile) -> Features:
    graded, delay, resets = (getattr(profile.neurons, n).value for n in ("graded_spikes", "delay_max", "reset"))
    late, models, membrane = profile.neurons.reset_delay, profile.neurons.models.value, profile.neurons.membrane_readout
    return Features(graded or 0, delay, tuple(resets or ("zero", "subtract")), bool(late and late.value),
                    None if models is None else tuple(models), membrane.value if membrane else None)


def readout_on(network: Network, profile: Profile, mode: Mode = "auto") -> Tail:
    """How a network ends on a chip (see `network.ends.tail`). Raises `Refused`."""
    chip = features(profile)
    return tail(network, mode, kinds=chip.models, membrane=chip.membrane, chip=profile.title)


def with_conventions(network: Network, chip: Features, title: str) -> tuple[Network, tuple[str, ...]]:
    """The network with spikes per step and a reset that the chip has, and a sentence for each change.

    `deploy` runs it so and measures what that costs; nothing else of the network changes.
    """
    rule, said = network.conventions, []
    if rule.spikes_per_step == "many" and not chip.graded_bits:
        rule = replace(rule, spikes_per_step="one")
        said.append(f"{title} sends at most one spike per neuron and step: neurons that sent several in a step "
                    "now send one, and the rest in later steps where they reset by subtraction; data of finer time "
                    "steps loses less")
    if rule.reset not in chip.resets:
        (there,) = chip.resets
        rule = replace(rule, reset=there, two_phase_reset=False)
        said.append(f"{title} has no reset of kind '{network.conventions.reset}': its neurons "
                    + ("reset to zero, and what was above the threshold is lost" if there == "zero" else
                       "subtract their threshold, and keep what was above it"))
    if rule.reset_delay and not chip.reset_delay:
        late = any(resets_late(replace(network, conventions=rule), p) for p in network.populations)
        rule = replace(rule, reset_delay=False, two_phase_reset=False)
        if late:
            said.append(f"{title} can not reset a neuron in the step after its spike, behind the decay, as the model "
                        "does (reset_delay): its neurons reset in the step in which they spike")
    return replace(network, conventions=rule), tuple(said)
