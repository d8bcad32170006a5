"""Ctrl-C and a polite kill in every phase: status 130 soon, the old result as it was, nothing left running or lying."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from cli_runner import DIGITS, EXAMPLE, everything
from live_processes import gone, numbers_of

import neurocompress
from neurocompress.data.spikes import load_spikes
from neurocompress.network import nodes as n
from neurocompress.network.conventions import Conventions
from neurocompress.network.graph import Network
from neurocompress.targets.nir import write

#: The command line that prints every phase at once.
AT_ONCE = ("import neurocompress.report.text.terminal_progress as p; p.FIRST_S = 0.0; "
           "from neurocompress.cli import main; main()")
#: Seconds after which a run has not obeyed. It takes two at most; this machine may be busy with other things.
PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """many.npz: so many samples that every phase of them takes its time; few.npz; a bundle; a folder of recordings."""
    folder = tmp_path_factory.mktemp("given")
    digits = load_spikes(EXAMPLE / "digits_test.npz")
    digits.first(12).save(folder / "few.npz")
    times = 40
    np.savez(folder / "many.npz", spikes=np.tile(digits.spikes, (times, 1, 1)), labels=np.tile(digits.labels, times))
    neurocompress.deploy(DIGITS, "loihi2", data=folder / "few.npz", out=folder / "bundle", method="rtn")
    (folder / "recordings").mkdir()
    for i in range(3000):
        (folder / "recordings" / f"{i:04d}.bin").write_bytes(bytes([1, 1, 0, 0, 9]) * 20)
    return folder


def stopped(arguments: list[object], phase: str, number: int = signal.SIGINT) -> str:
    """stderr of a run that is sent a signal as soon as it says that it is in `phase`."""
    command = [sys.executable, "-c", AT_ONCE, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = ""
        while phase not in said:
            line = process.stderr.readline()
            assert line, f"no phase '{phase}': {said}"
            said += line
        process.send_signal(number)
        try:
            out, err = process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"'{phase}' went on for {PATIENCE_S} s") from None
    assert process.returncode == 130, (said, err)
    assert out == ""
    assert "Traceback" not in err
    return said + err


DEPLOY = ["deploy", DIGITS, "--target", "loihi2", "--out", "{out}", "--data"]
COMPRESS = ["compress", DIGITS, "--out", "{out}", "--data"]
PHASES: list[tuple[str, list[object]]] = [
    ("reading", [*DEPLOY, "{many}"]), ("reading the data", [*DEPLOY, "{many}"]), ("calibrating", [*DEPLOY, "{many}"]),
    ("compressing", [*DEPLOY, "{many}"]), ("verifying", [*DEPLOY, "{many}", "--method", "rtn"]),
    ("calibrating", [*COMPRESS, "{many}"]), ("ordering", [*COMPRESS, "{many}", "--samples", 50, "--method", "sbc-paper",
                  "--sparsity", 0.5]),
    ("fine-tuning", [*COMPRESS, "{many}", "--samples", 200, "--finetune", 10_000]),
    ("simulating", ["simulate", DIGITS, "--out", "{out}", "--data", "{many}"]),
    ("emulating", ["simulate", "{bundle}", "--engine", "emulator", "--out", "{out}", "--data", "{many}"]),
    ("comparing", ["compare", DIGITS, "{bundle}", "--data", "{many}"]),
    ("reading recordings", ["events", "{recordings}", "--dt", 1e-3, "--steps", 10, "--out", "{out}"]),
]


@pytest.mark.parametrize(("phase", "arguments"), PHASES, ids=[f"{a[0]}-{p}" for p, a in PHASES])
def test_ctrl_c_is_obeyed_in_every_phase(phase: str, arguments: list[object], given: Path, tmp_path: Path) -> None:
    names = {name: given / f"{name}.npz" for name in ("many", "few")}
    names |= {name: given / name for name in ("bundle", "recordings")}
    out = tmp_path / "out"
    if arguments[0] == "deploy":
        shutil.copytree(given / "bundle", out)
    before = everything(tmp_path)
    said = stopped([str(a).format(out=out, **names) for a in arguments], phase)
    assert said.endswith("stopped\n") or not said.splitlines()[-1].startswith("error")
    left = {k: v for k, v in everything(tmp_path).items() if not k.startswith("out.partial")}
    assert left == before


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of 32 million weights, too large for one chip."""
    rng, sizes = np.random.default_rng(0), (2000, 4000, 4000, 2000, 10)
    nodes: dict[str, n.Node] = {"in": n.Input((sizes[0],))}
    for k, (a, b) in enumerate(pairwise(sizes)):
        nodes[f"fc{k}"] = n.Linear(rng.normal(size=(b, a)).astype(np.float32))
        nodes[f"lif{k}"] = n.Neuron((b,), np.full(b, 0.01), v_threshold=np.ones(b), v_reset=np.zeros(b))
    path = tmp_path_factory.mktemp("large") / "large.nir"
    names = [*nodes, "out"]
    write(Network(nodes | {"out": n.Output((sizes[-1],))}, tuple(pairwise(names)), Conventions(dt=1e-3)), path)
    return path


SEARCHES = [("searching the mildest", ["check", "--target", "loihi1", "--fit"]),
            ("placing the layers", ["check", "--target", "loihi1-nahuku-32"]),
            ("measuring what layers lose", ["deploy", "--target", "loihi1", "--fit", "--out", "{out}"])]


@pytest.mark.parametrize(("phase", "arguments"), SEARCHES, ids=[p for p, _ in SEARCHES])
def test_ctrl_c_is_obeyed_in_a_search_and_on_a_board(phase: str, arguments: list[str], large: Path, tmp_path: Path):
    verb, *more = (a.format(out=tmp_path / "out") for a in arguments)
    stopped([verb, large, *more], phase)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_polite_kill_is_obeyed_alike(number: int, given: Path, tmp_path: Path) -> None:
    stopped(["simulate", DIGITS, "--out", tmp_path / "o.npz", "--data", given / "many.npz"], "simulating", number)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.lava
def test_no_process_of_lava_outlives_ctrl_c(lava: str, given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NEUROCOMPRESS_LAVA_PYTHON", lava)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    program = str((given / "bundle" / "lava" / "program.py").resolve())
    shared = set(os.listdir("/dev/shm"))
    command = [sys.executable, "-c", AT_ONCE, "simulate", str(given / "bundle"), "--engine", "lava", "--data",
               str(EXAMPLE / "digits_test.npz")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        for _ in range(1200):  # until its processes run: the program, and those that it makes
            if len(numbers_of(program)) > 2 or process.poll() is not None:
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert gone(lambda: numbers_of(program))
    assert gone(lambda: set(os.listdir("/dev/shm")) - shared)
    assert gone(lambda: list(tmp_path.iterdir()))


# ------------------------------------------------------------------------------ what never returns to Python


NATIVE = """
import hashlib, sys, time
from pathlib import Path
import neurocompress.verbs.check
from neurocompress.files import whole
from neurocompress.cli import main

def said():
    print("now", file=sys.stderr, flush=True)

class Deaf:
    def __del__(self):  # KeyboardInterrupt in here is printed and forgotten
        said()
        while True:
            pass

def native(new):
    said()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)

def lost(new):
    Deaf()
    while True:
        time.sleep(0.01)

def check(*_, **__):
    with whole.whole_file(Path({out!r})) as new:
        new.write_text("half")
        {kind}(new)

neurocompress.verbs.check.check = check
main()
"""


@pytest.mark.parametrize("kind", ["native", "lost"])
def test_code_that_never_returns_to_python_is_ended_and_its_draft_goes(kind: str, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("old")
    code = NATIVE.format(out=str(tmp_path / "out"), kind=kind)
    command = [sys.executable, "-c", code, "check", str(DIGITS), "--target", "loihi2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while (line := process.stderr.readline()) != "now\n":
            assert line
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"out": "old"}
