"""A Python 3.10 that has Lava: named by the user, or made once with uv and kept in the user's cache."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from neurocompress.errors import refuse
from neurocompress.files.whole import draft

from .endings import of_this_machine

#: The environment variable that names an interpreter.
VARIABLE = "NEUROCOMPRESS_LAVA_PYTHON"
LAVA = "lava-nc==0.10.0"
#: Seconds that making the environment may take; it downloads about 100 MB.
INSTALL_TIMEOUT_S = 900.0

_FIX = f"Set {VARIABLE} to a Python 3.10 that has {LAVA}, or install uv (pip install uv) and let it make one"


def lava_python(python: str | None = None) -> str:
    """Path of a Python 3.10 interpreter with lava-nc.

    python: one to use; else the one that NEUROCOMPRESS_LAVA_PYTHON names; else that of an environment in the user's
    cache (XDG_CACHE_HOME, or ~/.cache), which uv makes the first time. Raises `Refused` when there is none.
    """
    given = python or os.environ.get(VARIABLE)
    if given:
        return _checked(given, "argument python" if python else VARIABLE)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "neurocompress"
    environment = cache / f"{LAVA.replace('==', '-')}-py3.10"
    if not environment.is_dir():
        _make(environment)
    return _checked(str(environment / "bin" / "python"), str(environment))


def _checked(python: str, where: str) -> str:
    probe = "import sys, importlib.metadata as m; print(*sys.version_info[:2], m.version('lava-nc'))"
    try:
        found = subprocess.run([python, "-c", probe], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        if isinstance(error, OSError) and (refused := of_this_machine(0, str(error), where, "")):
            raise refused from None
        raise refuse(f"'{python}' does not run ({error})", where=where, fix=_FIX) from None
    if found.returncode != 0 or not found.stdout.startswith("3 10 "):
        what = f"is Python {'.'.join(found.stdout.split()[:2])}" if found.stdout else "has no lava-nc"
        raise refuse(f"'{python}' {what}", where=where, fix=_FIX)
    return python


def _make(environment: Path) -> None:
    """Makes the environment beside its place and moves it there complete."""
    uv = _uv()
    try:
        environment.parent.mkdir(parents=True, exist_ok=True)
        with draft(environment.parent) as folder:
            made = folder / "env"
            _uv_run([*uv, "venv", "--quiet", "--relocatable", "--python", _python_3_10(), str(made)])
            _uv_run([*uv, "pip", "install", "--quiet", "--python", str(made / "bin" / "python"), LAVA])
            try:
                made.rename(environment)
            except OSError:
                if not environment.is_dir():  # else another process was faster, and its environment serves as well
                    raise
    except OSError as error:
        raise refuse(f"the Lava environment can not be made ({error.strerror})", where=str(environment),
                     fix=_FIX) from None


def _python_3_10() -> str:
    """What uv makes the environment from. It looks at pyenv's shims, which hide versions that are not selected."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    return next((str(p) for p in pyenv.glob("versions/3.10.*/bin/python3.10")), "3.10")


def _uv() -> list[str]:
    if found := shutil.which("uv"):
        return [found]
    if importlib.util.find_spec("uv"):
        return [sys.executable, "-m", "uv"]
    raise refuse("Lava needs a Python 3.10 of its own, and neither one nor uv is here", fix=_FIX)


def _uv_run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise refuse(f"uv did not finish in {INSTALL_TIMEOUT_S:.0f} s", fix=_FIX) from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise refuse(f"uv can not make a Python 3.10 with Lava: {lines[-1] if lines else 'no reason given'}", fix=_FIX)
