"""How a verb reads what a run sent: the class from the output, spikes as rates, and all else as potentials."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ..network.ends import tail
from ..network.graph import Network
from ..network.nodes import Array
from ..network.readout import Mode, carries_spikes, ends_in_spikes, last_population, read, read_by, sends_spikes

if TYPE_CHECKING:
    from ..chip.on_chip.real_network import OnChip


@dataclass(frozen=True)
class Potential:
    """Values that are no spikes, over all samples, steps and neurons, in the model's units."""

    rms: float
    least: float
    largest: float


@dataclass(frozen=True, eq=False)
class Reader:
    """score: an output (samples, timesteps, *shape) to what the class is the largest of, (samples, outputs).
    potentials: names of arrays that hold no spikes. by: how the class is read, for people. outputs: how many."""

    score: Callable[[np.ndarray], Array]
    potentials: frozenset[str]
    by: str
    outputs: int

    @classmethod
    def of(cls, network: Network, names: Iterable[str]) -> Reader:
        """Of a network in floating point, of which these nodes and "output" are seen."""
        silent = {n for n in (*names, "output") if not carries_spikes(network, network.output if n == "output" else n)}
        outputs = int(np.prod(network.shapes[network.output]))
        return cls(partial(read, network), frozenset(silent), read_by(network), outputs)

    @classmethod
    def on_chip(cls, network: OnChip, whole: Network | None, names: Iterable[str]) -> Reader:
        """Of a chip's network. whole: with what the host computes behind it, where it does."""
        from .verify import score_of

        silent = {p.name for p in network.populations if not p.spiking}
        last = carries_spikes(whole, whole.output) if whole is not None else network.output not in silent
        shape = network.population(network.output).shape if whole is None else whole.shapes[whole.output]
        seen = {n for n in names if n in silent} | (set() if last else {"output"})
        return cls(score_of(network, whole), frozenset(seen),
                   network.read_by if whole is None else read_by(whole), int(np.prod(shape)))


class Sums:
    """What the arrays of all batches come to, by name."""

    def __init__(self, potentials: frozenset[str]):
        self._potentials = potentials
        self._spikes: dict[str, tuple[int, int]] = {}
        self._values: dict[str, tuple[float, int, float, float]] = {}

    def add(self, name: str, values: np.ndarray) -> None:
        if name not in self._potentials:
            sent, size = self._spikes.get(name, (0, 0))
            self._spikes[name] = sent + int(np.count_nonzero(values)), size + values.size
            return
        squared, size, least, largest = self._values.get(name, (0.0, 0, np.inf, -np.inf))
        self._values[name] = (
            squared + float(np.square(values, dtype=np.float64).sum()), size + values.size,
            float(values.min(initial=least)), float(values.max(initial=largest)))

    @property
    def rates(self) -> dict[str, float]:
        """Share of neurons and steps with a spike."""
        return {name: sent / max(1, size) for name, (sent, size) in self._spikes.items()}

    @property
    def potentials(self) -> dict[str, Potential]:
        return {name: Potential(float(np.sqrt(squared / max(1, size))), least, largest)
                for name, (squared, size, least, largest) in self._values.items() if size}


def as_read(network: Network, readout: Mode) -> Network:
    """The network itself, or with a membrane at its end where that is to be read. Raises `Refused` for what it does not
    have."""
    if readout in ("spikes", "membrane"):
        ends = tail(network, readout)
        return ends.chip if readout == "membrane" else network
    return network


def as_kept(network: Network, readout: Mode) -> Network:
    """The network itself, or without the threshold of its last population where the membrane of that is to be read; no
    population is added. Raises `Refused` for what it does not have."""
    if readout == "spikes" or (readout == "membrane" and ends_in_spikes(network)):
        return as_read(network, readout)
    return network


def as_on(network: Network, chip: OnChip) -> Network:
    """The network with the readout that it was given on a chip, so that the same membrane can be compared."""
    if chip.host or chip.population(chip.output).spiking:
        return network
    added = chip.output not in network.nodes and last_population(network) is None
    taken = chip.output in network.populations and sends_spikes(network, chip.output)
    return as_read(network, "membrane") if added or taken else network
