"""The pages in docs/: commands and flags that exist, recipes that apply, Python that finds what it imports, advice that
holds."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from cli_runner import DIGITS, EXAMPLE, Run

from neurocompress import check, compress, simulate
from neurocompress.chip.profile.load import profile_names
from neurocompress.cli import cli, spread_record
from neurocompress.data.spikes import load_spikes
from neurocompress.fit.rules.page import page as page_of_rules
from neurocompress.fit.rules.rule import RULES

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


LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def anchors(text: str) -> set[str]:
    """What `#...` of a link may name, as GitHub makes it of headings."""
    titles = re.findall(r"^#+ (.*)", BLOCK.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))], ids=lambda p: p.stem)
def test_no_link_of_a_page_is_dead(page: Path) -> None:
    for link in LINK.findall(BLOCK.sub("", page.read_text(encoding="utf-8"))):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link


def test_every_page_is_reached_from_the_index_and_the_index_from_the_readme() -> None:
    linked = {link.partition("#")[0] for link in LINK.findall(PAGES["index"])}
    assert {f"{name}.md" for name in PAGES} - {"index.md"} <= linked
    assert "docs/index.md" in LINK.findall((ROOT / "README.md").read_text(encoding="utf-8"))


def test_the_page_of_rules_is_what_the_rules_say() -> None:
    assert PAGES["rules"] == page_of_rules(), "run: python docs/write_rules.py"


def test_every_rule_stands_on_the_page_once_and_says_what_mends_it() -> None:
    assert re.findall(r"^\| (NC\d+) \|", PAGES["rules"], re.MULTILINE) == sorted(RULES)
    for rule in RULES.values():
        assert rule.relief or rule.fix, rule.code


@pytest.mark.parametrize("code", sorted(RULES))
def test_a_rule_says_which_verb_decides_it(code: str) -> None:
    """By what its function can answer: a breach, or that only deploy knows."""
    source = inspect.getsource(RULES[code].check)
    left, known = "Undecided(" in source, RULES[code].decided
    assert left == (known != "check")
    assert known != "check, else deploy" or "Violation(" in source


CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
RECIPES = {body.split("\n")[0].removeprefix("# "): body
           for kind, body in BLOCK.findall(CONTRIBUTING) if kind == "python"}


def test_the_set_up_is_two_commands_that_the_readme_has_and_ci_runs() -> None:
    (readme,) = [body for kind, body in BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))
                 if kind == "bash" and "[dev]" in body]
    set_up = next(body for kind, body in BLOCK.findall(CONTRIBUTING) if kind == "bash").strip().split("\n")
    assert len(set_up) == 2
    assert [part.strip(" \\\n") for line in set_up for part in line.split("&&")] == [
        part.strip(" \\\n") for part in readme.split("&&")][:-1]


def test_a_back_end_is_found_and_writes_as_contributing_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    package, info = tmp_path / "site", tmp_path / "site" / "counts-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: counts\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[neurocompress.targets]\ncounts = counts\n")
    (package / "counts.py").write_text(RECIPES["counts.py"])
    monkeypatch.syspath_prepend(package)
    (tmp_path / "mine.yaml").write_text("extends: loihi2\nname: mine\ntitle: Mine\nemits: [nir, counts]\n")
    few = tmp_path / "few.npz"
    load_spikes(EXAMPLE / "digits_test.npz").first(5).save(few)
    deploy = ("deploy", DIGITS, "--profile", tmp_path / "mine.yaml", "--data", few, "--method", "rtn", "--out")
    assert run(*deploy, tmp_path / "bundle").status == 0
    assert (tmp_path / "bundle" / "counts" / "counts.txt").read_text() == "lif1 128\nlif2 10\n"
    (package / "counts.py").write_text(RECIPES["counts.py"].replace("4096", "100"))
    sys.modules.pop("counts")
    refused = run(*deploy, tmp_path / "other")
    assert refused.status == 1
    assert "'lif1' is too large. Choose fewer neurons" in refused.err
    assert not (tmp_path / "other").exists()


def test_a_method_is_found_and_compresses_as_contributing_says(tmp_path: Path) -> None:
    info = tmp_path / "activity-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: activity\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[neurocompress.methods]\nactivity = activity\n")
    (tmp_path / "activity.py").write_text(RECIPES["activity.py"])
    (line,) = re.findall(r"^\$ neurocompress (compress .*--method activity.*) --out", CONTRIBUTING, re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "-c", "from neurocompress.cli import main; main()", *shlex.split(line), "--out",
         str(tmp_path / "small.nir")], env={**os.environ, "PYTHONPATH": str(tmp_path)}, cwd=ROOT, capture_output=True,
        text=True)
    assert done.returncode == 0, done.stderr
    assert "80.0 % of all weights are zero" in " ".join(done.stdout.split())


def test_a_front_end_as_contributing_says_gives_a_network_that_verbs_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "matrices.py").write_text(RECIPES["matrices.py"])
    monkeypatch.syspath_prepend(tmp_path)
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "weights.npz", w0=rng.normal(size=(8, 5)), w1=rng.normal(size=(3, 8)))
    network = importlib.import_module("matrices").read(tmp_path / "weights.npz")
    assert check(network, "loihi1").fits
    assert simulate(network, np.ones((2, 4, 5), dtype=np.float32)).arrays["output"].shape == (2, 4, 3)


def test_every_command_that_contributing_shows_parses_and_its_paths_exist() -> None:
    text = "\n".join(body for kind, body in BLOCK.findall(CONTRIBUTING) if kind == "console")
    for line in re.findall(r"^\$ neurocompress (.*)", text, re.MULTILINE):
        name, *arguments = spread_record(shlex.split(line))
        cli.commands[name].make_context(name, arguments)
    for path in re.findall(r"`((?:tests|docs|compression|chip|neurocompress)/[\w/]+\.py)`", CONTRIBUTING):
        assert (ROOT / path).is_file() or (ROOT / "neurocompress" / path).is_file(), path


@pytest.mark.parametrize("module", ["network.nodes", "network.conventions", "network.grid", "compression.recipe",
                                    "compression.methods", "compression.maths.supports"])
def test_every_field_of_a_public_class_has_a_line_of_its_own(module: str) -> None:
    found = importlib.import_module(f"neurocompress.{module}")
    lines = inspect.getsource(found).split("\n")
    for node in ast.parse("\n".join(lines)).body:
        if isinstance(node, ast.ClassDef):
            fields = [part for part in node.body if isinstance(part, ast.AnnAssign)]
            bare = [ast.unparse(part.target) for part in fields if not lines[part.lineno - 2].lstrip().startswith("#:")]
            assert not bare, f"{node.name}: {', '.join(bare)}"
