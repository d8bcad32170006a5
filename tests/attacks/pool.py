"""A process that runs cases, started again when a case ends it; a case that hangs is ended."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

#: Seconds by the clock after which a case is ended: the machine may be busy with other work.
PATIENCE = 240.0


def outcomes(seed: int, cases: Iterable[tuple[int, str | None]]) -> Iterator[dict[str, Any]]:
    """What each case came to; "fault" is "" where all is well."""
    with tempfile.TemporaryDirectory(prefix="attacks-") as root:
        process: subprocess.Popen[str] | None = None
        try:
            for number, kind in cases:
                if process is None:
                    process = _started(seed, Path(root))
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(f"{number} {kind or ''}\n")
                process.stdin.flush()
                ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
                line = process.stdout.readline() if ready else ""
                if line:
                    yield json.loads(line)
                    continue
                process.kill()
                status = process.wait()
                process.communicate()
                why = "hangs" if not ready else f"ends the process ({status})"
                yield {"number": number, "status": status, "fault": why, "command": "", "out": "", "err": ""}
                process = None
        finally:
            if process is not None:
                process.kill()
                process.communicate()


def _started(seed: int, root: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.attacks.worker", str(seed), str(root)], text=True, bufsize=1,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).resolve().parents[2])
