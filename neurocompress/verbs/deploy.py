"""The whole path as one function: a network file in, a bundle for a chip out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..backends import backend
from ..chip.on_chip import integer_file
from ..chip.on_chip.real_network import OnChip
from ..chip.profile.features import features, readout_on, with_conventions
from ..chip.profile.load import Profile, load_profile, profile_text
from ..compression.recipe import recipe_of
from ..data.calibration import Split
from ..data.given import Stream, spikes_of
from ..data.spikes import SpikeData, drawn, fractions, poisson, refuse_labels, taken
from ..deployment.compress_for_chip import learned
from ..deployment.compressed import Compressed, quantization_facts
from ..deployment.encoding import Encoding, encoding
from ..deployment.fit_search import Accuracy, Board, Fitted, compress_to_fit, compress_to_policy, compress_within
from ..emulation.emulator import Overflow
from ..errors import Problem, Refused, Unfit, refuse
from ..files import bundle
from ..fit.check import Fit
from ..network.chip_form import chip_form
from ..network.conventions import Overrides, overrides, shown
from ..network.encoder import InputMode, behind_input, joined, unscaled
from ..network.graph import Network
from ..network.readout import Mode
from ..progress import Progress, silent
from ..report.inputs import input_report
from ..report.report import Report, make_report
from ..shown import listed, several
from ..simulation.readings import difference, with_other_readings
from ..verification.verify import Engine, emulator_engine, float_engine, verify, virtual_chips
from .load import load
from .models import path_of, title_of

if TYPE_CHECKING:
    from ..chip.profile.schema import FanInPolicy
    from ..data.given import Data
    from .models import Model

#: Samples of the data that calibrate; the rest of it is never seen by compression.
CALIBRATION_SAMPLES = 128
#: Samples of a stream of batches that are held in memory: half of them calibrate at most; the first number where the
#: others choose the size of the network.
HEAD_TO_CHOOSE, HEAD = 1024, 2 * CALIBRATION_SAMPLES
#: Synthetic input where no data is given: samples, time steps, spikes per input and step.
POISSON_SAMPLES, POISSON_STEPS, POISSON_RATE = 16, 100, 0.05


@dataclass(frozen=True, eq=False)
class Deployment:
    """What `deploy` made. report: the numbers; folder: where the bundle lies (None when it was not asked for);
    removed: what `force` removed there, by path."""

    network: Network
    compressed: Compressed
    integer: OnChip
    fit: Fit
    report: Report
    folder: Path | None
    removed: tuple[str, ...] = ()

    def __repr__(self) -> str:
        where = "no bundle was written" if self.folder is None else f"bundle in {self.folder}"
        gate = "" if self.report.gates_passed else "; a register wrapped"
        return listed(f"Deployment on {self.fit.title}: {self.fit.verdict}, {several(self.fit.cores, 'core')}{gate}; "
                      f"{where}", self.report.lines())

    @property
    def passed(self) -> bool:
        """It fits, and no register met its end."""
        return self.fit.fits and self.report.gates_passed


def deploy(
    model: Model, target: str | Path, *, data: Data | None = None,
    out: str | Path | None = None, method: str = "sbc", bits: int | Mapping[str, int] | None = None,
    sparsity: float | Mapping[str, float] = 0.0,
    fit: bool = False, max_drop: float | None = None, chips: int | None = None,
    fan_in_policy: FanInPolicy | None = None, distill: int | None = None, input: InputMode = "auto",
    steps: int | None = None, readout: Mode = "auto", preset: str | None = None, dt: float | None = None,
    reset: str | None = None, convention: Overrides = (), seed: int = 0, force: bool = False,
    progress: Progress | None = None,
) -> Deployment:
    """Compresses a network for a chip, checks its fit, emits it and measures what it lost.

    model: a NIR file, a `nir.NIRGraph` or a `Network`. target: a chip's name or the path of a profile. data: spikes
    (samples, timesteps, *input shape) with labels or without, in any form that `neurocompress.data.given` takes. An
    iterable of batches is held in memory up to its first HEAD samples, which calibrate, and measured batch by batch.
    Without data the calibration is synthetic and no accuracy is reported. out: the bundle. bits, sparsity: of all
    layers, or by patterns of their names, {"fc*": 0.75}.
    fit: find the mildest compression that fits. max_drop: find the smallest network that loses at most so many points
    of accuracy; half of the samples that do not calibrate choose it, and the others are held out. chips,
    fan_in_policy, preset, dt, reset, convention: as `check`. distill: epochs in which a pruned network learns the
    original's outputs, the method's where it is None. input: how values reach the chip, see
    `deployment.encoding.encoding`. steps: to which data of one time step, static pictures, are repeated.
    readout: where the class is read (see `network.ends.tail`). force: replace whatever is at `out`, not only a
    bundle with nothing beside it.
    Raises `Refused` with every problem of the input, `Unfit` where a search finds nothing; nothing is written then.
    """
    tell = progress or silent
    asked = overrides(convention)
    profile = load_profile(target)
    recipe = recipe_of(method=method, sparsity=sparsity, distill=distill)
    _refuse_bad(seed, sparsity, fit, max_drop, data)
    removed: tuple[str, ...] = ()
    if out is not None:
        profile_file = target if Path(target).is_file() else None
        removed = bundle.writable(Path(out), force, (model, data, profile_file))
    path = path_of(model)
    if path is not None and bundle.is_bundle(path):
        raise refuse("it is a bundle, so it was deployed already", file=str(path),
                     fix=f"To deploy its compressed network again, give {path / bundle.MODEL}")
    tell("reading the model", 0, 0)
    network = load(model, preset=preset, dt=dt, reset=reset, convention=asked)
    tell("reading the data", 0, 0)
    values, calibration, split, stream = _data(
        network, data, steps, seed, HEAD if max_drop is None else HEAD_TO_CHOOSE)
    network = with_other_readings(network, None if split.synthetic else calibration)
    way = encoding(network, profile, None if values is None else values.spikes, calibration, input, split.source)
    given, calibration = _encoded(way, values, calibration, split, tell)
    real, whole = (network, values) if way.graded is not None else (way.network, given)  # of the float network
    network = way.network
    input_bits = message_bits(calibration if given is None else given.spikes) if way.graded is None else (
        way.graded.message_bits)

    ends = readout_on(network, profile, readout)
    if way.graded is not None:  # the same end, for the values themselves
        same = readout_on(real, profile, readout)
        real = same.whole(chip_form(same.chip))
    else:
        real = ends.whole(ends.chip)
    board = Board(profile, bits, chips, fan_in_policy, ends)
    within: Accuracy | None = None
    if max_drop is not None:
        assert given is not None
        split, chose = _chosen(given, split)
        within = accuracy_on(given, chose, input_bits)
        assert whole is not None
        least = float_accuracy(real, whole, chose) - max_drop
        found = compress_within(ends.chip, board, calibration, recipe, within, least, progress=tell)
    elif fit:
        found = compress_to_fit(ends.chip, board, calibration, recipe, progress=tell)
    else:
        found = compress_to_policy(ends.chip, board, calibration, recipe, progress=tell)
    if not split.synthetic:
        found = _learned(found, board, within, tell)
    cost = () if split.synthetic else cost_of_conventions(ends.chip, profile, calibration)
    said = (*way.said, *ends.said, *found.said, *cost, *found.compressed.notes)
    if values is not None:
        said = (*values.axes_assumed, *said)
    compressed = replace(found.compressed, notes=said)
    tell("building the chip's network", 0, 0)
    integer = replace(compressed.integer_network(input_bits), graded_input=way.graded)
    _refuse_unwritable(profile, integer)

    overflow: dict[str, Overflow] = {}
    samples = calibration if whole is None else whole.spikes
    labels = [] if given is None or given.labels is None else [given.labels]
    engines = {"float": float_engine(compressed.whole_original if way.graded is None else real)}
    if way.graded is not None:
        engines["sent"] = float_engine(compressed.whole_original)
    engines["compressed"] = float_engine(compressed.whole)
    if compressed.emulated:
        engines["emulated"] = emulator_engine(integer, overflow, whole=compressed.whole)
    sizes = {p: int(np.prod(compressed.network.shapes[p])) for p in compressed.network.populations}
    outputs = int(np.prod(network.shapes[network.output]))
    runs, changes = verify(
        engines, (("float", list(engines)[-1]),),
        samples if stream is None else _batches(stream, way, input_bits, outputs, labels), sizes, network.input,
        progress=lambda done: tell("verifying", done, len(samples) if stream is None else 0),
        sent=None if way.graded is None else way.sent, real=("float",))
    virtual = virtual_chips(integer, calibration if given is None else given.spikes, split.indices, seed, tell,
                            compressed.whole)
    busiest = runs[list(engines)[-1]].activities
    placed = replace(found.fit, rates={p: busiest[p].rates for p in compressed.network.populations})
    report = make_report(
        model=title_of(model), profile=profile, network=network, compressed=compressed, integer=integer, fit=placed,
        runs=runs, changes=changes, overflow=overflow, virtual=virtual,
        labels=np.concatenate(labels) if labels else None, calibration=split,
        way=input_report(way, values, samples.shape[1]), options={
            "method": method, "bits": dict(bits) if isinstance(bits, Mapping) else compressed.fmt.bits,
            "sparsity": dict(sparsity) if isinstance(sparsity, Mapping) else sparsity, "fit": fit,
            "max_drop": max_drop, "chips": chips, "fan_in_policy": fan_in_policy, "distill": distill,
            "input": input, "steps": steps, "preset": preset, "dt": dt, "reset": reset, "convention": asked,
            "readout": readout,
            "seed": seed})
    folder = None
    if out is not None:
        tell("writing the bundle", 0, 0)
        folder = Path(out)
        write_bundle(folder, compressed, integer, report, target, way, force)
    return Deployment(network, compressed, integer, placed, report, folder, removed)


def cost_of_conventions(network: Network, profile: Profile, spikes: np.ndarray) -> tuple[str, ...]:
    """What it costs that a chip resets or sends spikes otherwise than the model: a sentence, or none where it does not.

    spikes: (samples, timesteps, *input shape); the first few are run, in floating point and without compression.
    """
    on_chip, changed = with_conventions(network, features(profile), profile.title)
    if not changed:
        return ()
    before, after = network.conventions.to_dict(), on_chip.conventions.to_dict()
    named = ", ".join(f"{n} {shown(after[n])} for {shown(before[n])}" for n in before
                      if before[n] != after[n] and n != "two_phase_reset")
    return (f"{profile.title} runs it with {named}. That alone, before any compression: "
            f"{difference(network, on_chip, spikes)}",)


def _refuse_bad(
    seed: int, sparsity: float | Mapping[str, float], fit: bool, max_drop: float | None, data: Data | None
) -> None:
    problems = []
    if not isinstance(seed, int) or seed < 0:
        problems.append(Problem(f"seed is {seed}", fix="Give a whole number from 0"))
    if (fit or max_drop is not None) and sparsity:
        problems.append(Problem("--fit and --max-drop choose the sparsity themselves",
                                fix="Leave --sparsity out, or leave out the search"))
    if max_drop is not None and not max_drop >= 0:
        problems.append(Problem(f"max_drop is {max_drop}", fix="Give points of accuracy, such as 1"))
    if max_drop is not None and data is None:
        problems.append(Problem("accuracy can not be measured without data", fix="Give --data with labels"))
    if problems:
        raise Refused(problems)


def write_bundle(
    folder: Path, compressed: Compressed, integer: OnChip, report: Report, target: str | Path, way: Encoding,
    force: bool = False,
) -> None:
    """Everything needed to run, check and run again; in place whole or not at all."""
    network, tail, facts = compressed.network, compressed.tail, quantization_facts(compressed, integer)
    if way.graded is not None:  # the file's network takes the values themselves
        for name in behind_input(network):
            if name in facts:
                facts[name]["quant_weight_scale"] = facts[name]["quant_weight_scale"] / way.graded.scale
        network = unscaled(network, way.graded.scale)
    network = network if tail is None else tail.whole(network)
    with bundle.written(folder, force) as made:
        if way.host is not None:
            backend("nir").write(way.host, made / bundle.HOST)
            network = joined(way.host, network)
        backend("nir").write(network, made / bundle.MODEL, metadata=facts)
        integer_file.save(integer, made / bundle.INTEGER)
        (made / bundle.PROFILE).write_text(profile_text(target), encoding="utf-8")
        for name in compressed.profile.emits:
            emits = backend(name)
            if hasattr(emits, "emit"):
                emits.emit(integer, made / name)
        (made / bundle.REPORT).write_text(bundle.seal(made, report.to_dict()), encoding="utf-8")


def _data(
    network: Network, data: Data | None, steps: int | None, seed: int, head: int
) -> tuple[SpikeData | None, np.ndarray, Split, Stream | None]:
    """The data (of a stream that goes on its first `head` samples), the calibration samples drawn from it, how they
    were drawn, and the stream."""
    shape = network.shapes[network.input]
    if data is None:
        spikes = poisson(shape, POISSON_SAMPLES, steps or POISSON_STEPS, POISSON_RATE, seed).spikes
        note = (f"synthetic Poisson spikes, {POISSON_RATE} per input and step, {POISSON_SAMPLES} samples of "
                f"{spikes.shape[1]} steps")
        return None, spikes, Split(note, len(spikes), True, None), None
    given, stream = spikes_of(data, shape, analog=True, steps=steps), None
    if isinstance(given, Stream):
        found = given.head(head)
        stream, given = None if given.ended else given, found
    count = min(CALIBRATION_SAMPLES, max(1, given.samples // 2))
    chosen = drawn(given.samples, count, seed)
    refuse_labels(given, int(np.prod(network.shapes[network.output])))
    name = given.name if stream is None else f"{given.name}, drawn from its first {given.samples} samples"
    return given, taken(given.spikes, chosen), Split(name, count, False, tuple(int(k) for k in chosen)), stream


def _encoded(
    way: Encoding, values: SpikeData | None, calibration: np.ndarray, split: Split, tell: Progress
) -> tuple[SpikeData | None, np.ndarray]:
    """The data and the calibration samples as the chip receives them."""
    if values is None:
        return None, way.sent(calibration)
    sent = way.sent(values.spikes, lambda done: tell("computing on the host", done, values.samples))
    return replace(values, spikes=sent), taken(sent, np.array(split.indices, dtype=int))


def _batches(
    stream: Stream, way: Encoding, input_bits: int, outputs: int, labels: list[np.ndarray]
) -> Iterator[np.ndarray]:
    """All data of a stream, batch by batch, as `verify` takes them: real values where graded spikes carry them, else
    what the chip receives. `labels` is filled with all of its labels. outputs: of the network."""
    labels.clear()
    for batch in stream:
        sent = batch.spikes if way.graded is not None else way.sent(batch.spikes)
        if way.graded is None and (fractions(sent) or sent.min(initial=0) < 0):
            raise refuse("it holds real values, and the samples that calibrate hold spikes", file=batch.name,
                         fix="Shuffle the batches, or say how they are sent (--input)")
        if way.graded is None and message_bits(sent) > input_bits:
            raise refuse(f"an input sends {int(sent.max())} spikes in a step, more than any in the samples "
                         "that calibrate", file=batch.name,
                         fix="Shuffle the batches, or keep one spike per input and step")
        refuse_labels(batch, outputs)
        if batch.labels is not None:
            labels.append(batch.labels)
        yield sent


def _learned(
    found: Fitted, board: Board, within: Accuracy | None, tell: Progress
) -> Fitted:
    """The network after it learned, unless that made it break a limit, or less accurate where accuracy chose it."""
    made = learned(found.compressed, found.data, tell)
    if made is found.compressed:
        return found
    fit = board.fit(made)
    worse = within is not None and within(made) < within(found.compressed)
    return found if worse or (found.fit.fits and not fit.fits) else replace(found, compressed=made, fit=fit)


def _chosen(given: SpikeData, split: Split) -> tuple[Split, np.ndarray]:
    """Every second sample that does not calibrate, to choose by; the report's held-out samples are the others."""
    rest = np.setdiff1d(np.arange(given.samples), np.array(split.indices or (), dtype=int))
    if given.labels is None or len(rest) < 2:
        raise refuse("the smallest network within a loss of accuracy is chosen on labelled samples beside those that "
                     f"calibrate, and there are {0 if given.labels is None else len(rest)}", file=given.name,
                     fix="Give --data with labels and more samples")
    chose = rest[::2]
    said = f"{split.source} ({len(chose)} more samples chose the size)"
    indices = tuple(sorted((*(split.indices or ()), *(int(k) for k in chose))))
    return replace(split, source=said, indices=indices), chose


def accuracy_on(given: SpikeData, chose: np.ndarray, input_bits: int) -> Accuracy:
    """Percent of some samples that a compressed network classifies right, on the chip where it can be emulated."""
    assert given.labels is not None
    labels = given.labels[chose]

    def measured(made: Compressed) -> float:
        on_chip = float_engine(made.whole)
        if made.emulated:
            on_chip = emulator_engine(made.integer_network(input_bits), {}, whole=made.whole)
        return _right(on_chip, given.spikes[chose], labels, made.network)

    return measured


def float_accuracy(network: Network, given: SpikeData, chose: np.ndarray) -> float:
    """Percent of some samples that the network classifies right before compression."""
    assert given.labels is not None
    return _right(float_engine(network), given.spikes[chose], given.labels[chose], network)


def _right(engine: Engine, spikes: np.ndarray, labels: np.ndarray, network: Network) -> float:
    sizes = {p: int(np.prod(network.shapes[p])) for p in network.populations}
    runs, _ = verify({"it": engine}, (), spikes, sizes, network.input)
    return 100.0 * float(np.mean(runs["it"].classes == labels))


def message_bits(spikes: np.ndarray) -> int:
    """Bits that the largest number of spikes in one step takes; 0 for plain spikes."""
    largest = int(spikes.max(initial=0))
    return largest.bit_length() if largest > 1 else 0


def _refuse_unwritable(profile: Profile, integer: OnChip) -> None:
    """Asks every back end of the target, before the long part of the work, whether it can express the network."""
    problems = [
        problem for name in profile.emits if hasattr(backend(name), "refusals")
        for problem in backend(name).refusals(integer)]
    if problems:
        raise Unfit(problems)
