"""The verbs load, check, simulate and compare. Each returns data; printing is the CLI's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import bundle
from .chip.features import features, with_conventions
from .chip.fit import Fit, check_fit, fit_of, plan_of
from .chip.profile import Profile, load_profile
from .chip.search import Found, mildest_of_weights, prunes
from .errors import Problem, Refused, refuse
from .frontends import nir as nir_file
from .network.conventions import Overrides, overrides, shown
from .network.graph import Network

if TYPE_CHECKING:
    from .chip.real import OnChip
    from .chip.schema import FanInPolicy
    from .data.spikes import SpikeData
    from .report.verify import Change, Run
    from .simulation.emulator import Overflow

ENGINES = ("float", "emulator", "lava")

Progress = Callable[[str, int, int], None]


def load(
    model: str | Path, *, preset: str | None = None, dt: float | None = None, reset: str | None = None,
    convention: Overrides = (),
) -> Network:
    """A network from a NIR file, or from a bundle (its compressed model).

    preset: a platform's reading of the file. dt: seconds per time step. reset: "zero" or "subtract". convention: any
    others, as {"v_floor": False} or ["v_floor=false"]. Raises `Refused`.
    """
    path = Path(model)
    if path.is_dir() and not bundle.is_bundle(path):
        raise refuse("it is a folder, and no bundle", file=str(path),
                     fix="Give a .nir file, or a folder that `neurocompress deploy` wrote")
    if path.is_dir():
        path = bundle.require(path, bundle.MODEL)
    return nir_file.read(path, preset=preset, dt=dt, reset=reset, convention=convention)


def check(
    model: str | Path, target: str | Path, *, bits: int | None = None, sparsity: float | None = None,
    chips: int | None = None, fan_in_policy: FanInPolicy | None = None, preset: str | None = None,
    dt: float | None = None, reset: str | None = None, convention: Overrides = (),
) -> Fit:
    """Whether a network fits a chip: no data, no torch. Raises `Refused` for input that can't be read.

    chips: instead of the profile's number. fan_in_policy: instead of the profile's, what becomes of neurons with too
    many synapses: "refuse", "prune", "split" or "join". preset, dt, reset, convention: as `load`.
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
    model: str | Path, target: str | Path, *, bits: int | None = None, chips: int | None = None,
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
    plan = plan_of(network, profile, bits, chips=chips, policy=fan_in_policy)
    found = mildest_of_weights(plan, bits, fan_in_pruned=prunes(plan, fan_in_policy))
    fit = fit_of(found.plan if found.fits else plan)
    return replace(fit, notes=(*said, *fit.notes)), found


@dataclass(frozen=True, eq=False)
class Simulation:
    """arrays: "output" and every recorded node, (samples, timesteps, *shape). accuracy: percent, None without labels.
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


def simulate(
    model: str | Path, data: str | Path | SpikeData, *, engine: str = "float", preset: str | None = None,
    dt: float | None = None, reset: str | None = None, convention: Overrides = (), record: Iterable[str] = (),
    progress: Progress | None = None, timeout_s: float = 3600.0,
) -> Simulation:
    """Runs a network, or a bundle, over spikes (samples, timesteps, *input shape).

    engine: "float" (a model or the compressed model of a bundle), "emulator" or "lava" (a bundle).
    record: nodes beside the output, which is always given as "output".
    timeout_s: limit on a Lava run. Raises `Refused` for bad input or when Lava can't be run.
    """
    from .data.spikes import load_spikes

    if engine not in ENGINES:
        raise refuse(f"unknown engine '{engine}'", fix=f"Engines: {', '.join(ENGINES)}")
    path, names = Path(model), tuple(name for name in dict.fromkeys(record) if name != "output")
    tell = progress or (lambda stage, done, total: None)
    if engine != "float" and not bundle.is_bundle(path):
        raise refuse(f"engine '{engine}' runs what was deployed, and this is no bundle", file=str(path),
                     fix="Run `neurocompress deploy MODEL --target NAME --out DIR` first and give DIR")
    if engine != "float" and (preset or dt is not None or reset or convention):
        raise refuse(f"a bundle's conventions are fixed; engine '{engine}' takes no --preset, --dt or --reset, and no "
                     "--convention",
                     fix="Leave them out, or deploy again with them")
    if engine == "float":
        from .simulation.float import check_record
        from .simulation.float import simulate as simulate_float

        network = load(path, preset=preset, dt=dt, reset=reset, convention=convention)
        check_record(network, names)
        shape = network.shapes[network.input]
        given = load_spikes(data, shape, analog=True) if isinstance(data, (str, Path)) else data
        arrays = simulate_float(network, given.spikes, names,
                                progress=lambda done: tell("simulating", done, given.samples))
        return _simulation("float", arrays, given, notes=network.notes)
    return _simulate_chip(path, data, engine, names, tell, timeout_s)


def _simulate_chip(  # type: ignore[no-untyped-def]
    path: Path, data, engine: str, names: tuple[str, ...], tell: Progress, timeout_s: float
) -> Simulation:
    from .backends import backend
    from .data.spikes import load_spikes
    from .simulation.emulator import emulate

    network = _integers(path)
    given = data if not isinstance(data, (str, Path)) else load_spikes(data, network.input_shape)
    _refuse_graded(network, given)
    emulated = emulate(network, given.spikes, names, progress=lambda done: tell("emulating", done, given.samples))
    arrays = {name: emulated.spikes[name] for name in names} | {"output": emulated.spikes[network.output]}
    if engine == "emulator":
        return _simulation("emulator", arrays, given, emulated.overflow, notes=network.notes)
    tell("running Lava", 0, 0)
    run = backend("lava").run(bundle.require(path, "lava"), given.spikes, names, timeout_s=timeout_s)
    lava = {name: run.spikes[name] for name in names} | {"output": run.spikes[network.output]}
    mismatches = {name: int(np.count_nonzero(lava[name] != arrays[name])) for name in lava}
    return _simulation("lava", lava, given, emulated.overflow, mismatches, run.seconds_per_step, network.notes)


def _simulation(  # type: ignore[no-untyped-def]
    engine: str, arrays: dict[str, np.ndarray], given: SpikeData, overflow=None, mismatches=None,
    seconds_per_step=None, notes: tuple[str, ...] = (),
) -> Simulation:
    output = arrays["output"]
    scores = output.reshape(*output.shape[:2], -1).sum(axis=1, dtype=np.float64)
    classes = scores.argmax(axis=1)
    accuracy = None if given.labels is None else 100.0 * float(np.mean(classes == given.labels))
    return Simulation(engine, arrays, classes, accuracy, overflow or {}, mismatches, seconds_per_step, notes)


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
    a: str | Path, b: str | Path, data: str | Path | SpikeData, *, preset: str | None = None, dt: float | None = None,
    reset: str | None = None, convention: Overrides = (), progress: Progress | None = None,
) -> Comparison:
    """A model (float simulator) or bundle (emulator) against another, over the same spikes.

    preset, dt, reset, convention: how models are read, as `load`. Without any, a model beside a bundle is read with
    those that the bundle was deployed with, so that both mean the same network. Raises `Refused`.
    """
    from .data.spikes import load_spikes
    from .report.verify import verify

    asked = {"preset": preset, "convention": overrides(convention, preset=preset, dt=dt, reset=reset)}
    first, second = _runnable(Path(a), Path(b), asked), _runnable(Path(b), Path(a), asked)
    if first.shapes[first.input] != second.shapes[second.input]:
        raise Refused(Problem(
            f"A takes inputs of shape {first.shapes[first.input]}, B of {second.shapes[second.input]}",
            fix="Compare networks for the same data"))
    given = load_spikes(data, first.shapes[first.input], analog=True) if isinstance(data, (str, Path)) else data
    both = {n: int(np.prod(s)) for n, s in first.shapes.items()
            if n in first.names and n in second.names and second.shapes[n] == s}
    for side in (first, second):
        if side.integer is not None:
            _refuse_graded(side.integer, given)
    runs, changes = verify(
        {"a": first.engine, "b": second.engine}, (("a", "b"),), given.spikes, both, first.input,
        progress=lambda done: progress("comparing", done, given.samples) if progress else None)
    accuracy = None
    if given.labels is not None:
        accuracy = tuple(100.0 * float(np.mean(runs[k].classes == given.labels)) for k in "ab")
    agreement = 100.0 * float(np.mean(runs["a"].classes == runs["b"].classes))
    return Comparison(str(a), str(b), given.samples, accuracy, agreement, changes["a", "b"],  # type: ignore[arg-type]
                      (runs["a"], runs["b"]), (*first.notes, *second.notes))


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


def _runnable(path: Path, other: Path, asked: Mapping[str, Any]) -> _Runnable:
    """A bundle as its emulator, a model as its float simulation, read as the user asks or as the other one was."""
    from .report.verify import emulator_engine, float_engine

    if bundle.is_bundle(path):
        integer = _integers(path)
        shapes = {p.name: p.shape for p in integer.populations} | {integer.input: integer.input_shape}
        names = frozenset(p.name for p in integer.populations)
        return _Runnable(emulator_engine(integer, {}), names, shapes, integer.input,
                         (f"{path}: emulated in the chip's integers",), integer)
    reading, how = {k: v for k, v in asked.items() if v}, "read with"
    if not reading and bundle.is_bundle(other):
        reading, how = _reading_of(other), f"read as {other} was:"
    network = load(path, **reading)
    named = {k: v for k, v in reading.items() if k != "convention"} | dict(reading.get("convention", {}))
    said = f", {how} " + ", ".join(f"{k} {shown(v)}" for k, v in named.items()) if named else ""
    return _Runnable(float_engine(network), frozenset(network.populations), network.shapes, network.input,
                     (f"{path}: simulated in floating point{said}", *network.notes))


def _reading_of(folder: Path) -> dict[str, Any]:
    """preset, dt, reset and convention with which the model of a bundle was read; what was not given is left out."""
    options = bundle.read_report(folder).get("options")
    given = options if isinstance(options, dict) else {}
    return {name: given[name] for name in ("preset", "dt", "reset", "convention") if given.get(name)}
