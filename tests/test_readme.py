"""README.md shows commands that the command line accepts, files that exist, and presets as they are."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import click
import pytest

import neurocompress
from neurocompress.chip.profile.load import profile_names
from neurocompress.cli import cli, spread_record
from neurocompress.network.conventions import PRESETS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
SETUP = [text for kind, text in BLOCKS if kind == "bash"]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands() -> list[str]:
    """Arguments of every `neurocompress` that stands in a block, as one line each."""
    text = "\n".join(text for kind, text in BLOCKS if kind in ("bash", "console")).replace("\\\n", " ")
    return re.findall(r"(?:^\$ |/|&& )neurocompress ([^\n]*)", text, re.MULTILINE)


def verb_options() -> set[str]:
    options = [p for verb in cli.commands.values() for p in verb.params if isinstance(p, click.Option)]
    return {"--help", "--version"} | {name for option in options for name in option.opts}


@pytest.mark.parametrize("line", commands())
def test_every_command_shown_is_accepted(line: str) -> None:
    name, *arguments = spread_record(shlex.split(line))
    verb = cli.commands[name]
    context = verb.make_context(name, arguments)  # parses and checks; runs nothing
    if "target" in context.params:
        assert context.params["target"] in profile_names()


def test_every_verb_is_shown() -> None:
    assert {line.split()[0] for line in commands()} == set(cli.commands)


def test_every_option_named_in_the_text_exists() -> None:
    prose = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
    ours = [part for part in re.findall(r"`([^`]*)`", prose) if not part.startswith("uv ")]
    named = {option for part in ours for option in re.findall(r"--[a-z-]+", part)}
    assert named
    assert named <= verb_options()


def test_there_are_two_set_up_commands_and_they_name_files_that_exist() -> None:
    main, tests = SETUP
    assert main.count("&&") == 2
    assert " deploy examples/digits/digits.nir --target loihi2 --data " in main
    assert tests.rstrip().endswith("&& .venv/bin/pytest")
    for text in SETUP:
        for name in re.findall(r"[\w./-]+\.(?:txt|nir|npz)\b", text):
            assert (ROOT / name).is_file(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_python_shown_is_python_and_calls_verbs_that_exist() -> None:
    (code,) = [text for kind, text in BLOCKS if kind == "python"]
    called = {node.attr for node in ast.walk(ast.parse(code))
              if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "nc"}
    assert called
    assert called <= set(neurocompress.__all__)


def test_the_table_of_presets_is_the_presets() -> None:
    rows = {row[0]: row[1:] for row in re.findall(
        r"^\| `([\w-]+)`[^|]*\| ([^|]*) \| (\w+) \| (\w+) \| (>=?) \|", README, re.MULTILINE)}
    assert set(rows) == set(PRESETS)
    for name, (dt, decay, reset, fire) in rows.items():
        found = PRESETS[name]
        assert (None if dt == "from the file" else float(dt)) == found.dt, name
        assert (decay.lower(), reset, fire) == (found.decay, found.reset, found.fire), name
