"""Writes the folder of a Lava program."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Literal

import numpy as np

from neurocompress.chip.on_chip.integer_network import IntegerNetwork
from neurocompress.errors import Refused, refuse
from neurocompress.files.whole import whole_folder

from . import source
from .limits import refusals

#: The files that programs have in common.
STATIC = Path(__file__).parent / "program"


def emit(network: IntegerNetwork, folder: Path, convolutions: Literal["Conv", "Sparse"] = "Conv") -> None:
    """Writes `network` as a Lava program: program.py, weights.npz and the modules it uses, in `folder`.

    convolutions: "Conv" keeps them readable; "Sparse" unrolls them into matrices, which Lava runs 3 to 6 times faster
    (2x34x34 through three convolutions: 11 instead of 37 to 67 ms per step), spike by spike the same.

    The folder appears complete or not at all; an older program in its place, with nothing beside it, is replaced.
    Raises `Refused` with every problem that `refusals` finds, or when the folder can not be written.
    """
    problems = refusals(network)
    if problems:
        raise Refused(problems)
    text, weights = source.write(network, convolutions)
    folder = Path(folder)
    _refuse_others(folder)
    with whole_folder(folder, lambda: _refuse_others(folder)) as made:
        for part in static_files("import Neurons" in text):
            (made / part).parent.mkdir(exist_ok=True)
            shutil.copyfile(STATIC / part, made / part)
        (made / "program.py").write_text(text, encoding="utf-8")
        with open(made / "weights.npz", "wb") as file:
            np.savez(file, **weights)  # type: ignore[arg-type]


def static_files(neurons: bool) -> list[Path]:
    """What programs have in common, below `STATIC`; `neurons` only where a program needs them."""
    found = (p.relative_to(STATIC) for p in sorted(STATIC.rglob("*.py")))
    return [p for p in found if neurons or p.parts[0] != "neurons"]


def _refuse_others(folder: Path) -> None:
    """Raises `Refused` when `folder` holds anything that is no part of a program."""
    ours = {p.relative_to(STATIC).as_posix() for p in STATIC.rglob("*")} | {"program.py", "weights.npz"}
    if os.path.lexists(folder) and (not folder.is_dir() or any(
            p.relative_to(folder).as_posix() not in ours and "__pycache__" not in p.relative_to(folder).parts
            for p in folder.rglob("*"))):
        raise refuse("it exists and holds no Lava program alone", file=str(folder), fix="Choose another folder")
