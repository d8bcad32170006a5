"""What a reader could only assume of a network although its spikes depend on it, and how that is said."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from .conventions import Conventions, shown
from .graph import Network

#: How a sentence starts that every verb says aloud.
ALOUD = "ASSUMED: "


def sentence(name: str, conventions: Conventions) -> str:
    """What is assumed, why, and the flag to give; name: "dt" or "reset"."""
    if name == "reset":
        other = "zero" if conventions.reset == "subtract" else "subtract"
        return (f"{ALOUD}reset = {conventions.reset}. Neither the file nor a flag says how a spike resets its neuron, "
                f"and the spikes depend on it: give --reset {conventions.reset} if this is right, else --reset {other} "
                "or the --preset of the tool that trained it.")
    return (f"{ALOUD}dt = {conventions.dt:g} s. Neither the file nor a flag says how long a time step is, and the "
            "spikes depend on it: give --dt.")


def aloud(notes: tuple[str, ...]) -> list[str]:
    """Those of some notes that are said aloud; of several that begin with the same sentence the first."""
    first: dict[str, str] = {}
    for note in notes:
        if note.startswith(ALOUD):
            first.setdefault(note.split(". ", 1)[0], note)
    return list(first.values())


def quiet(notes: Iterable[str]) -> list[str]:
    """The other notes."""
    return [note for note in notes if not note.startswith(ALOUD)]


def other_reading(network: Network, name: str, shortest: float) -> tuple[Network, str]:
    """The network under the likeliest other value of what is assumed, and the flag that gives it.

    shortest: its shortest time constant in seconds: a longer dt is unstable in forward Euler.
    """
    rule = network.conventions
    if name == "reset":
        value = "zero" if rule.reset == "subtract" else "subtract"
        return replace(network, conventions=replace(rule, reset=value)), f"--reset {value}"  # type: ignore[arg-type]
    dt = rule.dt or 1.0
    dt = 10 * dt if 10 * dt <= shortest or rule.decay == "exponential" else dt / 10
    dt = float(f"{dt:.6g}")
    return replace(network, conventions=replace(rule, dt=dt)), f"--dt {shown(dt)}"
