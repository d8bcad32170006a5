"""Writes the folder of a Lava program."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Literal

import numpy as np

from neurocompress.chip.integer import IntegerNetwork
from neurocompress.errors import Refused, refuse

from . import source
from .limits import refusals

#: The files that programs have in common.
STATIC = Path(__file__).parent / "program"


def emit(network: IntegerNetwork, folder: Path, convolutions: Literal["Conv", "Sparse"] = "Conv") -> None:
    """Writes `network` as a Lava program: program.py, weights.npz and the modules it uses, in `folder`.

    convolutions: "Conv" keeps them readable; "Sparse" unrolls them into matrices, which Lava runs 3 to 6 times faster
    (2x34x34 through three convolutions: 11 instead of 37 to 67 ms per step), spike by spike the same.

    The folder appears complete or not at all; an older program in its place is replaced. Raises `Refused` with every
    problem that `refusals` finds, or when the folder can not be written.
    """
    problems = refusals(network)
    if problems:
        raise Refused(problems)
    text, weights = source.write(network, convolutions)
    folder = Path(folder)
    if folder.exists() and not (folder / "program.py").is_file() and not _is_empty(folder):
        raise refuse("it exists and holds no Lava program", where=str(folder), fix="Choose another folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
            made = Path(temporary) / "new"
            shutil.copytree(STATIC, made, ignore=shutil.ignore_patterns("__pycache__"))
            if "import Neurons" not in text:
                shutil.rmtree(made / "neurons")
            (made / "program.py").write_text(text, encoding="utf-8")
            np.savez(made / "weights.npz", **weights)  # type: ignore[arg-type]
            if folder.exists():
                folder.rename(Path(temporary) / "old")
            made.rename(folder)
    except OSError as error:
        raise refuse(f"it can not be written ({error.strerror})", where=str(folder),
                     fix="Choose a folder that you may write to") from None


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())
