"""Runs cases inside one process, one after the other, and reports what each came to.

Reads "number" or "number kind" lines on stdin and answers each with one line of JSON on stdout.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import resource
import shutil
import sys
import tempfile
import time
import traceback
from functools import cache
from pathlib import Path
from typing import Any

#: A line that says what a slow command is at.
PROGRESS = re.compile(r"\[\d+:\d\d\] ")
#: What one command may take.
SECONDS, BYTES = 20.0, 2 * 2**30


@cache
def base_bundles() -> tuple[Path, ...]:
    """Bundles of a small network on chips of each arithmetic, made once for a process."""
    import random

    from tests.attacks import nir_files

    folder = Path(tempfile.mkdtemp(prefix="bundles-"))
    model = folder / "m.nir"
    nir_files.write(model, nir_files.bases()[0], random.Random(0))
    for chip in ("loihi2", "spinnaker2", "brainscales2"):
        status, _, err = run(["deploy", model, "--target", chip, "--method", "rtn", "--out", folder / chip])
        assert status in (0, 1), err
    return tuple(folder / chip for chip in ("loihi2", "spinnaker2", "brainscales2"))


def run(arguments: list[object]) -> tuple[int, str, str]:
    """Status, stdout and stderr of a command, inside this process."""
    from neurocompress.cli import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            if arguments[0] == "aedat":
                return _aedat(Path(str(arguments[1]))), out.getvalue(), err.getvalue()
            main([str(a) for a in arguments])
        except SystemExit as ended:
            return int(ended.code or 0), out.getvalue(), err.getvalue()
    raise AssertionError("main returned")


def _aedat(path: Path) -> int:
    """What no verb reads yet: both readers of AEDAT files."""
    from neurocompress.data.aedat import read_aedat2, read_aedat3
    from neurocompress.errors import Refused

    for read in (read_aedat2, read_aedat3):
        try:
            read(path)
        except Refused as refused:
            print("\n".join(f"error: {p}" for p in refused.problems), file=sys.stderr)
        except Exception:
            traceback.print_exc()
            return 3
    return 0


def fault(arguments: list[object], status: int, out: str, err: str, seconds: float, peak: int) -> str:
    """What is wrong with an outcome, or ""."""
    if status not in (0, 1, 2):
        return f"status {status}"
    if "Traceback" in err or "Warning" in err:
        return "a traceback or a warning"
    if not all(c.isprintable() or c == "\n" for c in out + err):
        return "characters that a terminal obeys"
    if "not enough memory" in err or peak > BYTES:
        return f"{peak / 2**20:.0f} MB"
    if seconds > SECONDS:
        return f"{seconds:.0f} s"
    said = [line for line in err.splitlines() if not PROGRESS.match(line)]
    if status == 2 and not (said and all(line.startswith("error: ") for line in said)):
        return "a refusal without a sentence, or with a line of its own"
    if "--json" in arguments:
        try:
            json.loads(out, parse_constant=lambda name: 1 / 0)
        except (ValueError, ZeroDivisionError):
            return "no JSON"
    return ""


def outcome(seed: int, number: int, kind: str | None, folder: Path) -> dict[str, Any]:
    from tests.attacks.cases import case

    arguments = case(seed, number, folder, kind)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
    start = time.process_time()
    status, out, err = run(arguments)
    seconds, peak = time.process_time() - start, _peak()
    return {"number": number, "status": status, "seconds": round(seconds, 2), "peak": peak,
            "fault": fault(arguments, status, out, err, seconds, peak),
            "command": " ".join(map(str, arguments))[:300], "out": out[-600:], "err": err[-1500:]}


def _peak() -> int:
    """Largest resident memory since it was last asked to start anew, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0


def main() -> None:
    """One process: limits, then cases as they are asked for."""
    seed, root = int(sys.argv[1]), Path(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import torch

    import neurocompress.cli  # noqa: F401

    torch.set_num_threads(1)
    held = next(int(line.split()[1]) * 1024 for line in Path("/proc/self/status").read_text().splitlines()
                if line.startswith("VmData"))
    resource.setrlimit(resource.RLIMIT_DATA, (held + BYTES, held + BYTES))
    tempfile.tempdir = str(root)
    for line in sys.stdin:
        number, *kind = line.split()
        folder = Path(tempfile.mkdtemp(dir=root))
        found = outcome(seed, int(number), kind[0] if kind else None, folder)
        shutil.rmtree(folder, ignore_errors=True)
        answers.write(json.dumps(found) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
