"""Runs many emitted Lava programs in one process of Python 3.10, which spares them the start of Lava.

Imported by tests: `run_folders`. Run by itself under Python 3.10: `lava_driver.py JOBS.json`.
"""

from __future__ import annotations

import json
import runpy
import sys
import tempfile
from pathlib import Path


def run_folders(jobs, record=None, states=True, python=None, timeout_s=600.0):  # type: ignore[no-untyped-def]
    """Runs each (folder, spikes) of `jobs`; returns their `LavaRun`s, in order.

    spikes: integers (samples, steps, *input shape). record: for each job, the populations to record besides the
    output. states: record u and v of these as well; it doubles the time of a step. Raises RuntimeError with Lava's
    messages when a program fails or all of them take longer than timeout_s.
    """
    import numpy as np

    from neurocompress.targets.lava.interpreter import lava_python
    from neurocompress.targets.lava.run import read, run_limited

    with tempfile.TemporaryDirectory() as scratch:
        commands = []
        for i, (folder, spikes) in enumerate(jobs):
            data, out = Path(scratch) / f"{i}.in.npz", Path(scratch) / f"{i}.npz"
            np.savez(data, spikes=spikes)
            names = list(record[i]) if record else []
            commands.append([str(Path(folder) / "program.py"), "--data", str(data), "--out", str(out),
                             *(["--states"] if states else []), *(["--record", *names] if names else [])])
        todo = Path(scratch) / "jobs.json"
        todo.write_text(json.dumps(commands), encoding="utf-8")
        status, messages = run_limited([lava_python(python), __file__, str(todo)], timeout_s, Path(scratch))
        if status != 0:
            raise RuntimeError(f"Lava ended with status {status} (None: no time left):\n{messages[-4000:]}")
        return [read(Path(scratch) / f"{i}.npz") for i in range(len(jobs))]


def main(todo: str) -> None:
    for command in json.loads(Path(todo).read_text(encoding="utf-8")):
        # each program sees its own modules, as if it were the only one
        sys.path[0] = str(Path(command[0]).parent)
        for name in list(sys.modules):
            if name.split(".")[0] in ("stream", "neurons", "spike_io"):
                del sys.modules[name]
        sys.argv = command
        print(command[0], flush=True)
        runpy.run_path(command[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1])
