"""Speed, measured side by side in one run: ratios mean something on a busy machine, seconds only with its load.

    python benchmarks/speed.py [--samples N] [--skip-lava]

Needs the shared recordings and models (NEUROCOMPRESS_SHARED, or ../shared beside the checkout), and for Lava what
`neurocompress simulate --engine lava` needs. Prints
    CLI         median seconds of 5 starts of `neurocompress --help` and `check` (N-MNIST network, loihi2)
    large       median seconds of `check` on a network of 60 million parameters, drawn at random, for some chips
    float       seconds for 200 N-MNIST recordings of 300 steps
    emulator    seconds per recording of the compressed N-MNIST network, against Lava on the same bundle and data
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

from neurocompress import deploy, load
from neurocompress.backends import backend
from neurocompress.chip.on_chip import integer_file
from neurocompress.data import events_to_spikes
from neurocompress.emulation.emulator import emulate
from neurocompress.network.conventions import Conventions
from neurocompress.network.graph import Network
from neurocompress.network.nodes import Conv, Flatten, Input, Linear, Neuron, Node, Output
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


def write_large(path: Path) -> int:
    """Five convolutions and three matrices on 32 x 32 pixels, random float32; the number of their weights."""
    rng = np.random.default_rng(0)
    nodes: dict[str, Node] = {"input": Input((3, 32, 32))}
    shape: tuple[int, ...] = (3, 32, 32)
    for k, (channels, stride) in enumerate(((64, 1), (128, 2), (256, 2), (512, 2), (512, 1))):
        weight = rng.standard_normal((channels, shape[0], 3, 3), dtype=np.float32)
        nodes[f"conv{k}"] = Conv(weight, None, (stride, stride), ((1, 1), (1, 1)), (1, 1))
        shape = (channels, shape[1] // stride, shape[2] // stride)
        nodes[f"if{k}"] = Neuron(shape, np.ones(()), np.ones(()), np.zeros(()))
    nodes["flat"] = Flatten()
    inputs = int(np.prod(shape))
    for k, size in enumerate((4608, 4096, 10)):
        nodes[f"fc{k}"] = Linear(rng.standard_normal((size, inputs), dtype=np.float32))
        nodes[f"out{k}"] = Neuron((size,), np.ones(()), np.ones(()), np.zeros(()))
        inputs = size
    nodes["output"] = Output()
    backend("nir").write(Network(nodes, tuple(pairwise(nodes)), Conventions(dt=1e-3)), path)
    return sum(int(node.weight.size) for node in nodes.values() if isinstance(node, (Conv, Linear)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of the command line, the simulators and Lava.")
    parser.add_argument("--samples", type=int, default=4, help="recordings that the emulator and Lava run [4]")
    parser.add_argument("--skip-lava", action="store_true", help="leave Lava out")
    options = parser.parse_args()
    if not MODEL.is_file():
        parser.error(f"{MODEL} is missing: set NEUROCOMPRESS_SHARED")

    report("neurocompress --help", f"{start_time('--help'):.2f} s")
    report("neurocompress check (N-MNIST, loihi2)", f"{start_time('check', str(MODEL), '--target', 'loihi2'):.2f} s")

    with tempfile.TemporaryDirectory() as folder:
        large = Path(folder) / "large.nir"
        parameters = write_large(large)
        for target in ("loihi1", "loihi2", "spinnaker2", "spinnaker2-16bit", "brainscales2", "tianjic"):
            taken = start_time("check", str(large), "--target", target)
            report(f"neurocompress check ({parameters / 1e6:.0f} M parameters, {target})", f"{taken:.2f} s")

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
