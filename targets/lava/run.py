"""Runs an emitted program in a Python of its own, with a time limit."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurocompress.errors import refuse
from neurocompress.stopping import asked, on_stop
from neurocompress.whole import draft

from .interpreter import lava_python

#: Seconds that a stopped program gets to remove its shared memory.
STOP_S = 0.8
#: Longest temporary folder, in bytes: Lava's shared memory is managed over a socket "/pymp-xxxxxxxx/listener-xxxxxxxx"
#: below it, and a socket's whole path has at most 107 (unix(7)).
LONGEST_FOLDER = 107 - 32


@dataclass(frozen=True, eq=False)
class LavaRun:
    """What a run gave. Dicts are keyed by the names of the recorded populations; the output is always among them.

    spikes: (samples, steps, *shape) integers, each population on its own clock (its latency taken away).
    u, v: states after each step, aligned as spikes; empty unless asked for.
    stream: (samples * period, *shape), the spikes of all steps as they came. Sample s of a population starts at
        step s * period + latency. What native processes send between samples is in there, too.
    seconds_per_step: wall time of the simulation without its start, divided by its steps.
    """

    spikes: dict[str, np.ndarray]
    u: dict[str, np.ndarray]
    v: dict[str, np.ndarray]
    stream: dict[str, np.ndarray]
    period: int
    seconds_per_step: float


def run(
    folder: Path,
    spikes: np.ndarray,
    record: Sequence[str] = (),
    states: bool = False,
    python: str | None = None,
    timeout_s: float = 3600.0,
) -> LavaRun:
    """Runs the program in `folder` on `spikes`, whole numbers (samples, steps, *input shape), or the real values of a
    network with a graded input.

    record: populations to record besides the output. states: record u and v of all of these as well (slow).
    python: interpreter; see `interpreter.lava_python` for the default.
    Raises `Refused` for data or names that do not fit, when no interpreter is found and when time runs out;
    RuntimeError with the end of Lava's messages when the program fails.
    """
    folder = Path(folder).resolve()
    if not (folder / "program.py").is_file():
        raise refuse("there is no program.py", where=str(folder), fix="Give the lava folder of a bundle")
    interpreter = lava_python(python)
    with draft(Path(tempfile.gettempdir())) as scratch:
        data, out = scratch / "input", scratch / "out.npz"
        with open(data, "wb") as file:
            np.savez(file, spikes=spikes)
        command = [interpreter, str(folder / "program.py"), f"--data={data}", f"--out={out}"]
        command += ["--states"] if states else []
        command += ["--record", *record] if record else []
        status, messages = run_limited(command, timeout_s)
        if status is None:
            raise refuse(f"the Lava program did not finish in {timeout_s:g} s", where=str(folder),
                         fix="Use fewer samples or a larger time limit")
        tail = "\n".join(messages.strip().splitlines()[-15:])
        if status == 2:
            raise refuse(tail.replace(f"{data}: ", ""), where=str(folder))
        if asked():  # its processes were stopped, or met the signal themselves, before Python told us
            raise KeyboardInterrupt
        if status != 0 or not out.is_file():
            raise RuntimeError(f"{folder / 'program.py'} ended with status {status}:\n{tail}")
        return read(out)


def read(path: Path) -> LavaRun:
    """The result file of a program (`--out`)."""
    with np.load(path, allow_pickle=False) as arrays:
        kinds: dict[str, dict[str, np.ndarray]] = {"spikes": {}, "u": {}, "v": {}, "stream": {}}
        for key in arrays.files:
            kind, _, name = key.partition(".")
            if kind in kinds:
                kinds[kind][name] = arrays[key]
        return LavaRun(**kinds, period=int(arrays["period"]), seconds_per_step=float(arrays["seconds_per_step"]))


def run_limited(command: list[str], timeout_s: float) -> tuple[int | None, str]:
    """Runs a command and all its children for at most timeout_s. Returns its exit status and what it printed.

    The status is None when time ran out; then nothing of it is left running.
    """
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    environment["TMPDIR"] = _folder_for_sockets()
    # messages go to a file: children that outlive their parent would keep a pipe open
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                                   start_new_session=True)
        status: int | None = None
        with on_stop(lambda: os.killpg(process.pid, signal.SIGKILL)):
            try:
                status = process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                pass
            finally:
                _stop_group(process)
        log.seek(0)
        return status, log.read()


def _folder_for_sockets() -> str:
    """The temporary folder, or one in its place where its path is too long for Lava's sockets."""
    usual = tempfile.gettempdir()
    if len(os.fsencode(usual)) <= LONGEST_FOLDER:
        return usual
    return next((folder for folder in ("/tmp", "/var/tmp", "/dev/shm") if os.access(folder, os.W_OK | os.X_OK)), usual)


def _stop_group(process: subprocess.Popen[bytes]) -> None:
    """Ends what is left of the group. SIGTERM spares the process that removes Lava's shared memory; it gets time."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
        until = time.monotonic() + STOP_S
        while time.monotonic() < until:
            process.poll()
            os.killpg(process.pid, 0)
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
