"""Runs a verb again and again, killed at another step of its output each time, and says what it left.

Run as a program of its own (`python kill_points.py FOLDER ARGUMENTS...`, in FOLDER): each run is a fork, so that
imports are paid once. A step is every folder made, file opened to be written, raw write (half of which is done),
rename and removal below FOLDER. What is printed is one JSON object: steps, and a list of faults in words.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
os.fsync = lambda descriptor: None  # a kill, not a power cut, is tried: what is written is there for all to read

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
#: Audit events that change a folder, with the position of their path.
CHANGES = {"os.mkdir": 0, "os.rename": 0, "os.remove": 0, "os.rmdir": 0, "os.link": 1, "os.symlink": 1}


class Steps:
    """Counts the steps below `folder`; at number `last` the process is killed, as by the kernel: nothing is cleaned."""

    def __init__(self, folder: Path, last: int):
        self.folder, self.last, self.count = str(folder.resolve()), last, 0

    def take(self) -> None:
        self.count += 1
        if self.count == self.last:
            os.kill(os.getpid(), signal.SIGKILL)

    def below(self, path: object) -> bool:
        return isinstance(path, (str, os.PathLike)) and os.path.abspath(path).startswith(self.folder)

    def audit(self, event: str, given: tuple[Any, ...]) -> None:
        if event in CHANGES:
            # shutil.rmtree removes by a name and a descriptor of the folder, whose path is not known here
            if self.below(given[CHANGES[event]]) or (isinstance(given[-1], int) and given[-1] > 2):
                self.take()
        elif event == "open" and isinstance(given[2], int) and given[2] & WRITING and self.below(given[0]):
            self.take()

    def install(self) -> None:
        steps, real = self, io.open

        class Torn(io.FileIO):
            """Each write is two, the process may be killed before, between and after."""

            def write(self, data: Any) -> int | None:  # type: ignore[override]
                steps.take()
                view = memoryview(data).cast("B")
                done = super().write(view[: max(1, len(view) // 2)])
                steps.take()
                return done

        def opened(file: Any, mode: str = "r", buffering: int = -1, encoding: str | None = None,
                   errors: str | None = None, newline: str | None = None, *more: Any, **named: Any) -> Any:
            if not set(mode) & set("wax+") or not steps.below(file):
                return real(file, mode, buffering, encoding, errors, newline, *more, **named)
            raw = Torn(os.fspath(file), mode.replace("b", "").replace("t", ""))
            held = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)  # type: ignore[type-var]
            return held if "b" in mode else io.TextIOWrapper(held, encoding, errors, newline)  # type: ignore[type-var]

        builtins.open = io.open = opened
        sys.addaudithook(self.audit)


def forked(work: Callable[[], int]) -> int:
    """The exit status of `work` in a fork; negative for the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            os._exit(work())
        os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def verb(arguments: list[str]) -> int:
    """The status of the command line; what it prints goes to a file beside nothing of its output."""
    from neurocompress.cli import main

    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        try:
            main(arguments)
        except SystemExit as end:
            return int(end.code or 0)
    return 98


def content(path: Path) -> dict[str, bytes] | None:
    """All that is at `path`, None for nothing."""
    if path.is_file():
        return {"": path.read_bytes()}
    if not path.is_dir():
        return None
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def sweep(folder: Path, out: Path, run: Callable[[], int], heal: Callable[[], object], last: int) -> dict[str, Any]:
    """Kills `run` at each of its `last` last steps and at one in seven before (at all for 0). folder: as it is
    before, with an old result at `out`.

    heal: what a reader does first. From every kind of state that is left the next run is tried as well.
    """
    before = {p: content(p) for p in folder.iterdir()}
    old, spare, counted = content(out), folder.with_name(folder.name + "-before"), folder.with_name("steps")
    shutil.copytree(folder, spare)

    def killed(k: int) -> Callable[[], int]:
        def work() -> int:
            steps = Steps(folder, k)
            steps.install()
            status = run()
            counted.write_text(str(steps.count))
            return status

        return work

    if forked(killed(0)) != 0:
        return {"steps": 0, "faults": ["the verb fails"]}
    new, names, total = content(out), sorted(p.name for p in folder.iterdir()), int(counted.read_text())
    faults = ["the new result does not differ from the old one"] if new in (None, old) else []
    seen = set()
    for k in range(1, total + 1):
        if last and k <= total - last and k % 7:
            continue
        shutil.rmtree(folder)
        shutil.copytree(spare, folder)
        if (status := forked(killed(k))) != -signal.SIGKILL:
            faults.append(f"step {k}: status {status}")
        left = kind(folder, content(out) == new)
        heal()
        if content(out) not in (old, new):
            faults.append(f"step {k}: neither the old result nor the new one is there")
        faults += [f"step {k}: {p.name} changed" for p, was in before.items() if p != out and content(p) != was]
        if left in seen:
            continue
        seen.add(left)
        if (again := forked(run)) != 0:
            faults.append(f"step {k}: the next run ends with {again}")
        if content(out) != new:
            faults.append(f"step {k}: the next run gives something else")
        if sorted(p.name for p in folder.iterdir()) != names:
            faults.append(f"step {k}: the next run leaves {sorted(p.name for p in folder.iterdir())}")
    return {"steps": total, "faults": faults, "next runs": len(seen)}


def kind(folder: Path, new: bool) -> tuple[object, ...]:
    """What is told apart of what a killed run left: whether the result is new, and which hidden things lie around."""
    hidden = [p for p in folder.iterdir() if p.name.startswith(".") or p.suffix == ".partial"]
    return new, tuple(sorted((p.suffix, *sorted({q.suffix or q.name for q in p.iterdir()})) for p in hidden))


def written(model: Path, data: Path, out: Path) -> Callable[[], int]:
    """What `deploy` does with its output: the place is asked for, then the bundle written."""
    from neurocompress.files import bundle
    from neurocompress.verbs import deploy as deployment

    def taken(*arguments: Any) -> None:
        kept.append(arguments)

    kept: list[tuple[Any, ...]] = []
    real, deployment.write_bundle = deployment.write_bundle, taken
    deployment.deploy(model, "loihi2", data=data, out=out, method="rtn")

    def run() -> int:
        bundle.writable(out, False, (model, data))
        real(*kept[0])
        return 0

    return run


def main() -> None:
    folder, out, *arguments = sys.argv[1:]
    exchanged, last = "--two-renames" not in arguments, 40 if "--last" in arguments else 0
    arguments = [a for a in arguments if a not in ("--two-renames", "--last")]
    import torch

    import neurocompress.compression.oneshot
    import neurocompress.files.whole as whole
    import neurocompress.report.text.runs
    import neurocompress.report.text.tables
    import neurocompress.targets.lava
    from neurocompress.chip.on_chip.integer_file import load

    torch.set_num_threads(1)
    if not exchanged:
        whole.exchange = lambda a, b: False

    def emitted() -> int:
        neurocompress.targets.lava.emit(load(Path(arguments[1])), Path(out))  # type: ignore[arg-type]
        return 0

    run = emitted if arguments[0] == "emit" else lambda: verb([*arguments, "--out", out])
    if arguments[0] == "deploy":  # all that it does before it writes is done once
        run = written(Path(arguments[1]), Path(arguments[2]), Path(out))
    found = sweep(Path(folder), Path(out), run, lambda: whole.heal(Path(out)), last)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
