"""An stdout or stderr that is closed, full or left by its reader: no traceback, no verdict that nobody could read."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from cli_runner import DIGITS, EXAMPLE

from neurocompress.chip.profile.load import profile_text

VERB = [sys.executable, "-m", "neurocompress.cli"]


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str


def shell(arguments: list[object], redirected: str) -> Ended:
    """The verb under bash with its streams redirected, and the verb's own status (of a pipe's left end)."""
    line = f"{shlex.join([*VERB, *map(str, arguments)])} {redirected}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chip that nothing fits on."""
    chip = yaml.safe_load(profile_text("loihi2"))
    chip["topology"]["cores_per_chip"]["value"] = 1
    chip["core"]["neurons"]["value"] = 50
    path = tmp_path_factory.mktemp("chip") / "tiny.yaml"
    path.write_text(yaml.safe_dump(chip))
    return path


def commands(tiny: Path) -> tuple[list[object], list[object], list[object]]:
    """One that fits, one that does not, one that is refused."""
    return (["check", DIGITS, "--target", "loihi2"], ["check", DIGITS, "--profile", tiny],
            ["check", tiny, "--target", "loihi2"])




@pytest.mark.parametrize("flags", [(), ("--json",)], ids=["table", "json"])
def test_a_status_of_a_verdict_needs_an_stdout_that_takes_it(tiny: Path, flags: tuple[str, ...]) -> None:
    for redirected, fits, unfit, sentence in ((">&-", 2, 2, "stdout: it is closed"), (">/dev/full", 2, 2, "No space"),
                                              ("| true", 0, 141, ""), ("2>&-", 0, 1, ""),
                                              ("2>/dev/full", 0, 1, ""), ("<&- >/dev/null", 0, 1, "")):
        for arguments, status in zip(commands(tiny), (fits, unfit, 2), strict=True):
            found = shell([*arguments, *flags], redirected)
            assert found.status == status, (redirected, arguments, found)
            if status != 2 or redirected.startswith("2>") or arguments[1] == tiny:
                continue
            assert sentence in found.err
            warnings, errors = [[line for line in found.err.splitlines() if line.startswith(kind)]
                                for kind in ("warning: ", "error: ")]
            assert errors
            assert [*warnings, *errors] == found.err.splitlines()


def test_a_reader_that_takes_the_first_line_gets_it_and_the_verdict_stays(tiny: Path) -> None:
    for arguments, statuses in zip(commands(tiny), ((0,), (1, 141), (2,)), strict=True):
        found = shell(arguments, "| head -1")
        assert found.status in statuses
        assert found.out.count("\n") == (found.status != 2)


def test_a_bundle_is_written_whole_whoever_stops_reading(tmp_path: Path) -> None:
    data = EXAMPLE / "digits_calibration.npz"
    arguments = ["deploy", DIGITS, "--target", "loihi2", "--data", data, "--method", "rtn"]
    for name, redirected, statuses in (("a", "2>&1 | true", (0,)), ("b", ">/dev/full 2>&1", (2,)),
                                       ("c", "2>/dev/full", (0,))):
        found = shell([*arguments, "--out", tmp_path / name], redirected)
        assert found.status in statuses, found
        assert json.loads((tmp_path / name / "report.json").read_text())["gates_passed"]


def test_a_closed_stdout_is_refused_before_any_work(tmp_path: Path) -> None:
    found = shell(["deploy", DIGITS, "--target", "loihi2", "--out", tmp_path / "b"], ">&- 2>" + str(tmp_path / "err"))
    assert found.status == 2
    assert (tmp_path / "err").read_text() == "error: stdout: it is closed. Lead it to a file, or to /dev/null\n"
    assert not (tmp_path / "b").exists()
    nobody = shell(["targets"], "<&- >&- 2>&-")
    assert nobody.status == 2
