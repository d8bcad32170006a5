"""Runs the command line inside the test process and hands back what a user sees."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from neurocompress.cli import main

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "digits"
DIGITS = EXAMPLE / "digits.nir"


@dataclass(frozen=True)
class Seen:
    """Exit status, stdout and stderr of one command."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on stdout; NaN and Infinity, which are no JSON, are refused."""

        def refused(name: str) -> None:
            raise AssertionError(f"{name} in JSON")

        found = json.loads(self.out, parse_constant=refused)
        assert isinstance(found, dict)
        return found


Run = Callable[..., Seen]


def runner(capsys: pytest.CaptureFixture[str]) -> Run:
    """A function from arguments to `Seen`."""

    def run(*arguments: object) -> Seen:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(a) for a in arguments])
        seen = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Seen(ended.value.code, seen.out, seen.err)

    return run


def everything(folder: Path) -> dict[str, bytes]:
    """Every file and folder below `folder`, hidden ones too, with its content."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in sorted(folder.rglob("*"))}
