"""The verb compress: a recipe or flags, a model, data; a network or a file comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from ..chip.profile.features import readout_on
from ..chip.profile.load import load_profile
from ..errors import refuse
from ..network.assumed import aloud
from ..network.conventions import Overrides
from ..network.graph import Network
from ..network.readout import Mode
from ..progress import Progress, silent
from ..verification.reading import as_kept
from .load import load

if TYPE_CHECKING:
    from ..compression.oneshot import Result
    from ..compression.recipe import Recipe
    from ..data.calibration import CalibrationSet
    from ..data.given import Data
    from ..deployment.compressed import Compressed
    from ..verification.measure import Measured
    from .models import Model


#: Samples of a stream of batches that calibrate where the caller does not say how many.
STREAM_SAMPLES = 1024


@overload
def compress(
    model: Model, data: Data | None, *, target: None = None,
    recipe: str | Path | Recipe | None = None, preset: str | None = None, dt: float | None = None,
    reset: str | None = None, convention: Overrides = (), samples: int | None = None, steps: int | None = None,
    seed: int = 0, memory: int | None = None, checkpoint: Path | None = None, readout: Mode = "auto",
    progress: Progress | None = None, **flags: Any,
) -> Result: ...


@overload
def compress(
    model: Model, data: Data | None, *, target: str | Path,
    recipe: str | Path | Recipe | None = None, preset: str | None = None, dt: float | None = None,
    reset: str | None = None, convention: Overrides = (), samples: int | None = None, steps: int | None = None,
    seed: int = 0, memory: int | None = None, checkpoint: Path | None = None, readout: Mode = "auto",
    progress: Progress | None = None, **flags: Any,
) -> Compressed: ...


def compress(
    model: Model, data: Data | None, *, target: str | Path | None = None,
    recipe: str | Path | Recipe | None = None, preset: str | None = None, dt: float | None = None,
    reset: str | None = None, convention: Overrides = (), samples: int | None = None, steps: int | None = None,
    seed: int = 0, memory: int | None = None, checkpoint: Path | None = None, keep_checkpoint: bool = False,
    readout: Mode = "auto",
    progress: Progress | None = None, **flags: Any,
) -> Result | Compressed:
    """A network compressed in one shot; with `target` on that chip's grid.

    data: calibration spikes (samples, timesteps, *input shape) in any form that `neurocompress.data.given` takes; None
    allows only methods magnitude and rtn. Of an iterable of batches the first `samples` calibrate, or the first
    STREAM_SAMPLES, and a note says so. recipe: or its keys as flags: method, bits, sparsity, allocation, fan_in,
    budget, grid... (see compression.recipe). preset, dt, reset, convention: as `load`. samples: calibrate on so many,
    drawn with `seed`; all without it. steps: to which data of one time step, static pictures, are repeated. memory:
    bytes, see compression.oneshot.compress_network, as checkpoint and keep_checkpoint. readout: where the class is read
    (see `network.ends.tail`); "membrane" takes the threshold from a last population that spikes. Raises `Refused`.
    """
    from ..data.calibration import CalibrationSet

    network = as_kept(load(model, preset=preset, dt=dt, reset=reset, convention=convention), readout)
    chosen = _recipe(recipe, flags)
    spikes, said = _calibration(network, data, samples, steps, seed)
    calibration = None if spikes is None else CalibrationSet.of(spikes, chosen.distilled)
    found = _compressed(network, calibration, chosen, target, readout, memory, checkpoint, keep_checkpoint, progress)
    return replace(found, notes=(*said, *found.notes))


def _recipe(recipe: str | Path | Recipe | None, flags: Mapping[str, Any]) -> Recipe:
    from ..compression.recipe import Recipe, load_recipe, recipe_of

    return recipe_of(recipe if isinstance(recipe, Recipe) or recipe is None else load_recipe(recipe), **flags)


def _compressed(
    network: Network, data: CalibrationSet | None, recipe: Recipe, target: str | Path | None, readout: Mode,
    memory: int | None, checkpoint: Path | None, keep_checkpoint: bool, progress: Progress | None,
) -> Result | Compressed:
    from ..compression.model import MEMORY
    from ..compression.oneshot import compress_network
    from ..deployment.compress_for_chip import compress_for, learned
    from ..simulation.readings import with_other_readings

    network = with_other_readings(network, None if data is None else data.spikes)
    said = aloud(network.notes)
    if target is not None:
        profile = load_profile(target)
        ends = readout_on(network, profile, readout)
        made = compress_for(ends.chip, profile, None if data is None else data.fit, recipe, progress=progress)
        made = replace(made, tail=ends)
        made = made if data is None else learned(made, data, progress)
        return replace(made, notes=(*said, *ends.said, *made.notes))
    found = compress_network(network, data, recipe, memory=memory or MEMORY, checkpoint=checkpoint,
                             keep_checkpoint=keep_checkpoint, progress=progress)
    return replace(found, notes=(*said, *found.notes))


def _calibration(
    network: Network, data: Data | None, samples: int | None, steps: int | None, seed: int
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """The spikes that calibrate, and what is to be said of how they were taken."""
    from ..data.given import Stream, spikes_of
    from ..data.spikes import drawn, taken

    if data is None:
        return None, ()
    if samples is not None and (not isinstance(samples, int) or samples < 1):
        raise refuse(f"samples is {samples}", fix="Calibrate on at least one")
    given = spikes_of(data, network.shapes[network.input], analog=True, steps=steps)
    if isinstance(given, Stream):
        first = given.head(samples or STREAM_SAMPLES)
        more = "" if given.ended else f", the first of {given.name}; more come, and shuffled batches make these fair"
        return first.spikes, (f"calibrated on {first.samples} samples{more}", *first.axes_assumed)
    spikes = given.spikes if samples is None else taken(given.spikes, drawn(given.samples, samples, seed))
    return spikes, given.axes_assumed


def compress_file(
    model: str | Path, data: str | Path | None, out: str | Path, *, recipe: str | Path | None = None,
    samples: int | None = None, finetune: int | None = None, steps: int | None = None, preset: str | None = None,
    dt: float | None = None, reset: str | None = None, convention: Overrides = (), seed: int = 0,
    memory: int | None = None, readout: Mode = "auto", progress: Progress | None = None, **flags: Any,
) -> tuple[Result, Measured | None]:
    """Compresses a NIR file into another one, `out`, and measures both on the calibration data (None without data).

    Finished layers are kept beside `out` until it is written: the same call after a kill goes on there. finetune:
    epochs, with the data's labels where it has them. The rest as `compress`. Raises `Refused`.
    """
    from ..compression.layerwise.checkpoint import discard, free
    from ..compression.oneshot import Result, finetuned, save
    from ..data.calibration import DISTILL_SAMPLES, CalibrationSet
    from ..data.spikes import drawn, load_spikes, refuse_labels
    from ..files.places import compressed_network, free_file
    from ..verification.measure import measure

    kept = Path(f"{out}.partial")
    free_file(out, "compress", compressed_network, (model, data, recipe))
    free(kept)
    if seed < 0 or (samples is not None and samples < 1) or (finetune is not None and finetune < 1):
        raise refuse("--seed, --samples or --finetune is too small",
                     fix="Give a seed from 0, and at least one sample and one epoch")
    tell = progress or silent
    tell("reading the model", 0, 0)
    network = as_kept(load(model, preset=preset, dt=dt, reset=reset, convention=convention), readout)
    tell("reading the data", 0, 0)
    given = None if data is None else load_spikes(data, network.shapes[network.input], analog=True, steps=steps)
    if given is not None:
        refuse_labels(given, int(np.prod(network.shapes[network.output])))
    if given is not None and samples is not None:
        given = given.chosen(drawn(given.samples, samples, seed))
    if finetune is not None and given is None:
        raise refuse("fine-tuning needs data", fix="Give --data")
    if finetune is not None and flags.get("distill") is None:
        flags["distill"] = 0  # labels say more than the teacher alone, and fine-tuning hears both
    chosen, calibration = _recipe(recipe, flags), None
    if given is not None:  # what judges fine-tuning is not compressed with either
        epochs, fewest = (chosen.distilled, DISTILL_SAMPLES) if finetune is None else (finetune, 2)
        calibration = CalibrationSet.of(given.spikes, epochs, given.labels, fewest)
    result = _compressed(network, calibration, chosen, None, readout, memory, kept, True, tell)
    assert isinstance(result, Result)
    if given is not None:
        result = replace(result, notes=(*given.axes_assumed, *result.notes))
    if finetune is not None and calibration is not None:
        result = finetuned(result, calibration, finetune, seed, tell)
    measured = None
    if given is not None:
        total = given.samples
        measured = measure(result, given, lambda done: tell("measuring", done, total))
    tell("writing the network", 0, 0)
    save(result, Path(out))
    discard(kept)
    return result, measured
