"""Progress: a bar on a terminal, plain lines elsewhere, nothing on stdout, and no phase of which it says nothing."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cli_runner import DIGITS, EXAMPLE, runner

import neurocompress as nc
from neurocompress.data.spikes import load_spikes
from neurocompress.report.text import terminal_progress as module
from neurocompress.report.text.terminal_progress import Lines, progress
from neurocompress.verbs import simulate as verbs


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_S", 2.0)


def test_a_line_for_each_phase_and_one_every_ten_seconds_of_it(two_seconds: None) -> None:
    clock, written = Clock(), list[str]()
    lines = Lines(written.append, clock, "reading")

    def at(seconds: float) -> None:
        clock.now = 100.0 + seconds
        lines.look()

    lines.told("reading the model", 0, 0)
    at(1.9)
    assert written == []
    lines.told("calibrating", 0, 128)  # the phases of the first two seconds stay unsaid, but the one that lasts
    at(2.0)
    assert written == ["[0:02] calibrating: 0 of 128 (0 %)"]
    for k in range(1, 120):
        lines.told("calibrating", k, 128)
        at(2.0 + k / 10)
    assert written[1:] == ["[0:12] calibrating: 100 of 128 (78 %)"]
    lines.told("compressing\x1b[31m", 1, 12)
    assert written[2:] == ["[0:13] compressing\\x1b[31m: 1 of 12 (8 %)"]
    at(75)
    lines.told("simulating", 4000, 0)
    assert written[3:] == ["[1:15] compressing\\x1b[31m: 1 of 12 (8 %)", "[1:15] simulating: 4,000 done"]


def test_phases_that_take_turns_get_a_line_each_and_one_every_ten_seconds(two_seconds: None) -> None:
    """Every stage of a walk is calibrated and then compressed."""
    clock, written = Clock(), list[str]()
    lines = Lines(written.append, clock, "reading")
    for stage in range(40):
        for phase in ("calibrating", "compressing"):
            clock.now += 0.25
            lines.told(phase, stage, 40)
    assert [line.split(":")[1] for line in written] == ["02] compressing", "02] calibrating", "12] calibrating"]


def test_a_phase_that_says_nothing_still_gets_its_lines(two_seconds: None) -> None:
    clock, written = Clock(), list[str]()
    lines = Lines(written.append, clock, "reading")
    lines.told("searching the mildest compression that fits", 0, 0)
    for second in range(45):
        clock.now = 100.0 + second
        lines.look()
    assert [line[:6] for line in written] == ["[0:02]", "[0:12]", "[0:22]", "[0:32]", "[0:42]"]
    assert all(line.endswith("searching the mildest compression that fits") for line in written)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("terminal", "as_json", "kind"), [
    (True, False, "bar"), (True, True, ""), (False, False, "lines"), (False, True, "")])
def test_it_goes_to_stderr_alone(
    terminal: bool, as_json: bool, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stderr = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(module, "FIRST_S", 0.0)
    with progress(as_json) as told:
        told("calibrating", 1, 3)
        told("compressing [bold]'x\x1b[2J'", 0, 0)
        told("calibrating", 3, 3)
    assert capsys.readouterr().out == ""
    assert "\x1b[2J" not in stderr.getvalue()
    assert bool(stderr.getvalue()) == bool(kind)
    if kind == "lines":
        assert "\x1b" not in stderr.getvalue()
        assert [line.partition("] ")[2] for line in stderr.getvalue().splitlines()] == [
            "calibrating: 1 of 3 (33 %)", "compressing [bold]'x\\x1b[2J'"]
    if kind == "bar":
        assert "calibrating" in stderr.getvalue()
    assert not [t for t in threading.enumerate() if t.name == "progress"]


def test_a_terminal_that_can_not_move_its_cursor_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(module, "FIRST_S", 0.0)
    with progress(False) as told:
        told("verifying", 1, 4)
        assert isinstance(sys.stderr, Terminal)
    assert sys.stderr.getvalue().endswith("verifying: 1 of 4 (25 %)\n")


def test_stderr_that_is_closed_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(module, "FIRST_S", 0.0)
    with progress(False) as told:
        stderr.close()
        told("verifying", 1, 4)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deployed") / "digits"
    nc.deploy(DIGITS, "loihi2", data=load_spikes(EXAMPLE / "digits_test.npz").first(8), out=folder, method="rtn")
    return folder


def test_every_verb_tells_the_phases_that_it_goes_through(bundle: Path, tmp_path: Path) -> None:
    data = load_spikes(EXAMPLE / "digits_test.npz").first(8)
    runs: dict[str, tuple[Callable[..., object], list[str]]] = {
        "check": (lambda p: nc.check(DIGITS, "loihi1", progress=p), ["reading the model", "placing the layers"]),
        "check --fit": (lambda p: nc.check_compressed(DIGITS, "loihi1", progress=p), ["searching the mildest"]),
        "float": (lambda p: nc.simulate(DIGITS, data, progress=p), ["reading the model", "reading the data", "simul"]),
        "emulator": (lambda p: nc.simulate(bundle, data, engine="emulator", progress=p), ["reading the b", "emul"]),
        "compare": (lambda p: nc.compare(DIGITS, bundle, data, progress=p), ["reading the models", "comparing"]),
        "deploy": (lambda p: nc.deploy(DIGITS, "loihi2", data=data, out=tmp_path / "b", progress=p), [
            "reading the model", "reading the data", "calibrating", "compressing", "building the chip's network",
            "verifying", "writing the bundle"]),
    }
    for name, (run, wanted) in runs.items():
        told: list[tuple[str, int, int]] = []
        run(lambda *what, told=told: told.append(what))
        phases = list(dict.fromkeys(phase for phase, *_ in told))
        at = [next((k for k, phase in enumerate(phases) if phase.startswith(start)), -1) for start in wanted]
        assert -1 not in at, (name, phases)
        assert at == sorted(at), (name, phases)
        assert all(0 <= done <= (total or done) for _, done, total in told), name


def test_lava_is_named_while_it_starts(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Run:
        def __init__(self) -> None:
            self.spikes, self.seconds_per_step = {"lif2": np.zeros((8, 32, 10))}, 0.1

    class Backend:
        @staticmethod
        def run(*_: object, **__: object) -> Run:
            assert told[-1][0] == "starting Lava and running it"
            return Run()

    told: list[tuple[str, int, int]] = []
    monkeypatch.setattr("neurocompress.backends.backend", lambda name: Backend)
    data = load_spikes(EXAMPLE / "digits_test.npz").first(8)
    assert verbs.simulate(bundle, data, engine="lava", progress=lambda *what: told.append(what)).engine == "lava"


def test_json_on_stdout_is_all_there_is(bundle: Path, capsys: pytest.CaptureFixture[str],
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_S", 0.0)
    run = runner(capsys)
    seen = run("compare", DIGITS, bundle, "--data", EXAMPLE / "digits_test.npz", "--json")
    assert seen.json["verb"] == "compare"
    assert "reading" not in seen.err
    shown = run("compare", DIGITS, bundle, "--data", EXAMPLE / "digits_test.npz")
    assert "reading the models" in shown.err
    assert "reading" not in shown.out
