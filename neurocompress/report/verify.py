"""What compression and the chip's arithmetic change: the same samples through every form of a network."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ..chip.real import Analog, OnChip, RealNetwork
from ..data.spikes import SpikeData
from ..deployed import Deployed
from ..network.graph import Network
from ..simulation.analog import CHIPS, SYNAPSES_MAX, monte_carlo, samples_seen, synapse_count
from ..simulation.emulator import Overflow, emulate
from ..simulation.float import simulate
from .distance import earth_movers, van_rossum
from .operations import Activity, activity

#: Spikes of all populations that are held at once, in bytes.
CHUNK_BYTES = 768 * 2**20
#: Time constant in steps of the Van Rossum kernel with which spike trains are compared.
VAN_ROSSUM_TAU = 10.0
#: Samples, from the first on, whose spike trains are compared by that distance; everything else counts all samples.
VAN_ROSSUM_SAMPLES = 64


@dataclass(frozen=True, eq=False)
class Run:
    """One form of a network over all samples. scores: (samples, classes), outputs summed over time.
    activities: by population, the input included."""

    scores: np.ndarray
    activities: dict[str, Activity]

    @property
    def classes(self) -> np.ndarray:
        """Predicted class of each sample: the output that summed highest (the first of equals)."""
        found: np.ndarray = self.scores.argmax(axis=1)
        return found


@dataclass(frozen=True)
class Change:
    """One population before and after. rates in spikes per neuron and step; van_rossum is the mean distance
    per neuron and sample (kernel of VAN_ROSSUM_TAU steps, the first VAN_ROSSUM_SAMPLES samples); earth_movers compares
    the distributions of rates."""

    population: str
    rate_before: float
    rate_after: float
    dead_before: int
    dead_after: int
    van_rossum: float
    earth_movers: float
    mismatches: int


Engine = Callable[[np.ndarray], dict[str, np.ndarray]]


def float_engine(network: Network, device: str = "cpu") -> Engine:
    """All populations' outputs of a float network for a chunk of samples."""
    names = network.populations
    return lambda spikes: simulate(network, spikes, names, device=device)


def emulator_engine(network: OnChip, overflow: dict[str, Overflow], device: str = "cpu") -> Engine:
    """All populations' spikes of a network on its chip; `overflow` is added to."""
    names = [p.name for p in network.populations]

    def run(spikes: np.ndarray) -> dict[str, np.ndarray]:
        found = emulate(network, spikes, names, device=device)
        for name, more in found.overflow.items():
            total = overflow.setdefault(name, Overflow())
            total.u_wrapped += more.u_wrapped
            total.v_clipped += more.v_clipped
        return found.spikes | {"output": found.spikes[network.output]}

    return run


def deployed_engine(there: Deployed) -> Engine:
    """All populations' spikes of a bundle for values as its data hold them; those that the host sends included."""
    emulated = emulator_engine(there.integer, {})

    def run(values: np.ndarray) -> dict[str, np.ndarray]:
        sent = there.sent(SpikeData(values, None, "the data"))
        return {there.integer.input: sent} | emulated(sent)

    return run


@dataclass(frozen=True, eq=False)
class VirtualChips:
    """What a Monte Carlo run over virtual analog chips gave. samples: indices of those that every chip saw.
    classes: predicted, (chips, samples)."""

    samples: np.ndarray
    classes: np.ndarray


def virtual_chips(
    network: OnChip, spikes: np.ndarray, calibrated: tuple[int, ...] | None, seed: int,
    tell: Callable[[str, int, int], None],
) -> VirtualChips | None:
    """Virtual chips over samples that did not calibrate (over any where all did). None for a chip without mismatch,
    or with too many synapses."""
    if not isinstance(network, RealNetwork) or not isinstance(network.arithmetic, Analog):
        return None
    if synapse_count(network) > SYNAPSES_MAX:
        return None
    rest = np.setdiff1d(np.arange(len(spikes)), np.array(calibrated or (), dtype=int))
    samples = (rest if len(rest) else np.arange(len(spikes)))[:samples_seen(network, spikes.shape[1])]
    scores = monte_carlo(network, spikes[samples], seed=seed,
                         progress=lambda done: tell("drawing virtual chips", done, CHIPS))
    return VirtualChips(samples, scores.argmax(axis=2))


def chunks(spikes: np.ndarray, neurons: int) -> Iterator[slice]:
    """Slices of samples whose spikes of `neurons` neurons stay below CHUNK_BYTES, four bytes each."""
    size = max(1, CHUNK_BYTES // (4 * max(1, neurons) * max(1, spikes.shape[1])))
    for start in range(0, len(spikes), size):
        yield slice(start, min(start + size, len(spikes)))


def verify(
    engines: dict[str, Engine], pairs: tuple[tuple[str, str], ...], spikes: np.ndarray | Iterable[np.ndarray],
    populations: dict[str, int], input_name: str, progress: Callable[[int], None] | None = None, *,
    sent: Callable[[np.ndarray], np.ndarray] | None = None, real: Collection[str] = (),
) -> tuple[dict[str, Run], dict[tuple[str, str], tuple[Change, ...]]]:
    """Runs every engine over spikes (samples, timesteps, *input shape), or batches of them, chunk by chunk.

    pairs: engines whose populations are compared. populations: name -> neurons of those to compare. sent: what
    becomes of the values on their way to a chip; the engines named in `real` take them as they are.
    progress is told the samples done.
    """
    scores: dict[str, list[np.ndarray]] = {name: [] for name in engines}
    seen: dict[str, dict[str, Activity]] = {name: {} for name in engines}
    distances: dict[tuple[str, str, str], float] = {}
    mismatches: dict[tuple[str, str, str], int] = {}
    done = 0
    batches = [spikes] if isinstance(spikes, np.ndarray) else spikes
    for piece in (batch[part] for batch in batches for part in chunks(batch, sum(populations.values()) * len(engines))):
        messages = piece if sent is None else sent(piece)
        inputs = {name: piece if name in real else messages for name in engines}
        given = {id(values): activity(values) for values in inputs.values()}
        outputs = {name: run(inputs[name]) for name, run in engines.items()}
        for name, found in outputs.items():
            output = found["output"]
            scores[name].append(output.reshape(*output.shape[:2], -1).sum(axis=1, dtype=np.float64))
            heard = {input_name: given[id(inputs[name])]} | {p: activity(found[p]) for p in populations}
            for population, more in heard.items():
                seen[name][population] = seen[name][population] + more if population in seen[name] else more
        for a, b in pairs:
            for p in populations:
                x, y = outputs[a][p], outputs[b][p]
                key = (a, b, p)
                some = max(0, VAN_ROSSUM_SAMPLES - done)
                more_distance = float(van_rossum(x[:some], y[:some], VAN_ROSSUM_TAU).sum()) if some else 0.0
                distances[key] = distances.get(key, 0.0) + more_distance
                mismatches[key] = mismatches.get(key, 0) + int(np.count_nonzero(x != y))
        done += len(piece)
        if progress:
            progress(done)
    runs = {name: Run(np.concatenate(scores[name]), seen[name]) for name in engines}
    changes = {
        (a, b): tuple(
            Change(p, before.firing_rate, after.firing_rate, before.dead, after.dead,
                   distances[a, b, p] / (n * min(done, VAN_ROSSUM_SAMPLES)),
                   earth_movers(before.rates, after.rates), mismatches[a, b, p])
            for p, n in populations.items()
            for before, after in [(runs[a].activities[p], runs[b].activities[p])])
        for a, b in pairs
    }
    return runs, changes
