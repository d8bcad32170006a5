"""docs/add-a-chip.md followed to the letter: its files are written, its commands run, its output is what comes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from cli_runner import runner

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "add-a-chip.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
#: What each command ends with.
STATUS = {"targets pebble.yaml": 0, "check examples/digits/digits.nir --profile pebble.yaml": 1, "rules NC207": 0,
          "check examples/digits/digits.nir --profile pebble-2.yaml": 0}


def test_the_page_leads_to_a_check_of_ones_own_chip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    run = runner(capsys)
    done = []
    for kind, text in BLOCKS:
        if kind == "yaml":
            name = text.splitlines()[0].removeprefix("# ")
            assert re.fullmatch(r"[\w-]+\.yaml", name)
            (tmp_path / name).write_text(text, encoding="utf-8")
        elif kind == "console":
            command, *shown = text.splitlines()
            command = command.removeprefix("$ neurocompress ")
            seen = run(*shlex.split(command))
            assert seen.status == STATUS[command], seen
            lines = [" ".join(line.split()) for line in seen.out.splitlines()]
            for line in shown:  # in this order, among others
                found = next((k for k, out in enumerate(lines) if " ".join(line.split()) in out), None)
                assert found is not None, (command, line, seen.out)
                lines = lines[found + 1 :]
            done.append(command)
    assert done == list(STATUS)


def test_the_error_shown_is_the_one_that_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = next(text for kind, text in BLOCKS if kind == "yaml")
    assert text.count("axons_in") == 1
    Path("pebble.yaml").write_text(text.replace("axons_in", "axon_in"), encoding="utf-8")
    seen = runner(capsys)("targets", "pebble.yaml")
    assert seen.status == 2
    assert seen.err == next(text for kind, text in BLOCKS if kind == "text")
