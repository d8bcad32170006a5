"""The pages in docs/: commands and flags that exist, recipes that apply, Python that finds what it imports, advice that
holds."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from pathlib import Path

import click
import pytest
from cli_runner import DIGITS, EXAMPLE, Run

from neurocompress import compress
from neurocompress.chip.profile import profile_names
from neurocompress.cli import cli, spread_record
from neurocompress.data.spikes import load_spikes

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = {page.stem: page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("*.md"))}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ROOT = DOCS.parent
#: Flags of other programs of the project that the pages name: benchmarks, attacks, the emitted program.
OTHERS = {flag for folder in ("benchmarks", "tests", "targets") for script in (ROOT / folder).rglob("*.py")
          for flag in re.findall(r"""add_argument\(\s*["'](--[a-z-]+)""", script.read_text(encoding="utf-8"))}


def shown() -> list[str]:
    """Commands in blocks, as they are typed."""
    blocks = "\n".join(body for text in PAGES.values() for kind, body in BLOCK.findall(text) if kind == "console")
    return sorted(set(re.findall(r"^\$ neurocompress (.*)", blocks.replace("\\\n", " "), re.MULTILINE)))


def mentioned() -> list[str]:
    """Commands in sentences, which leave out what does not matter there."""
    prose = "\n".join(BLOCK.sub("", text) for text in PAGES.values())
    return sorted({line for line in re.findall(r"`neurocompress ([a-z]+ [^`]*)`", prose)})


@pytest.mark.parametrize("line", shown())
def test_every_command_shown_parses(line: str) -> None:
    name, *arguments = spread_record(shlex.split(line))
    context = cli.commands[name].make_context(name, arguments)
    assert context.params.get("target") in (None, *profile_names())


@pytest.mark.parametrize("line", mentioned())
def test_every_command_mentioned_has_its_flags(line: str) -> None:
    name, *arguments = line.split()
    known = {o for p in cli.commands[name].params if isinstance(p, click.Option) for o in p.opts}
    assert {a for a in arguments if a.startswith("--")} <= known


@pytest.mark.parametrize("page", PAGES)
def test_every_flag_named_exists(page: str) -> None:
    ours = {"--help", "--version"} | {
        name for verb in cli.commands.values() for p in verb.params if isinstance(p, click.Option) for name in p.opts}
    named = {flag for part in re.findall(r"`([^`\n]*)`", BLOCK.sub("", PAGES[page]))
             for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", part)}
    assert named <= ours | OTHERS


@pytest.mark.parametrize("page", [p for p, text in PAGES.items() if "```python" in text])
def test_python_shown_finds_what_it_imports(page: str) -> None:
    for kind, body in BLOCK.findall(PAGES[page]):
        for node in ast.walk(ast.parse(body)) if kind == "python" else ():
            if isinstance(node, ast.ImportFrom) and node.module:
                module = importlib.import_module(node.module)
                assert all(hasattr(module, name.name) for name in node.names)


def test_the_recipe_shown_applies_to_the_shipped_example(tmp_path: Path) -> None:
    (recipe,) = [body for kind, body in BLOCK.findall(PAGES["compression"]) if kind == "yaml"]
    (tmp_path / "recipe.yaml").write_text(recipe)
    data = load_spikes(EXAMPLE / "digits_calibration.npz").first(30)
    made = compress(DIGITS, data, recipe=tmp_path / "recipe.yaml")
    assert made.layers["fc1"].bits == 6
    assert "fc2" not in made.layers


def test_a_chip_without_arithmetic_is_deployed_to_as_its_page_says(tmp_path: Path, run: Run) -> None:
    for kind, body in BLOCK.findall(PAGES["add-a-chip"]):
        if kind == "yaml":
            (tmp_path / body.split("\n")[0].removeprefix("# ")).write_text(body)
    few = tmp_path / "few.npz"
    load_spikes(EXAMPLE / "digits_test.npz").first(10).save(few)
    seen = run("deploy", DIGITS, "--profile", tmp_path / "pebble-2.yaml", "--data", few, "--method", "rtn", "--json",
               "--out", tmp_path / "bundle")
    assert seen.status == 0
    assert set(seen.json["accuracy"]) == {"float", "compressed"}
    assert (tmp_path / "bundle" / "model.nir").is_file()


def test_every_method_deploys_and_compresses(tmp_path: Path, run: Run) -> None:
    few = tmp_path / "few.npz"
    load_spikes(EXAMPLE / "digits_test.npz").first(10).save(few)
    for method in ("gptq", "magnitude", "exact-obs", "sbc-paper"):
        assert method in run("deploy", "--help").out
        assert method in run("compress", "--help").out
        assert run("deploy", DIGITS, "--target", "loihi2", "--data", few, "--method", method, "--out",
                   tmp_path / f"b-{method}").status == 0
