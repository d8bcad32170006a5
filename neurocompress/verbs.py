"""The verbs load, check, simulate and compare. Each returns data; printing is the CLI's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import bundle
from .chip.features import features, with_conventions
from .chip.fit import Fit, check_fit, fit_of, plan_of
from .chip.profile import Profile, load_profile
from .chip.search import Found, mildest_of_weights, one_width, prunes
from .errors import Problem, Refused, refuse
from .frontends import nir as nir_file
from .models import path_of, title_of
from .network.conventions import Overrides, overrides, shown
from .network.graph import Network

if TYPE_CHECKING:
    from .chip.real import OnChip
    from .chip.schema import FanInPolicy
    from .data.given import Data, Stream
    from .data.spikes import SpikeData
    from .models import Model
    from .report.verify import Change, Run
    from .simulation.emulator import Overflow

ENGINES = ("float", "emulator", "lava")

Progress = Callable[[str, int, int], None]


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
    fan_in_policy: FanInPolicy | None = None, preset: str | None = None, dt: float | None = None,
    reset: str | None = None, convention: Overrides = (),
) -> Fit:
    """Whether a network fits a chip: no data, no torch. Raises `Refused` for input that can't be read.

    bits, sparsity: of all layers, or by patterns of their names, {"fc*": 0.75}. chips: instead of the profile's number.
    fan_in_policy: instead of the profile's, what becomes of neurons with too many synapses: "refuse", "prune", "split"
    or "join". preset, dt, reset, convention: as `load`.
    """
    network, profile, said = _for_chip(
        target, load(model, preset=preset, dt=dt, reset=reset, convention=convention))
    found = check_fit(network, profile, bits, sparsity, chips=chips, policy=fan_in_policy)
    return replace(found, notes=(*said, *found.notes))


def _for_chip(target: str | Path, network: Network) -> tuple[Network, Profile, tuple[str, ...]]:
    """The network with the conventions that `deploy` gives it on the chip, and a sentence for each that it changes."""
    profile = load_profile(target)
    network, said = with_conventions(network, features(profile), profile.title)
    return network, profile, said


def check_compressed(
    model: Model, target: str | Path, *, bits: int | Mapping[str, int] | None = None, chips: int | None = None,
    fan_in_policy: FanInPolicy | None = None, preset: str | None = None, dt: float | None = None,
    reset: str | None = None, convention: Overrides = (),
) -> tuple[Fit, Found]:
    """The mildest compression with which a network fits a chip, estimated from its weights: no data, no torch.

    bits: for all layers; without it the chip's default and all that are fewer are tried. The fit is that of the
    compressed network; where nothing fits, that of the network as it is. preset, dt, reset, convention: as `load`.
    Raises `Refused`.
    """
    network, profile, said = _for_chip(
        target, load(model, preset=preset, dt=dt, reset=reset, convention=convention))
    bits = one_width(bits)
    plan = plan_of(network, profile, bits, chips=chips, policy=fan_in_policy)
    found = mildest_of_weights(plan, bits, fan_in_pruned=prunes(plan, fan_in_policy))
    fit = fit_of(found.plan if found.fits else plan)
    return replace(fit, notes=(*said, *fit.notes)), found


@dataclass(frozen=True, eq=False)
class Simulation:
    """arrays: "output" and every recorded node, (samples, timesteps, *shape); of a stream of batches only what was
    recorded. rates: of the output and every recorded node, share of neurons and steps with a value other than 0.
    accuracy: percent, None without labels.
    overflow: of the emulator, by population. mismatches: Lava against the emulator, by population, when Lava ran.
    seconds_per_step: of Lava."""

    engine: str
    arrays: dict[str, np.ndarray]
    classes: np.ndarray
    accuracy: float | None
    overflow: dict[str, Overflow]
    mismatches: dict[str, int] | None
    seconds_per_step: float | None
    notes: tuple[str, ...]
    samples: int
    steps: int
    rates: dict[str, float]


def simulate(
    model: Model, data: Data, *, engine: str = "float", preset: str | None = None,
    dt: float | None = None, reset: str | None = None, convention: Overrides = (), record: Iterable[str] = (),
    progress: Progress | None = None, timeout_s: float = 3600.0,
) -> Simulation:
    """Runs a network, or a bundle, over spikes (samples, timesteps, *input shape), whatever form they have
    (`neurocompress.data.given`).

    engine: "float" (a model or the compressed model of a bundle), "emulator" or "lava" (a bundle).
    record: nodes beside the output, which is always given as "output"; an iterable of batches is gone through batch by
    batch, and its output is given only where "output" is recorded. timeout_s: limit on a Lava run, which takes all
    batches at once. Raises `Refused` for bad input or when Lava can't be run.
    """
    from .data.given import held, spikes_of

    if engine not in ENGINES:
        raise refuse(f"unknown engine '{engine}'", fix=f"Engines: {', '.join(ENGINES)}")
    path, names = path_of(model), tuple(dict.fromkeys([record] if isinstance(record, str) else record))
    tell = progress or (lambda stage, done, total: None)
    if engine != "float" and (path is None or not bundle.is_bundle(path)):
        raise refuse(f"engine '{engine}' runs what was deployed, and this is no bundle", file=title_of(model),
                     fix="Run `neurocompress deploy MODEL --target NAME --out DIR` first and give DIR")
    if engine != "float" and (preset or dt is not None or reset or convention):
        raise refuse(f"a bundle's conventions are fixed; engine '{engine}' takes no --preset, --dt or --reset, and no "
                     "--convention",
                     fix="Leave them out, or deploy again with them")
    if engine == "float":
        from .simulation.float import check_record
        from .simulation.float import simulate as simulate_float

        network = load(model, preset=preset, dt=dt, reset=reset, convention=convention)
        check_record(network, (name for name in names if name != "output"))
        return _gathered(
            "float", lambda given, told: (simulate_float(network, given.spikes, names, progress=told), {}),
            spikes_of(data, network.shapes[network.input], analog=True), names, network.notes, tell, "simulating")
    assert path is not None
    integer = _integers(path)
    if engine == "emulator":
        return _gathered("emulator", lambda given, told: _emulated(integer, given, names, told),
                         spikes_of(data, integer.input_shape), names, integer.notes, tell, "emulating")
    return _in_lava(path, integer, held(data, integer.input_shape), names, tell, timeout_s)


def _emulated(
    network: OnChip, given: SpikeData, names: tuple[str, ...], told: Callable[[int], None]
) -> tuple[dict[str, np.ndarray], dict[str, Overflow]]:
    from .simulation.emulator import emulate

    _refuse_graded(network, given)
    others = [name for name in names if name != "output"]
    found = emulate(network, given.spikes, others, progress=told)
    return {n: found.spikes[n] for n in others} | {"output": found.spikes[network.output]}, found.overflow


def _in_lava(
    path: Path, network: OnChip, given: SpikeData, names: tuple[str, ...], tell: Progress, timeout_s: float
) -> Simulation:
    """In Lava and in the emulator, and where they differ."""
    from .backends import backend

    emulated = _gathered("lava", lambda data, told: _emulated(network, data, names, told), given, names, network.notes,
                         tell, "emulating")
    tell("running Lava", 0, 0)
    others = [name for name in names if name != "output"]
    run = backend("lava").run(bundle.require(path, "lava"), given.spikes, others, timeout_s=timeout_s)
    lava = {name: run.spikes[name] for name in others} | {"output": run.spikes[network.output]}
    mismatches = {name: int(np.count_nonzero(lava[name] != emulated.arrays[name])) for name in lava}
    found = _gathered("lava", lambda data, told: (lava, emulated.overflow), given, names, network.notes, tell, "")
    return replace(found, mismatches=mismatches, seconds_per_step=run.seconds_per_step)


#: Arrays by node of some samples, and the overflow by population; it is told the samples done.
Ran = Callable[["SpikeData", Callable[[int], None]], "tuple[dict[str, np.ndarray], dict[str, Overflow]]"]


def _gathered(
    engine: str, run: Ran, given: SpikeData | Stream, names: tuple[str, ...], notes: tuple[str, ...], tell: Progress,
    stage: str,
) -> Simulation:
    """Runs data, or batch by batch a stream of it, and keeps what was asked for."""
    from .data.spikes import SpikeData
    from .simulation.emulator import Overflow

    kept = tuple(dict.fromkeys((*names, "output"))) if isinstance(given, SpikeData) else names
    parts: dict[str, list[np.ndarray]] = {name: [] for name in kept}
    classes, labels = [], []
    counts: dict[str, list[int]] = {}
    overflow: dict[str, Overflow] = {}
    samples = steps = 0
    total_samples = given.samples if isinstance(given, SpikeData) else 0
    for batch in [given] if isinstance(given, SpikeData) else given:
        arrays, more = run(batch, lambda done, before=samples: tell(  # type: ignore[misc]
            stage, before + done, total_samples))
        output = arrays["output"]
        classes.append(output.reshape(*output.shape[:2], -1).sum(axis=1, dtype=np.float64).argmax(axis=1))
        if batch.labels is not None:
            labels.append(batch.labels)
        for name in dict.fromkeys((*names, "output")):
            sent, size = counts.get(name, [0, 0])
            counts[name] = [sent + int(np.count_nonzero(arrays[name])), size + arrays[name].size]
        for name in kept:
            parts[name].append(arrays[name])
        for name, o in more.items():
            total = overflow.setdefault(name, Overflow())
            total.u_wrapped, total.v_clipped = total.u_wrapped + o.u_wrapped, total.v_clipped + o.v_clipped
        samples, steps = samples + batch.samples, batch.steps
    said = () if "output" in kept else ('the output of a stream of batches is not kept; record "output" to have it',)
    found = np.concatenate(classes)
    return Simulation(
        engine, {name: np.concatenate(several) if len(several) > 1 else several[0] for name, several in parts.items()},
        found, 100.0 * float(np.mean(found == np.concatenate(labels))) if labels else None, overflow, None, None,
        (*notes, *said), samples, steps, {name: sent / max(1, size) for name, (sent, size) in counts.items()})


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two networks on the same data. accuracy: percent of A and B, None without labels. agreement: percent of samples
    given the same class. populations: those that both have."""

    a: str
    b: str
    samples: int
    accuracy: tuple[float, float] | None
    agreement: float
    populations: tuple[Change, ...]
    runs: tuple[Run, Run]
    notes: tuple[str, ...]


def compare(
    a: Model, b: Model, data: Data, *, preset: str | None = None, dt: float | None = None,
    reset: str | None = None, convention: Overrides = (), progress: Progress | None = None,
) -> Comparison:
    """A model (float simulator) or bundle (emulator) against another, over the same spikes, batch by batch where they
    come in batches (`neurocompress.data.given`).

    preset, dt, reset, convention: how models are read, as `load`. Without any, a model beside a bundle is read with
    those that the bundle was deployed with, so that both mean the same network. Raises `Refused`.
    """
    from .data.given import spikes_of
    from .data.spikes import SpikeData
    from .report.verify import verify

    asked = {"preset": preset, "convention": overrides(convention, preset=preset, dt=dt, reset=reset)}
    first, second = _runnable(a, b, asked), _runnable(b, a, asked)
    if first.shapes[first.input] != second.shapes[second.input]:
        raise Refused(Problem(
            f"A takes inputs of shape {first.shapes[first.input]}, B of {second.shapes[second.input]}",
            fix="Compare networks for the same data"))
    both = {n: int(np.prod(s)) for n, s in first.shapes.items()
            if n in first.names and n in second.names and second.shapes[n] == s}
    given = spikes_of(data, first.shapes[first.input], analog=True)
    labels: list[np.ndarray] = []

    def batches() -> Iterator[np.ndarray]:
        for batch in [given] if isinstance(given, SpikeData) else given:
            for side in (first, second):
                if side.integer is not None:
                    _refuse_graded(side.integer, batch)
            if batch.labels is not None:
                labels.append(batch.labels)
            yield batch.spikes

    count = given.samples if isinstance(given, SpikeData) else 0
    runs, changes = verify(
        {"a": first.engine, "b": second.engine}, (("a", "b"),), batches(), both, first.input,
        progress=lambda done: progress("comparing", done, count) if progress else None)
    accuracy = None
    if labels:
        accuracy = tuple(100.0 * float(np.mean(runs[k].classes == np.concatenate(labels))) for k in "ab")
    agreement = 100.0 * float(np.mean(runs["a"].classes == runs["b"].classes))
    return Comparison(title_of(a), title_of(b), len(runs["a"].scores), accuracy, agreement,  # type: ignore[arg-type]
                      changes["a", "b"], (runs["a"], runs["b"]), (*first.notes, *second.notes))


@dataclass(frozen=True, eq=False)
class _Runnable:
    engine: Any
    names: frozenset[str]
    shapes: dict[str, tuple[int, ...]]
    input: str
    notes: tuple[str, ...]
    integer: OnChip | None = None


def _integers(path: Path) -> OnChip:
    """A bundle's integer network. Raises `Refused` when it is damaged."""
    from .chip import integer_file

    try:
        return integer_file.load(bundle.require(path, bundle.INTEGER))
    except Refused as refused:
        raise Refused(replace(p, fix="Deploy the model again") for p in refused.problems) from None


def _refuse_graded(network: OnChip, data: SpikeData) -> None:
    """A chip can not be sent more than its messages hold: the emulation would compute something else."""
    most = max(1, (1 << network.input_message_bits) - 1)
    if data.spikes.max(initial=0) > most:
        raise refuse(f"it holds up to {int(data.spikes.max())} spikes per input and step, and the bundle was deployed "
                     f"for at most {most}", file=data.name, fix="Deploy with data of this kind, or keep fewer per step")


def _runnable(model: Model, beside: Model, asked: Mapping[str, Any]) -> _Runnable:
    """A bundle as its emulator, a model as its float simulation, read as the user asks or as the other one was."""
    from .report.verify import emulator_engine, float_engine

    path, other = path_of(model), path_of(beside)
    if path is not None and bundle.is_bundle(path):
        integer = _integers(path)
        shapes = {p.name: p.shape for p in integer.populations} | {integer.input: integer.input_shape}
        names = frozenset(p.name for p in integer.populations)
        return _Runnable(emulator_engine(integer, {}), names, shapes, integer.input,
                         (f"{path}: emulated in the chip's integers",), integer)
    reading, how = {k: v for k, v in asked.items() if v}, "read with"
    if isinstance(model, Network):
        reading = {}  # it was read already
    elif not reading and other is not None and bundle.is_bundle(other):
        reading, how = _reading_of(other), f"read as {other} was:"
    network = load(model, **reading)
    named = {k: v for k, v in reading.items() if k != "convention"} | dict(reading.get("convention", {}))
    said = f", {how} " + ", ".join(f"{k} {shown(v)}" for k, v in named.items()) if named else ""
    return _Runnable(float_engine(network), frozenset(network.populations), network.shapes, network.input,
                     (f"{title_of(model)}: simulated in floating point{said}", *network.notes))


def _reading_of(folder: Path) -> dict[str, Any]:
    """preset, dt, reset and convention with which the model of a bundle was read; what was not given is left out."""
    options = bundle.read_report(folder).get("options")
    given = options if isinstance(options, dict) else {}
    found = {name: given[name] for name in ("preset", "dt", "reset", "convention") if given.get(name)}
    if "convention" not in given and found.get("preset") == "snntorch":
        found["preset"] = "snntorch-nir"  # what this preset was when such bundles were written
    return found
