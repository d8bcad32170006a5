"""The verbs load, check, simulate and compare. Each returns data; printing is the CLI's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import bundle
from .chip.features import features, readout_on, with_conventions
from .chip.fit import Fit, check_fit, fit_of, left_to_data, plan_of, with_rounding
from .chip.incoming import on_chip_alone
from .chip.profile import Profile, load_profile
from .chip.search import Found, mildest_of_weights, one_width, prunes
from .deployed import Deployed, deployed
from .errors import Problem, Refused, refuse
from .frontends import nir as nir_file
from .models import path_of, title_of
from .network.assumed import aloud
from .network.conventions import Overrides, overrides, shown
from .network.encoder import InputMode
from .network.graph import Network
from .network.readout import Mode, Tail
from .progress import Progress, silent
from .reading import Reader, Sums, as_on, as_read
from .results import Comparison, Simulation

if TYPE_CHECKING:
    from .chip.real import OnChip
    from .chip.schema import FanInPolicy
    from .data.given import Data, Stream
    from .data.spikes import SpikeData
    from .models import Model
    from .report.verify import Engine
    from .simulation.emulator import Overflow

ENGINES = ("float", "emulator", "lava")


def load(
    model: Model, *, preset: str | None = None, dt: float | None = None, reset: str | None = None,
    convention: Overrides = (),
) -> Network:
    """A network from a NIR file, a bundle (its compressed model) or a `nir.NIRGraph`; a `Network` is given back.

    preset: a platform's reading of the file. dt: seconds per time step. reset: "zero" or "subtract". convention: any
    others, as {"v_floor": False} or ["v_floor=false"]. Raises `Refused`.
    """
    path = path_of(model)
    if isinstance(model, Network):
        if preset or convention or dt is not None or reset is not None:
            raise refuse("a Network has its conventions, and preset, dt, reset and convention say how a file is read",
                         fix="Give them to load(), or dataclasses.replace(network, conventions=...)")
        return model
    if path is None:
        return nir_file.read(model, preset=preset, dt=dt, reset=reset, convention=convention)
    if path.is_dir() and not bundle.is_bundle(path):
        raise refuse("it is a folder, and no bundle", file=str(path),
                     fix="Give a .nir file, or a folder that `neurocompress deploy` wrote")
    if path.is_dir():
        path = bundle.require(path, bundle.MODEL)
    return nir_file.read(path, preset=preset, dt=dt, reset=reset, convention=convention)


def check(
    model: Model, target: str | Path, *, bits: int | Mapping[str, int] | None = None,
    sparsity: float | Mapping[str, float] | None = None, chips: int | None = None,
    fan_in_policy: FanInPolicy | None = None, input: InputMode = "auto", preset: str | None = None,
    dt: float | None = None, reset: str | None = None, convention: Overrides = (), readout: Mode = "auto",
    progress: Progress | None = None,
) -> Fit:
    """Whether a network fits a chip: no data, no torch. Raises `Refused` for input that can't be read.

    bits, sparsity: of all layers, or by patterns of their names, {"fc*": 0.75}. chips: instead of the profile's number.
    fan_in_policy: instead of the profile's, what becomes of neurons with too many synapses: "refuse", "prune", "split"
    or "join". input: how values reach the chip; with "host" the layers that the host computes are not counted,
    otherwise all are. preset, dt, reset, convention: as `load`. readout: where the class
    is read (see `network.ends.tail`).
    """
    tell = progress or silent
    tell("reading the model", 0, 0)
    network, profile, ends, said = _for_chip(
        target, load(model, preset=preset, dt=dt, reset=reset, convention=convention), input, readout)
    tell("placing the layers on cores", 0, 0)
    found = with_rounding(check_fit(network, profile, bits, sparsity, chips=chips, policy=fan_in_policy))
    return replace(found, notes=(*said, *found.notes), read_by=ends.by, host=tuple(ends.host))


def _for_chip(
    target: str | Path, network: Network, input: InputMode, readout: Mode
) -> tuple[Network, Profile, Tail, tuple[str, ...]]:
    """The part of the network that lies on the chip with the conventions that `deploy` gives it there, how it ends, and
    a sentence for each change."""
    profile = load_profile(target)
    loud = aloud(network.notes)
    network, alone = on_chip_alone(network, profile, input)
    ends = readout_on(network, profile, readout)
    network, said = with_conventions(ends.chip, features(profile), profile.title)
    return network, profile, ends, (*loud, *alone, *ends.said, *said)


def check_compressed(
    model: Model, target: str | Path, *, bits: int | Mapping[str, int] | None = None, chips: int | None = None,
    fan_in_policy: FanInPolicy | None = None, input: InputMode = "auto", preset: str | None = None,
    dt: float | None = None, reset: str | None = None, convention: Overrides = (), readout: Mode = "auto",
    progress: Progress | None = None,
) -> tuple[Fit, Found]:
    """The mildest compression with which a network fits a chip, estimated from its weights: no data, no torch.

    bits: for all layers; without it the chip's default and all that are fewer are tried. The fit is that of the
    compressed network; where nothing fits, that of the network as it is. Where its loss is beyond the bound by the
    weights alone, the verdict is left to deploy, which has data. input, preset, dt, reset, convention,
    readout: as `check`. Raises `Refused`.
    """
    tell = progress or silent
    tell("reading the model", 0, 0)
    network, profile, ends, said = _for_chip(
        target, load(model, preset=preset, dt=dt, reset=reset, convention=convention), input, readout)
    tell("searching the mildest compression that fits", 0, 0)
    bits = one_width(bits)
    plan = plan_of(network, profile, bits, chips=chips, policy=fan_in_policy)
    found = mildest_of_weights(plan, bits, fan_in_pruned=prunes(plan, fan_in_policy))
    fit = fit_of(plan if found.walls else found.plan)
    if found.loss and not found.walls:
        fit = left_to_data(fit, plan, found.said if found.beyond else "")
    return replace(fit, notes=(*said, *fit.notes), read_by=ends.by, host=tuple(ends.host)), found


def simulate(
    model: Model, data: Data, *, engine: str = "float", steps: int | None = None, preset: str | None = None,
    dt: float | None = None, reset: str | None = None, convention: Overrides = (), record: Iterable[str] = (),
    readout: Mode = "auto", progress: Progress | None = None, timeout_s: float = 3600.0,
) -> Simulation:
    """Runs a network, or a bundle, over spikes, or real values, (samples, timesteps, *input shape), whatever form they
    have (`neurocompress.data.given`).

    engine: "float" (a model or the compressed model of a bundle), "emulator" or "lava" (a bundle). steps: to which data
    of one time step, static pictures, are repeated.
    record: nodes beside the output, which is always given as "output"; an iterable of batches is gone through batch by
    batch, and its output is given only where "output" is recorded. readout: where the class of a model is read (see
    `network.ends.tail`); that of a bundle is fixed. timeout_s: limit on a Lava run, which takes all
    batches at once. Raises `Refused` for bad input or when Lava can't be run.
    """
    from .data.given import held, spikes_of

    if engine not in ENGINES:
        raise refuse(f"unknown engine '{engine}'", fix=f"Engines: {', '.join(ENGINES)}")
    if not isinstance(record, Iterable):
        raise refuse(f"record is {record!r}", fix="Give the names of nodes")
    path, names = path_of(model), tuple(dict.fromkeys([record] if isinstance(record, str) else record))
    tell = progress or silent
    if engine != "float" and (path is None or not bundle.is_bundle(path)):
        raise refuse(f"engine '{engine}' runs what was deployed, and this is no bundle", file=title_of(model),
                     fix="Run `neurocompress deploy MODEL --target NAME --out DIR` first and give DIR")
    if engine != "float" and (preset or dt is not None or reset or convention or readout != "auto"):
        raise refuse(f"a bundle's conventions are fixed; engine '{engine}' takes no --preset, --dt or --reset, and no "
                     "--convention or --readout",
                     fix="Leave them out, or deploy again with them")
    if engine == "float":
        from .data.spikes import SpikeData
        from .simulation.float import check_record
        from .simulation.float import simulate as simulate_float
        from .simulation.readings import with_other_readings

        tell("reading the model", 0, 0)
        network = as_read(load(model, preset=preset, dt=dt, reset=reset, convention=convention), readout)
        tell("reading the data", 0, 0)
        others = tuple(name for name in names if name != "output")
        check_record(network, others)
        reader = Reader.of(network, names)
        if path is not None and bundle.is_bundle(path) and (there := deployed(path)).real:
            return _with_notes(there, lambda note: _gathered(
                "float", lambda given, told: (there.in_float(network, note(given), others, told), {}),
                spikes_of(data, there.input_shape, analog=True, steps=steps), names, reader, network, tell,
                "simulating"))
        taken = spikes_of(data, network.shapes[network.input], analog=True, steps=steps)
        read = with_other_readings(network, taken.spikes if isinstance(taken, SpikeData) else None)
        return _gathered(
            "float", lambda given, told: (simulate_float(network, given.spikes, names, progress=told), {}),
            taken, names, reader, read, tell, "simulating")
    assert path is not None
    tell("reading the bundle", 0, 0)
    chip = _Chip(there := deployed(path), names)
    tell("reading the data", 0, 0)
    if engine == "emulator":
        return _with_notes(there, lambda note: _gathered(
            "emulator", lambda given, told: chip.emulated(note(given), told),
            spikes_of(data, there.input_shape, analog=True, steps=steps), names, chip.reader, there.integer, tell,
            "emulating"))
    return _with_notes(there, lambda note: _in_lava(
        path, chip, note(held(data, there.input_shape, analog=True, steps=steps)), tell, timeout_s))



def _with_notes(there: Deployed, run: Callable[[Callable[[SpikeData], SpikeData]], Simulation]) -> Simulation:
    """A run, and what became of its values on their way to the chip. run: passes all data through what it gets."""
    beyond = total = 0

    def note(data: SpikeData) -> SpikeData:
        nonlocal beyond, total
        beyond, total = beyond + there.clipped(data.spikes), total + data.spikes.size
        return data

    found = run(note)
    return replace(found, notes=(*there.said(beyond, total), *found.notes))


class _Chip:
    """A bundle's network, of which some nodes are seen."""

    def __init__(self, there: Deployed, names: tuple[str, ...]):
        self.there, self.names = there, names
        self.reader = Reader.on_chip(there.integer, there.whole, names)
        own = () if there.host is None else there.host.nodes
        self.others = tuple(name for name in names if name != "output" and name not in own)
        on_chip, whole = [p.name for p in there.integer.populations], there.whole
        needed = whole.needed_for([whole.output], on_chip) if whole is not None else ()
        #: Populations that are recorded: those asked for, and those that the host needs.
        self.heard = tuple(dict.fromkeys((*self.others, *(p for p in on_chip if p in needed))))

    def seen(self, given: SpikeData, sent: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What populations sent, and the output."""
        from .report.verify import in_model_units, output_of

        sent = in_model_units(self.there.integer, sent)
        output = output_of(self.there.integer, sent, given.spikes, self.there.whole)
        return self.there.on_host(given.spikes, self.names) | {n: sent[n] for n in self.others} | {"output": output}

    def emulated(
        self, given: SpikeData, told: Callable[[int], None]
    ) -> tuple[dict[str, np.ndarray], dict[str, Overflow]]:
        from .simulation.emulator import emulate

        found = emulate(self.there.integer, self.there.sent(given), self.heard, progress=told)
        return self.seen(given, found.spikes), found.overflow


def _in_lava(path: Path, chip: _Chip, given: SpikeData, tell: Progress, timeout_s: float) -> Simulation:
    """In Lava and in the emulator, and where they differ. A program with a graded input rounds real values itself."""
    from .backends import backend

    network, names = chip.there.integer, chip.names
    emulated = _gathered("lava", chip.emulated, given, names, chip.reader, network, tell, "emulating")
    tell("starting Lava and running it", 0, 0)
    run = backend("lava").run(
        bundle.require(path, "lava"), given.spikes if network.graded_input is not None else chip.there.sent(given),
        chip.heard, timeout_s=timeout_s)
    lava = chip.seen(given, run.spikes)
    mismatches = {name: int(np.count_nonzero(lava[name] != emulated.arrays[name])) for name in lava}
    found = _gathered("lava", lambda data, told: (lava, emulated.overflow), given, names, chip.reader, network,
                      tell, "")
    return replace(found, mismatches=mismatches, seconds_per_step=run.seconds_per_step)


#: Arrays by node of some samples, and the overflow by population; it is told the samples done.
Ran = Callable[["SpikeData", Callable[[int], None]], "tuple[dict[str, np.ndarray], dict[str, Overflow]]"]


def _gathered(
    engine: str, run: Ran, given: SpikeData | Stream, names: tuple[str, ...], reader: Reader,
    network: Network | OnChip, tell: Progress, stage: str,
) -> Simulation:
    """Runs data, or batch by batch a stream of it, and keeps what was asked for."""
    from .data.axes import assumed
    from .data.spikes import SpikeData, refuse_labels
    from .network.titles import all_titles
    from .simulation.emulator import Overflow

    kept = tuple(dict.fromkeys((*names, "output"))) if isinstance(given, SpikeData) else names
    parts: dict[str, list[np.ndarray]] = {name: [] for name in kept}
    classes, labels = [], []
    sums = Sums(reader.potentials)
    overflow: dict[str, Overflow] = {}
    samples = steps = 0
    total_samples = given.samples if isinstance(given, SpikeData) else 0
    for batch in [given] if isinstance(given, SpikeData) else given:
        refuse_labels(batch, reader.outputs)
        arrays, more = run(batch, lambda done, before=samples: tell(  # type: ignore[misc]
            stage, before + done, total_samples))
        classes.append(reader.score(arrays["output"]).argmax(axis=1))
        if batch.labels is not None:
            labels.append(batch.labels)
        for name in dict.fromkeys((*names, "output")):
            sums.add(name, arrays[name])
        for name in kept:
            parts[name].append(arrays[name])
        Overflow.gather(overflow, more)
        samples, steps = samples + batch.samples, batch.steps
    said = () if "output" in kept else ('the output of a stream of batches is not kept; record "output" to have it',)
    axes = assumed(samples, steps, batch.input_shape, bool(labels))
    found = np.concatenate(classes)
    return Simulation(
        engine, {name: np.concatenate(several) if len(several) > 1 else several[0] for name, several in parts.items()},
        found, 100.0 * float(np.mean(found == np.concatenate(labels))) if labels else None, overflow, None, None,
        (*network.notes, *axes, *said), samples, steps, sums.rates, all_titles(network), sums.potentials, reader.by)


def compare(
    a: Model, b: Model, data: Data, *, preset: str | None = None, dt: float | None = None, reset: str | None = None,
    convention: Overrides = (), readout: Mode = "auto", steps: int | None = None, progress: Progress | None = None,
) -> Comparison:
    """A model (float simulator) or bundle (emulator) against another, over the same spikes, batch by batch where they
    come in batches (`neurocompress.data.given`).

    preset, dt, reset, convention: how models are read, as `load`. Without any, a model beside a bundle is read with
    those that the bundle was deployed with, so that both mean the same network. readout, steps: as `simulate`. Raises
    `Refused`.
    """
    from .data.given import spikes_of
    from .data.spikes import SpikeData, refuse_labels
    from .report.verify import verify

    asked = {"preset": preset, "convention": overrides(convention, preset=preset, dt=dt, reset=reset)}
    tell = progress or silent
    tell("reading the models", 0, 0)
    first, second = _runnable(a, b, asked, readout), _runnable(b, a, asked, readout)
    if first.input_shape != second.input_shape:
        raise Refused(Problem(
            f"A takes inputs of shape {first.input_shape}, B of {second.input_shape}",
            fix="Compare networks for the same data"))
    both = {n: int(np.prod(s)) for n, s in first.shapes.items() if second.shapes.get(n) == s}
    tell("reading the data", 0, 0)
    given = spikes_of(data, first.input_shape, analog=True, steps=steps)
    notes = [*first.notes, *second.notes]
    if isinstance(given, SpikeData):
        notes = [*_notes_on(first, given.spikes), *_notes_on(second, given.spikes)]
    labels: list[np.ndarray] = []
    beyond, total = [0, 0], 0

    def batches() -> Iterator[np.ndarray]:
        nonlocal total
        for batch in [given] if isinstance(given, SpikeData) else given:
            total += batch.spikes.size
            for k, side in enumerate((first, second)):
                refuse_labels(batch, side.outputs)
                beyond[k] += 0 if side.there is None else side.there.clipped(batch.spikes)
            if batch.labels is not None:
                labels.append(batch.labels)
            yield batch.spikes

    count = given.samples if isinstance(given, SpikeData) else 0
    runs, changes = verify(
        {"a": first.engine, "b": second.engine}, (("a", "b"),), batches(), both, first.input,
        progress=lambda done: tell("comparing", done, count))
    accuracy = None
    if labels:
        accuracy = tuple(100.0 * float(np.mean(runs[k].classes == np.concatenate(labels))) for k in "ab")
    agreement = 100.0 * float(np.mean(runs["a"].classes == runs["b"].classes))
    for side, clipped in zip((first, second), beyond, strict=True):
        notes += () if side.there is None else side.there.said(clipped, total)
    return Comparison(title_of(a), title_of(b), len(runs["a"].scores), accuracy, agreement,  # type: ignore[arg-type]
                      changes["a", "b"], (runs["a"], runs["b"]), tuple(dict.fromkeys(notes)),
                      first.titles | second.titles)


@dataclass(frozen=True, eq=False)
class _Runnable:
    engine: Engine
    shapes: dict[str, tuple[int, ...]]  # of its populations
    input: str
    input_shape: tuple[int, ...]
    outputs: int
    notes: tuple[str, ...]
    titles: dict[str, str]
    network: Network | None = None
    there: Deployed | None = None


def _notes_on(side: _Runnable, spikes: np.ndarray) -> tuple[str, ...]:
    """Its notes, with what another reading of a model would change on the data."""
    from .simulation.readings import with_other_readings

    if side.network is None:
        return side.notes
    return (side.notes[0], *with_other_readings(side.network, spikes).notes)


def _runnable(model: Model, beside: Model, asked: Mapping[str, Any], readout: Mode) -> _Runnable:
    """A bundle as its emulator, a model as its float simulation, read as the user asks or as the other one was."""
    from .network.titles import all_titles
    from .report.verify import deployed_engine, float_engine

    path, other = path_of(model), path_of(beside)
    if path is not None and bundle.is_bundle(path):
        there = deployed(path)
        shapes = {p.name: p.shape for p in there.integer.populations}
        if there.host is not None:
            shapes[there.integer.input] = there.integer.input_shape
        return _Runnable(deployed_engine(there), shapes, there.integer.input, there.input_shape,
                         Reader.on_chip(there.integer, there.whole, ()).outputs,
                         (f"{path}: emulated in the chip's integers",), all_titles(there.integer), there=there)
    reading, how = {k: v for k, v in asked.items() if v}, "read with"
    if isinstance(model, Network):
        reading = {}  # it was read already
    elif not reading and other is not None and bundle.is_bundle(other):
        reading, how = _reading_of(other), f"read as {other} was:"
    network = as_read(load(model, **reading), readout)
    if readout == "auto" and other is not None and bundle.is_bundle(other):
        network = as_on(network, deployed(other).integer)
    named = {k: v for k, v in reading.items() if k != "convention"} | dict(reading.get("convention", {}))
    said = f", {how} " + ", ".join(f"{k} {shown(v)}" for k, v in named.items()) if named else ""
    shapes = {n: network.shapes[n] for n in network.populations}
    return _Runnable(float_engine(network), shapes, network.input, network.shapes[network.input],
                     Reader.of(network, ()).outputs,
                     (f"{title_of(model)}: simulated in floating point{said}", *network.notes),
                     all_titles(network), network)


def _reading_of(folder: Path) -> dict[str, Any]:
    """preset, dt, reset and convention with which the model of a bundle was read; what was not given is left out."""
    options = bundle.read_report(folder).get("options")
    given = options if isinstance(options, dict) else {}
    found = {name: given[name] for name in ("preset", "dt", "reset", "convention") if given.get(name)}
    if "convention" not in given and found.get("preset") == "snntorch":
        found["preset"] = "snntorch-nir"  # what this preset was when such bundles were written
    return found
