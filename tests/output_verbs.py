"""The verbs that write, small enough to be run hundreds of times, and an older result for each to replace."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from layer_problems import drawn_network, drawn_spikes

import neurocompress
from neurocompress.backends import backend
from neurocompress.chip.on_chip import integer_file
from neurocompress.data.spikes import SpikeData
from neurocompress.targets.lava import emit
from neurocompress.verbs.compress import compress_file


def prepare(folder: Path) -> None:
    """Inputs: a network of three layers, five samples of spikes, a recording, and bundles of 8 and 4 bits."""
    backend("nir").write(drawn_network(2), folder / "model.nir")
    SpikeData(drawn_spikes(2)[:5].astype(np.uint8), None, "drawn").save(folder / "data.npz")
    (folder / "recording.bin").write_bytes(bytes([1, 1, 0, 0, 9]) * 20)
    for bits in (8, 4):
        neurocompress.deploy(folder / "model.nir", "loihi2", data=folder / "data.npz", out=folder / f"b{bits}",
                             method="rtn", bits=bits)


def nothing(given: Path, out: Path) -> None:
    """The first result."""


def old_bundle(given: Path, out: Path) -> None:
    shutil.copytree(given / "b4", out)


def old_network(given: Path, out: Path) -> None:
    compress_file(given / "model.nir", given / "data.npz", out, bits=3)


def old_spikes(given: Path, out: Path) -> None:
    SpikeData(np.ones((1, 2, 3), np.uint8), None, "old").save(out)


def old_output(given: Path, out: Path) -> None:
    with open(out, "wb") as file:
        np.savez(file, output=np.ones((1, 2, 3)))


def old_program(given: Path, out: Path) -> None:
    emit(integer_file.load(given / "b4" / "integer.npz"), out)  # type: ignore[arg-type]


def commands(given: Path) -> dict[str, tuple[list[str], Callable[[Path, Path], None]]]:
    """By verb its arguments without --out, and what makes an older result."""
    model, data = str(given / "model.nir"), str(given / "data.npz")
    return {
        "deploy": (["deploy", model, "--target", "loihi2", "--data", data, "--method", "rtn"], old_bundle),
        "compress": (["compress", model, "--method", "rtn", "--bits", "4"], old_network),
        "simulate": (["simulate", model, "--data", data, "--record", "lif1"], old_output),
        "events": (["events", str(given / "recording.bin"), "--dt", "0.001", "--steps", "3"], old_spikes),
    }
