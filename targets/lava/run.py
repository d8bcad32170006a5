"""Runs an emitted program in a Python of its own, with a time limit."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurocompress.errors import refuse
from neurocompress.files.whole import draft
from neurocompress.stopping import asked, on_stop

from .endings import of_the_system, of_this_machine
from .guarded import stop_group
from .interpreter import lava_python

#: Longest temporary folder, in bytes: Lava's shared memory is managed over a socket "/pymp-xxxxxxxx/listener-xxxxxxxx"
#: in a draft (32 bytes more) below it, and a socket's whole path has at most 107 (unix(7)).
LONGEST_FOLDER = 107 - 32 - 32


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
    Raises `Refused` for data or names that do not fit, when no interpreter is found, when time runs out, and for what
    this machine lacks (shared memory, space, processes, memory);
    RuntimeError with the end of Lava's messages when the program fails.
    """
    folder = Path(folder).resolve()
    if not (folder / "program.py").is_file():
        raise refuse("there is no program.py", where=str(folder), fix="Give the lava folder of a bundle")
    interpreter = lava_python(python)
    place = ""
    try:
        place = _folder_for_sockets()
        with draft(Path(place)) as scratch:
            data, out = scratch / "input", scratch / "out.npz"
            with open(data, "wb") as file:
                np.savez(file, spikes=spikes)
            command = [interpreter, str(folder / "program.py"), f"--data={data}", f"--out={out}"]
            command += ["--states"] if states else []
            command += ["--record", *record] if record else []
            status, messages = run_limited(command, timeout_s, scratch)
            if status == 0 and out.is_file():
                return read(out)
    except OSError as error:
        raise of_the_system(error, folder, place) from None
    if status is None:
        raise refuse(f"the Lava program did not finish in {timeout_s:g} s", where=str(folder),
                     fix="Use fewer samples or a larger time limit")
    if asked():  # its processes were stopped, or met the signal themselves, before Python told us
        raise KeyboardInterrupt
    if (refused := of_this_machine(status, messages, folder, place)) is not None:
        raise refused
    tail = "\n".join(messages.strip().splitlines()[-15:])
    if status == 2:
        raise refuse(tail.replace(f"{data}: ", ""), where=str(folder))
    raise RuntimeError(f"{folder / 'program.py'} ended with status {status}:\n{tail}")


def read(path: Path) -> LavaRun:
    """The result file of a program (`--out`)."""
    with np.load(path, allow_pickle=False) as arrays:
        kinds: dict[str, dict[str, np.ndarray]] = {"spikes": {}, "u": {}, "v": {}, "stream": {}}
        for key in arrays.files:
            kind, _, name = key.partition(".")
            if kind in kinds:
                kinds[kind][name] = arrays[key]
        return LavaRun(**kinds, period=int(arrays["period"]), seconds_per_step=float(arrays["seconds_per_step"]))


def run_limited(command: list[str], timeout_s: float, scratch: Path) -> tuple[int | None, str]:
    """Runs a Python program and all its children for at most timeout_s. Returns its exit status and what it printed.

    command: an interpreter, a file and arguments. scratch: its temporary folder. The status is None when time ran out;
    then nothing of it is left running. Nor is it when this process is killed: see guarded.py, which removes `scratch`
    then.
    """
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    environment["TMPDIR"] = str(scratch)
    guarded = [command[0], str(Path(__file__).with_name("guarded.py")), str(scratch), *command[1:]]
    # messages go to a file: children that outlive their parent would keep a pipe open
    with tempfile.TemporaryFile("w+", errors="replace", dir=scratch) as log:
        process = subprocess.Popen(guarded, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment,
                                   start_new_session=True)
        status: int | None = None
        with on_stop(lambda: os.killpg(process.pid, signal.SIGTERM)):  # the rest is done by the watcher
            try:
                status = process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                pass
            finally:
                stop_group(process.pid, process.poll)
                process.wait()
                _dismiss(process)
        log.seek(0)
        return status, log.read()


def _dismiss(process: subprocess.Popen[bytes]) -> None:
    """All is done: the watcher has nothing to end."""
    assert process.stdin is not None
    with contextlib.suppress(OSError):  # where it is gone
        os.write(process.stdin.fileno(), b".")
    process.stdin.close()


def _folder_for_sockets() -> str:
    """The temporary folder, or one in its place where its path is too long for Lava's sockets. Raises OSError."""
    usual = tempfile.gettempdir()
    if len(os.fsencode(usual)) <= LONGEST_FOLDER:
        return usual
    return next((folder for folder in ("/tmp", "/var/tmp", "/dev/shm") if os.access(folder, os.W_OK | os.X_OK)), usual)
