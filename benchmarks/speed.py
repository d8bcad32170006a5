"""Speed, measured side by side in one run: ratios mean something on a busy machine, seconds only with its load.

    python benchmarks/speed.py [--samples N] [--skip-lava]

Needs the shared recordings and models (NEUROCOMPRESS_SHARED, or ../shared beside the checkout), and for Lava what
`neurocompress simulate --engine lava` needs. Prints
    CLI         median seconds of 5 starts of `neurocompress --help` and `check` (N-MNIST network, loihi2)
    float       seconds for 200 N-MNIST recordings of 300 steps
    emulator    seconds per recording of the compressed N-MNIST network, against Lava on the same bundle and data
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

from neurocompress import deploy, load
from neurocompress.backends import backend
from neurocompress.chip import integer_file
from neurocompress.data import events_to_spikes
from neurocompress.simulation.emulator import emulate
from neurocompress.simulation.float import simulate

SHARED = Path(os.environ.get("NEUROCOMPRESS_SHARED", Path(__file__).resolve().parents[2] / "shared"))
MODEL = SHARED / "models/nir_paper/cnn/cnn_sinabs.nir"
RECORDINGS = SHARED / "data/nmnist_800.npz"
DT, STEPS, STARTS, FLOAT_SAMPLES = 1e-3, 300, 5, 200


def load_average() -> str:
    return ", ".join(f"{x:.2f}" for x in os.getloadavg())


def report(what: str, figure: str) -> None:
    print(f"{what:52} {figure:>24}   load average {load_average()}", flush=True)


def start_time(*arguments: str) -> float:
    """Median seconds of a command of its own, from start to exit."""
    taken = []
    for _ in range(STARTS):
        began = perf_counter()
        subprocess.run([sys.executable, "-m", "neurocompress.cli", *arguments], check=False, capture_output=True)
        taken.append(perf_counter() - began)
    return median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of the command line, the simulators and Lava.")
    parser.add_argument("--samples", type=int, default=4, help="recordings that the emulator and Lava run [4]")
    parser.add_argument("--skip-lava", action="store_true", help="leave Lava out")
    options = parser.parse_args()
    if not MODEL.is_file():
        parser.error(f"{MODEL} is missing: set NEUROCOMPRESS_SHARED")

    report("neurocompress --help", f"{start_time('--help'):.2f} s")
    report("neurocompress check (N-MNIST, loihi2)", f"{start_time('check', str(MODEL), '--target', 'loihi2'):.2f} s")

    data = events_to_spikes(RECORDINGS, DT, STEPS, limit=FLOAT_SAMPLES, binary=True)
    network = load(MODEL, preset="sinabs")
    simulate(network, data.spikes[:4])  # what torch sets up once
    began = perf_counter()
    simulate(network, data.spikes)
    report(f"float: {FLOAT_SAMPLES} recordings x {STEPS} steps", f"{perf_counter() - began:.1f} s")

    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        deploy(MODEL, "loihi2", data=data.first(max(8, options.samples)), preset="sinabs", method="rtn", out=bundle)
        integer = integer_file.load(bundle / "integer.npz")
        spikes = data.spikes[: options.samples]
        emulate(integer, spikes[:1])
        began = perf_counter()
        ours = emulate(integer, spikes).spikes[integer.output]
        batch = (perf_counter() - began) / options.samples
        report(f"emulator: {options.samples} recordings, each", f"{batch:.3f} s")
        if options.skip_lava:
            return
        # its own clock: without the start of Python and the compiler, but with the padding between samples
        run = backend("lava").run(bundle / "lava", spikes, timeout_s=3600.0)
        lava = run.seconds_per_step * run.period
        wrong = int(np.count_nonzero(run.spikes[integer.output] != ours))
        report(f"Lava: {options.samples} recordings, each", f"{lava:.3f} s")
        report("Lava / emulator, per recording", f"{lava / batch:.0f} x")
        report("values in which Lava and the emulator differ", f"{wrong} of {ours.size}")


if __name__ == "__main__":
    main()
