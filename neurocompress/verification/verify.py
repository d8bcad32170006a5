"""What compression and the chip's arithmetic change: the same samples through every form of a network."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..chip.arithmetic import Analog
from ..chip.on_chip.integer_network import IntegerNetwork
from ..chip.on_chip.real_network import OnChip, RealNetwork
from ..data.spikes import SpikeData
from ..emulation.emulator import Overflow, emulate
from ..emulation.mismatch import CHIPS, SYNAPSES_MAX, monte_carlo, samples_seen, synapse_count
from ..network.graph import Network
from ..network.nodes import Array
from ..network.readout import read, scores, sends_spikes
from ..progress import Progress
from ..shown import listed
from ..simulation.float import simulate
from .deployed import Deployed
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
    """One form of a network over all samples. scores: (samples, classes), what is read of the outputs (their sum over
    time, or what `network.readout.read` reads). activities: by population, the input included."""

    scores: np.ndarray
    activities: dict[str, Activity]

    def __repr__(self) -> str:
        return listed(f"Run of {len(self.scores):,} samples", (
            f"{name}: {a.firing_rate:.4f} spikes per neuron and step, {a.dead:,} of {a.events.size:,} never spiked"
            for name, a in self.activities.items()))

    @property
    def classes(self) -> np.ndarray:
        """Predicted class of each sample: the output that summed highest (the first of equals)."""
        found: np.ndarray = self.scores.argmax(axis=1)
        return found


@dataclass(frozen=True)
class Drift:
    """How far a membrane's potential is from what it was, in the model's units over all samples, steps and neurons: the
    root of the mean square and the largest of what differs, and the root of the mean square before."""

    rms: float
    largest: float
    rms_before: float


@dataclass(frozen=True)
class Change:
    """One population before and after. rates in spikes per neuron and step; van_rossum is the mean distance
    per neuron and sample (kernel of VAN_ROSSUM_TAU steps, the first VAN_ROSSUM_SAMPLES samples); earth_movers compares
    the distributions of rates. membrane: of a population that never spikes; all that is of spikes is None then."""

    population: str
    rate_before: float | None
    rate_after: float | None
    dead_before: int | None
    dead_after: int | None
    van_rossum: float | None
    earth_movers: float | None
    mismatches: int | None
    membrane: Drift | None = None


@dataclass(frozen=True, eq=False)
class Engine:
    """One form of a network, ready to run.

    run: spikes (samples, timesteps, *input shape) to what each population sends and "output". score: an output to
    what the class is the largest of, float64 (samples, classes). potentials: populations that send their potential.
    """

    run: Callable[[np.ndarray], dict[str, np.ndarray]]
    score: Callable[[np.ndarray], Array]
    potentials: frozenset[str] = frozenset()


def float_engine(network: Network, device: str = "cpu") -> Engine:
    """All populations' outputs of a float network."""
    names = network.populations
    return Engine(lambda given: simulate(network, given, names, device=device), partial(read, network),
                  frozenset(p for p in names if not sends_spikes(network, p)))


def emulator_engine(
    network: OnChip, overflow: dict[str, Overflow], device: str = "cpu", whole: Network | None = None
) -> Engine:
    """What all populations send of a network on its chip; `overflow` is added to. whole: with what the host computes,
    where it does; potentials are in the model's units."""
    names = [p.name for p in network.populations]

    def run(given: np.ndarray) -> dict[str, np.ndarray]:
        found = emulate(network, given, names, device=device)
        Overflow.gather(overflow, found.overflow)
        sent = in_model_units(network, found.spikes)
        return sent | {"output": output_of(network, sent, given, whole)}

    return Engine(run, score_of(network, whole), frozenset(p.name for p in network.populations if not p.spiking))


def in_model_units(network: OnChip, sent: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What populations sent, with potentials in the model's units, float64."""
    if not isinstance(network, IntegerNetwork):
        return sent  # they are already
    units = {p.name: p.unit for p in network.populations if not p.spiking}
    return {name: values * np.asarray(units[name]) if name in units else values for name, values in sent.items()}


def output_of(
    network: OnChip, sent: dict[str, np.ndarray], given: np.ndarray, whole: Network | None
) -> np.ndarray:
    """The output: of the population that is read, or what the host makes of what populations sent."""
    if not network.host or whole is None:
        return sent[network.output]
    late = whole.conventions.output_delay  # a population sends late by it, and its clock here does not count it
    signals = {name: delayed_by(values, late) for name, values in sent.items() if name in whole.populations}
    return simulate(whole, given, given=signals)["output"]


def delayed_by(values: np.ndarray, steps: int) -> np.ndarray:
    """(samples, timesteps, ...) later by so many steps, zeros before."""
    if not steps:
        return values
    return np.concatenate([np.zeros_like(values[:, :steps]), values[:, :-steps]], axis=1)


def score_of(network: OnChip, whole: Network | None) -> Callable[[np.ndarray], Array]:
    """How the class is read of an output."""
    if network.host and whole is not None:
        return partial(read, whole)
    return partial(scores, reading=network.reading)


def deployed_engine(there: Deployed) -> Engine:
    """All populations' spikes of a bundle for values as its data hold them; those that the host sends included."""
    emulated = emulator_engine(there.integer, {})

    def run(values: np.ndarray) -> dict[str, np.ndarray]:
        sent = there.sent(SpikeData(values, None, "the data"))
        found = emulated.run(sent)
        output = output_of(there.integer, found, values, there.whole)
        return {there.integer.input: sent} | found | {"output": output}

    return Engine(run, score_of(there.integer, there.whole), emulated.potentials)


@dataclass(frozen=True, eq=False)
class VirtualChips:
    """What a Monte Carlo run over virtual analog chips gave. samples: indices of those that every chip saw.
    classes: predicted, (chips, samples)."""

    samples: np.ndarray
    classes: np.ndarray


def virtual_chips(
    network: OnChip, spikes: np.ndarray, calibrated: tuple[int, ...] | None, seed: int,
    tell: Progress, whole: Network | None = None,
) -> VirtualChips | None:
    """Virtual chips over samples that did not calibrate (over any where all did). None for a chip without mismatch,
    or with too many synapses. whole: as in `emulator_engine`."""
    if not isinstance(network, RealNetwork) or not isinstance(network.arithmetic, Analog):
        return None
    if synapse_count(network) > SYNAPSES_MAX:
        return None
    rest = np.setdiff1d(np.arange(len(spikes)), np.array(calibrated or (), dtype=int))
    samples = (rest if len(rest) else np.arange(len(spikes)))[:samples_seen(network, spikes.shape[1])]
    score, given = score_of(network, whole), spikes[samples]
    found = monte_carlo(network, given, seed=seed, progress=lambda done: tell("drawing virtual chips", done, CHIPS),
                        read=lambda sent: score(output_of(network, sent, given, whole)))
    return VirtualChips(samples, found.argmax(axis=2))


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
    found_scores: dict[str, list[Array]] = {name: [] for name in engines}
    drifts: dict[tuple[str, str, str], _Drifting] = {}
    seen: dict[str, dict[str, Activity]] = {name: {} for name in engines}
    distances: dict[tuple[str, str, str], float] = {}
    mismatches: dict[tuple[str, str, str], int] = {}
    done = 0
    batches = [spikes] if isinstance(spikes, np.ndarray) else spikes
    for piece in (batch[part] for batch in batches for part in chunks(batch, sum(populations.values()) * len(engines))):
        messages = piece if sent is None else sent(piece)
        inputs = {name: piece if name in real else messages for name in engines}
        given = {id(values): activity(values) for values in inputs.values()}
        outputs = {name: engine.run(inputs[name]) for name, engine in engines.items()}
        for name, found in outputs.items():
            found_scores[name].append(engines[name].score(found["output"]))
            heard = {input_name: given[id(inputs[name])]} | {p: activity(found[p]) for p in populations}
            for population, more in heard.items():
                seen[name][population] = seen[name][population] + more if population in seen[name] else more
        for a, b in pairs:
            for p in populations:
                x, y = outputs[a][p], outputs[b][p]
                key = (a, b, p)
                if p in engines[a].potentials | engines[b].potentials:
                    drifts.setdefault(key, _Drifting()).add(x, y)
                    continue
                some = max(0, VAN_ROSSUM_SAMPLES - done)
                more_distance = float(van_rossum(x[:some], y[:some], VAN_ROSSUM_TAU).sum()) if some else 0.0
                distances[key] = distances.get(key, 0.0) + more_distance
                mismatches[key] = mismatches.get(key, 0) + int(np.count_nonzero(x != y))
        done += len(piece)
        if progress:
            progress(done)
    runs = {name: Run(np.concatenate(found_scores[name]), seen[name]) for name in engines}

    def change(a: str, b: str, p: str, n: int) -> Change:
        if (a, b, p) in drifts:
            return Change(p, None, None, None, None, None, None, None, drifts[a, b, p].found)
        before, after = runs[a].activities[p], runs[b].activities[p]
        distance = distances[a, b, p] / (n * min(done, VAN_ROSSUM_SAMPLES))
        return Change(p, before.firing_rate, after.firing_rate, before.dead, after.dead, distance,
                      earth_movers(before.rates, after.rates), mismatches[a, b, p])

    return runs, {(a, b): tuple(change(a, b, p, n) for p, n in populations.items()) for a, b in pairs}


class _Drifting:
    """A `Drift` over several chunks of samples."""

    def __init__(self) -> None:
        self.squared = self.before = self.largest = 0.0
        self.values = 0

    def add(self, x: np.ndarray, y: np.ndarray) -> None:
        before = x.astype(np.float64)
        difference = np.abs(before - y)
        self.squared += float(np.square(difference).sum())
        self.before += float(np.square(before).sum())
        self.largest = max(self.largest, float(difference.max(initial=0.0)))
        self.values += x.size

    @property
    def found(self) -> Drift:
        count = max(1, self.values)
        return Drift(float(np.sqrt(self.squared / count)), self.largest, float(np.sqrt(self.before / count)))
