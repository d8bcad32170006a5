"""By how much one reading of a network differs from another, on a few samples of data: spikes and classes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..network.assumed import other_reading, sentence
from ..network.graph import Network
from ..network.nodes import Neuron
from ..network.readout import read
from .float import simulate

#: Samples and time steps at most that are run for it: it is a warning, and costs a moment.
SAMPLES, STEPS = 16, 200


@dataclass(frozen=True)
class Difference:
    """Of `samples` samples of `steps` steps: spikes of `population` that differ of those in the first reading, and
    samples that get another class."""

    samples: int
    steps: int
    population: str
    differing: int
    spikes: int
    classes: int

    def __str__(self) -> str:
        return (f"{self.differing:,} spikes of '{self.population}' differ (it sends {self.spikes:,}) and "
                f"{self.classes} of {self.samples} samples get another class, over {self.steps} steps")


def difference(network: Network, other: Network, spikes: np.ndarray) -> Difference:
    """How another reading of a network differs from it in the last population that spikes.

    spikes: (samples, timesteps, *input shape), of which the first SAMPLES and STEPS are run.
    """
    few = spikes[:SAMPLES, :STEPS]
    spiking = [n for n in network.populations if not isinstance(node := network.nodes[n], Neuron) or node.spiking]
    watched = spiking[-1:] if spiking else []
    a, b = (simulate(side, few, watched) for side in (network, other))
    name = watched[0] if watched else "output"
    classes = [read(side, found["output"]).argmax(axis=1) for side, found in ((network, a), (other, b))]
    return Difference(len(few), few.shape[1], name, int(np.abs(a[name] - b[name]).sum()), int(a[name].sum()),
                      int(np.count_nonzero(classes[0] != classes[1])))


def with_other_readings(network: Network, spikes: np.ndarray | None) -> Network:
    """The network, its loud notes completed by what the other reading would change on these data."""
    if spikes is None or not len(spikes):
        return network
    shortest = min((float(tau.min()) for node in network.nodes.values() if isinstance(node, Neuron)
                    for tau in node.time_constants), default=np.inf)
    notes = list(network.notes)
    for name in network.assumed:
        static = sentence(name, network.conventions)
        if static in notes:
            other, given = other_reading(network, name, shortest)
            notes[notes.index(static)] = f"{static} With {given} {difference(network, other, spikes)}."
    return replace(network, notes=tuple(notes))
