"""The verb simulate: a network over data, in floating point, on the emulated chip, or in Lava."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import refuse
from ..files import bundle
from ..network.conventions import Overrides
from ..network.graph import Network
from ..network.readout import Mode
from ..progress import Progress, silent
from ..verification.deployed import Deployed, deployed
from ..verification.reading import Reader, Sums, as_read
from ..verification.results import Simulation
from .load import load
from .models import path_of, title_of

if TYPE_CHECKING:
    from ..chip.on_chip.real_network import OnChip
    from ..data.given import Data, Stream
    from ..data.spikes import SpikeData
    from ..emulation.emulator import Overflow
    from .models import Model

ENGINES = ("float", "emulator", "lava")


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
    from ..data.given import held, spikes_of

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
        from ..data.spikes import SpikeData
        from ..simulation.float import check_record
        from ..simulation.float import simulate as simulate_float
        from ..simulation.readings import with_other_readings

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
        from ..verification.verify import in_model_units, output_of

        sent = in_model_units(self.there.integer, sent)
        output = output_of(self.there.integer, sent, given.spikes, self.there.whole)
        return self.there.on_host(given.spikes, self.names) | {n: sent[n] for n in self.others} | {"output": output}

    def emulated(
        self, given: SpikeData, told: Callable[[int], None]
    ) -> tuple[dict[str, np.ndarray], dict[str, Overflow]]:
        from ..emulation.emulator import emulate

        found = emulate(self.there.integer, self.there.sent(given), self.heard, progress=told)
        return self.seen(given, found.spikes), found.overflow


def _in_lava(path: Path, chip: _Chip, given: SpikeData, tell: Progress, timeout_s: float) -> Simulation:
    """In Lava and in the emulator, and where they differ. A program with a graded input rounds real values itself."""
    from ..backends import backend

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
    from ..data.axes import assumed
    from ..data.spikes import SpikeData, refuse_labels
    from ..emulation.emulator import Overflow
    from ..network.titles import all_titles

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
