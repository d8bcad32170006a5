"""Runs a network on samples, one after another in a single stream, and cuts the stream into samples again.

Every connection takes one step, so a layer runs `latency` steps behind the input. Sample s starts at step
s * period of the stream, with period = steps + padding, and a layer's sample at s * period + latency.
"""

import argparse
import multiprocessing.process
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import zipfile
from collections import namedtuple
from pathlib import Path

import numpy as np
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from spike_io.process import Recorder, StateRecorder

Layer = namedtuple("Layer", "process latency")


#: Seconds that Lava gets to report the error of one of its processes.
PATIENCE_S = 5.0


class BadInput(Exception):
    """Something that the user can put right."""


def main(network, input_shape, message_bits, padding, output, scale=None, low=0, high=1):
    """The command line of a program.

    network(file, steps, period): builds the processes; returns {layer's name: Layer}.
    message_bits: 0 when the input is spikes (0 or 1), more when it is counts of that many bits.
    padding: steps without input after each sample. output: the layer that is always recorded.
    scale: None when the input is whole numbers, else real values are sent as round(value / scale), from low to high.
    """
    parser = argparse.ArgumentParser(description="Run this network in Lava's bit-accurate simulation of the chip.")
    parser.add_argument("--data", required=True, help="npz with `spikes`: whole numbers"
                        + (" (" if scale is None else ", or real values (") + "samples, steps, *input shape)")
    parser.add_argument("--out", required=True, help="npz to write: spikes.NAME (samples, steps, *layer's shape), "
                        "and stream.NAME (all steps, *layer's shape) as it came")
    parser.add_argument("--record", nargs="+", default=[], metavar="NAME", help="layers to record besides the output")
    parser.add_argument("--states", action="store_true", help="also write u.NAME and v.NAME, after each step")
    arguments = parser.parse_args()
    try:
        spikes = read(arguments.data, input_shape, message_bits, None if scale is None else (scale, low, high))
        result = run(network, spikes, padding, list(dict.fromkeys([output, *arguments.record])), arguments.states)
        write(arguments.out, result)
    except (BadInput, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    finally:  # none after a run that ended well; Python would wait for those that are there
        end_children()


def read(path, input_shape, message_bits, graded):
    """What an npz sends, checked: integers (samples, steps, *input_shape). graded: scale, low and high of real values.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            spikes = data["spikes"]
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path}: can not read `spikes` from it ({error}). Save it with np.savez.") from None
    if spikes.dtype.kind not in "biuf":
        raise BadInput(f"{path}: spikes hold {spikes.dtype}. Convert them to numbers.")
    if spikes.ndim < 3 or spikes.shape[2:] != input_shape or 0 in spikes.shape:
        raise BadInput(f"{path}: spikes have shape {spikes.shape}. Expected (samples, steps, "
                         f"{', '.join(map(str, input_shape))}).")
    if not np.all(np.isfinite(spikes)):
        raise BadInput(f"{path}: spikes hold NaN or infinite values. Store 0 where there is no spike.")
    if graded is not None:
        return rounded(spikes, *graded)
    if spikes.dtype.kind == "f":  # whole numbers, whatever type holds them
        if np.any(spikes != np.rint(spikes)):
            raise BadInput(f"{path}: spikes hold values that are no whole numbers. Encode them as spikes.")
        spikes = spikes.astype(np.int64)
    lowest, highest = (0, 1) if message_bits == 0 else (1 - 2**message_bits, 2**message_bits - 1)
    if spikes.min() < lowest or spikes.max() > highest:
        raise BadInput(f"{path}: spikes range from {spikes.min()} to {spikes.max()}. This network takes "
                         f"{lowest} to {highest}.")
    return spikes.astype(np.uint8) if spikes.dtype == bool else spikes


def rounded(values, scale, low, high):
    """Real values as the whole numbers that are sent; a sample at a time, so that memory stays small."""
    spikes = np.empty(values.shape, dtype=np.int32)
    for whole, real in zip(spikes, values, strict=True):
        whole[...] = np.clip(np.rint(np.asarray(real, dtype=np.float64) / scale), low, high)
    return spikes


def run(network, spikes, padding, names, states):
    """Runs the network. Returns the arrays that `--out` holds."""
    samples, steps = spikes.shape[:2]
    period = steps + padding
    total = samples * period
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        np.save(folder / "input.npy", spikes)
        layers = network(folder / "input.npy", steps, period)
        unknown = [name for name in names if name not in layers]
        if unknown:
            raise BadInput(f"There is no layer {', '.join(map(repr, unknown))} to record. "
                             f"There are {', '.join(map(repr, layers))}.")
        files = {}

        def new_file(key, shape, dtype):
            files[key] = folder / f"{len(files)}.npy"
            np.lib.format.open_memmap(files[key], mode="w+", dtype=dtype, shape=(total, *shape)).flush()
            return files[key]

        for name in names:
            process = layers[name].process
            shape = process.s_out.shape
            path = new_file(("spikes", name), shape, np.int32)
            if states:
                recorder = StateRecorder(path=path, u=process.u, u_path=new_file(("u", name), shape, np.int64),
                                         v=process.v, v_path=new_file(("v", name), shape, np.int64))
            else:
                recorder = Recorder(path=path, shape=shape)
            process.s_out.connect(recorder.a_in)

        process = layers[names[0]].process  # any process stands for the whole network
        children, over = [], threading.Event()
        remember(children)
        watcher = threading.Thread(target=watch, args=(children, over, folder), daemon=True)
        watcher.start()
        process.create_runtime(run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
        started = time.perf_counter()
        try:
            process.run(condition=RunSteps(num_steps=total))
            seconds = time.perf_counter() - started
            over.set()  # from now on processes end as they should
            watcher.join()
        finally:
            process.stop()
            over.set()

        result = {"period": np.array(period), "seconds_per_step": np.array(seconds / total)}
        for (kind, name), file in files.items():
            stream = compact(np.load(file, mmap_mode="r"))
            by_sample = stream.reshape(samples, period, *stream.shape[1:])
            latency = layers[name].latency
            result[f"{kind}.{name}"] = by_sample[:, latency:latency + steps]
            if kind == "spikes":
                result[f"stream.{name}"] = stream
        return result


def remember(children):
    """Keeps every process from its start: Python forgets those that ended when the next one starts."""
    start = multiprocessing.process.BaseProcess.start

    def kept(process):
        start(process)
        children.append(process)

    multiprocessing.process.BaseProcess.start = kept


def status_of(child):
    """The exit status of a process; None while it runs, and once Lava has closed it."""
    try:
        return child.exitcode
    except ValueError:
        return None


def watch(children, over, folder):
    """Ends the program where one of Lava's processes ended before `over`: the others would wait for it for ever."""
    while not over.wait(0.2):
        ended = [status for status in map(status_of, list(children)) if status is not None]
        if not ended or (min(ended) >= 0 and over.wait(PATIENCE_S)):
            continue
        how = signal.Signals(-min(ended)).name if min(ended) < 0 else f"itself with status {max(ended)}"
        for error in filter(None, (getattr(child, "exception", None) for child in children)):
            print(error[1], file=sys.stderr)  # the traceback
        print(f"A process of Lava was ended by {how} during the run.", file=sys.stderr, flush=True)
        end_children()
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)


def end_children():
    for child in multiprocessing.active_children():
        child.kill()


def compact(values):
    """A copy in the smallest of uint8, int32 and int64 that holds the values."""
    for dtype in (np.uint8, np.int32):
        if np.iinfo(dtype).min <= values.min() and values.max() <= np.iinfo(dtype).max:
            return values.astype(dtype)
    return np.array(values)


def write(path, arrays):
    """Writes an npz in one piece: a reader never meets half a file."""
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as file:
            np.savez(file, **arrays)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
