"""Frames of event recordings: spikes per time step and pixel."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from ..errors import Problem, Refused, refuse
from ..network.nodes import Shape
from .arrays import MAX_BYTES
from .events import Events, Recordings, load_events
from .spikes import MAX_COUNT, SpikeData

#: (channels, height, width) of N-MNIST: OFF and ON events of 34 x 34 pixels (Orchard et al. 2015).
NMNIST = (2, 34, 34)

#: This many broken recordings are named one by one; the rest is counted.
NAMED = 20

#: A whole recording cut into frames of as many events each ("number") or as long each ("time").
Split = Literal["number", "time"]


def frames(events: Events, shape: Shape, dt: float | Split, steps: int, binary: bool = False) -> np.ndarray:
    """Events as spikes per step and pixel: (steps, channels, height, width), channel = polarity.

    shape: (channels, height, width); with one channel both polarities share it. binary: 1 where there was any event.
    dt: seconds per step; step 0 starts at 0 microseconds and events after the last step are left out. uint8.
        Or "number" or "time": the recording, from first to last event, is cut into `steps` frames of as many events
        or as long each, the remainder going to the last (SpikingJelly's `split_by`). uint8, or int16 where a pixel
        counts more than 255 events in a frame: such frames last long, and noisy pixels are many.
    Raises `Refused` for events outside the sensor or before 0, and, where dt is a number and the frames are not
    binary, for more than 255 in one step.
    """
    whole = dt in ("number", "time")
    if not (whole or (isinstance(dt, (int, float)) and 1e-9 <= dt <= 1e9)) or (
            steps < 1 or len(shape) != 3 or min(shape) < 1):
        raise refuse(f"frames of shape {shape}, dt {dt} and {steps} steps", fix=(
            "Give (channels, height, width), a dt of 1e-9 seconds or more, 'number' or 'time', and at least one step"))
    channels, height, width = shape
    x, y, t_us = (a.astype(np.int64, copy=False) for a in (events.x, events.y, events.t_us))
    p = np.zeros_like(x) if channels == 1 else events.p.astype(np.int64)
    problems = [
        Problem(f"{name} runs from {values.min()} to {values.max()}, expected 0 to {size - 1}", fix=fix)
        for name, values, size, fix in (
            ("x", x, width, "Give the sensor's own (channels, height, width)"),
            ("y", y, height, "Give the sensor's own (channels, height, width)"),
            ("polarity", p, channels, "Give the sensor's own (channels, height, width)"),
        ) if values.size and (values.min() < 0 or values.max() >= size)
    ]
    if t_us.min(initial=0) < 0:
        problems.append(Problem(f"time starts at {t_us.min()} us", fix="Count time from the start of the recording"))
    if problems:
        raise Refused(problems)
    step = _step(t_us, dt, steps)
    inside = step < steps
    flat = np.ravel_multi_index((step[inside].astype(np.int64), p[inside], y[inside], x[inside]), (steps, *shape))
    result = np.zeros((steps, *shape), dtype=np.uint8)
    if binary:
        result.reshape(-1)[flat] = 1
        return result
    where, counts = np.unique(flat, return_counts=True)
    most = counts.max(initial=0)
    if most > (MAX_COUNT if whole else 255):
        raise refuse(f"{most} events of one pixel fall into one step, a frame holds {MAX_COUNT if whole else 255}",
                     fix="Use more frames, or binary frames" if whole else "Use a shorter dt, or binary frames")
    if most > 255:
        result = result.astype(np.int16)
    result.reshape(-1)[where] = counts
    return result


def _step(t_us: np.ndarray, dt: float | Split, steps: int) -> np.ndarray:
    """Number of the step of each event; in integers, or float64 where dt is no whole number of microseconds."""
    if dt == "number":
        each = len(t_us) // steps
        return np.minimum(np.arange(len(t_us)) // each, steps - 1) if each else np.full(len(t_us), steps - 1)
    if dt == "time":
        if not len(t_us):
            return t_us
        first = int(t_us.min())
        long = max(1, (int(t_us.max()) - first) // steps)
        part: np.ndarray = np.minimum((t_us - first) // long, steps - 1)
        return part
    dt_us = float(dt) * 1e6
    nearest = round(dt_us)
    if nearest >= 1 and abs(dt_us - nearest) < 1e-9 * nearest:
        return t_us // nearest
    return np.floor(t_us / dt_us)


def events_to_spikes(
    source: str | Path | Recordings,
    dt: float | Split,
    steps: int,
    shape: Shape = NMNIST,
    limit: int | None = None,
    binary: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> SpikeData:
    """Recordings as spikes: frames (recordings, steps, *shape), with labels where the source has them.

    source: what `load_events` reads, or `Recordings`. Other arguments as for `frames`. progress is told the recordings
    read and all there are.
    uint8, or int16 where a frame needs it.
    Raises `Refused` with the problems of every recording; the result may take at most `MAX_BYTES`.
    """
    recordings = source if isinstance(source, Recordings) else load_events(source, limit)
    count = recordings.count if limit is None else min(limit, recordings.count)
    _check_size(count * max(steps, 1) * math.prod(shape), recordings, count, steps)
    spikes: np.ndarray | None = None
    problems: list[Problem] = []
    broken = 0
    late = total = 0
    for i in range(count):
        if progress:
            progress(i, count)
        try:
            events = recordings.read(i)
            frame = frames(events, shape, dt, steps, binary)
        except Refused as refused:
            broken += 1
            if broken <= NAMED:
                problems += [
                    p if p.file else Problem(p.what, f"recording {i}", p.fix, recordings.name) for p in refused.problems
                ]
            continue
        if spikes is None:  # after the first recording has shown that the arguments make sense
            spikes = np.empty((count, *frame.shape), dtype=np.uint8)
        if frame.itemsize > spikes.itemsize:
            _check_size(2 * spikes.size, recordings, count, steps)
            spikes = spikes.astype(np.int16)
        spikes[i] = frame
        total += events.t_us.size
        late += int(np.count_nonzero(_step(events.t_us, dt, steps) >= steps))
    if broken > NAMED:
        problems.append(Problem(f"{broken - NAMED} more recordings have problems", fix="Repair the first ones, then "
                                "run again", file=recordings.name))
    if problems or spikes is None:
        raise Refused(problems)
    kind = "binary frames" if binary else "frames"
    cut = f"of {dt * 1e3:g} ms" if isinstance(dt, (int, float)) else f"per recording, split by {dt}"
    left_out = f", {100 * late / total:.2g} % of the events come later" if late else ""
    labels = None if recordings.labels is None else recordings.labels[:count]
    return SpikeData(spikes, labels, f"{recordings.name}: {steps} {kind} {cut}{left_out}")


def _check_size(size: int, recordings: Recordings, count: int, steps: int) -> None:
    if size > MAX_BYTES:
        raise refuse(f"{count} recordings of {steps} frames take {size / 2**30:.1f} GiB",
                     file=recordings.name, fix=f"Limit the recordings: at most {MAX_BYTES / 2**30:g} GiB are made")
