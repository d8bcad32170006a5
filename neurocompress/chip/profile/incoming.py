"""What the way of values to a chip means for its fit, before any data are there."""

from __future__ import annotations

from ...errors import refuse
from ...network.encoder import InputMode, split
from ...network.graph import Network
from .features import features
from .load import Profile

#: Bits of a graded input where the chip takes that many.
GRADED_BITS = 8


def graded_width(profile: Profile) -> int:
    """Bits of the messages in which real values are sent. Raises `Refused` where the chip has no graded spikes."""
    width = features(profile).graded_bits
    if width == 1:
        raise refuse(f"the graded spikes of {profile.title} have 1 bit, which holds no values",
                     fix="Use --input host: the host computes the first layer")
    if not width:
        known = profile.neurons.graded_spikes
        raise refuse(
            f"{profile.title} has no graded spikes" if known.value == 0 else
            f"whether {profile.title} has graded spikes, and how wide, is not public ({profile.expand(known.source)})",
            fix="Use --input host: the host computes the first layer")
    return min(GRADED_BITS, width)


def on_chip_alone(network: Network, profile: Profile, mode: InputMode) -> tuple[Network, tuple[str, ...]]:
    """The part of a network that a chip holds where values reach it so, and a sentence on what that counts.

    Raises `Refused` for a mode that the chip or the network does not allow.
    """
    if mode == "graded":
        return network, (f"the input is counted as graded spikes of {graded_width(profile)} bits",)
    if mode != "host":
        return network, ()
    parts = split(network)
    before = [f"'{n}'" for n in parts.host.order if n not in (parts.host.input, parts.host.output)]
    return parts.chip, (f"the host computes {', '.join(before)}: {parts.host.parameters:,} parameters that are not "
                        "counted here",)
