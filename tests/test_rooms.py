"""The order of rooms: what a file imports lies in its own room or in one below, and no import comes back.

Read from the source, so that an import in a function or for types alone counts as well.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: Rooms from the ground up: a title, and the modules and packages in it (of a package, what no other room names).
ROOMS = (
    ("base", "backends by_layer errors free_memory progress serialize shown stopping streams version"),
    ("files", "files"),
    ("network", "network"),
    ("data", "data"),
    ("front ends", "frontends"),
    ("simulation", "simulation"),
    ("arithmetic", "chip"),
    ("profile", "chip.profile"),
    ("on the chip", "chip.on_chip"),
    ("emulation", "emulation"),
    ("back ends", "targets"),
    ("mapping", "fit.mapping"),
    ("rules", "fit.rules"),
    ("fit", "fit"),
    ("mathematics", "compression.maths"),
    ("layers",
     "compression.compressed_layer compression.methods compression.model compression.module compression.recipe"),
    ("layer by layer", "compression.layerwise"),
    ("learning", "compression.finetuning"),
    ("compression", "compression"),
    ("verification", "verification"),
    ("deployment", "deployment"),
    ("report", "report"),
    ("tables", "report.text"),
    ("verbs", "verbs"),
    ("command line", "cli examples neurocompress"),
)
#: Rooms that hold compression, which serves any chip and none.
COMPRESSION = {"mathematics", "layers", "layer by layer", "learning", "compression"}


def _modules() -> dict[str, Path]:
    """Every module of the package by its name without "neurocompress."; the package itself is "neurocompress"."""
    found = {}
    for base in (ROOT / "neurocompress", ROOT / "targets"):
        for path in sorted(base.rglob("*.py")):
            parts = path.relative_to(ROOT if base.name == "targets" else base).with_suffix("").parts
            if "program" not in parts:  # emitted as it is, and runs without this package
                parts = parts[:-1] if parts[-1] == "__init__" else parts
                found[".".join(parts) or "neurocompress"] = path
    return found


def _imported(name: str, path: Path, modules: Collection[str]) -> Iterator[tuple[str, int]]:
    """Modules of the package that a file imports, at its top, in a function or for types alone, and the line."""
    own = ["neurocompress", *(name.split(".") if name != "neurocompress" else [])]
    package = own if path.name == "__init__.py" else own[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            above = [*base, *(node.module or "").split(".")] if node.module else base
            for alias in node.names:
                for parts in ([*above, alias.name], above):
                    full = ".".join(parts).removeprefix("neurocompress.")
                    if parts[0] == "neurocompress" and full in modules:
                        yield full, node.lineno
                        break
        elif isinstance(node, ast.Import):
            for alias in node.names:
                full = alias.name.removeprefix("neurocompress.")
                if alias.name.split(".")[0] == "neurocompress" and full in modules:
                    yield full, node.lineno


def _room(name: str) -> int:
    """The place of a module's room in ROOMS; the longest name counts."""
    while name:
        for k, (_, members) in enumerate(ROOMS):
            if name in members.split():
                return k
        name = name.rpartition(".")[0]
    return -1


def _title(name: str) -> str:
    return ROOMS[_room(name)][0]


MODULES = _modules()
IMPORTS = {name: dict(_imported(name, path, MODULES)) for name, path in MODULES.items()}


def test_every_module_has_a_room() -> None:
    homeless = [name for name in MODULES if _room(name) < 0]
    assert not homeless, f"name the room of {homeless} in ROOMS"


def test_every_name_of_a_room_is_a_module_or_a_package() -> None:
    gone = [name for _, members in ROOMS for name in members.split() if name not in MODULES]
    assert not gone


def test_no_import_runs_up() -> None:
    """A room imports itself and rooms below it; an import in a function, or for types alone, is one too."""
    up = [f"{MODULES[name].relative_to(ROOT)}:{line} of {_title(name)} imports {other} of {_title(other)}"
          for name, found in IMPORTS.items() for other, line in found.items() if _room(other) > _room(name)]
    assert not up, "\n".join(up)


def test_compression_knows_no_chip_and_no_chip_knows_compression() -> None:
    """Where both meet is `deployment`."""
    def knows(rooms: set[str], others: set[str]) -> list[str]:
        return [f"{name} imports {other}" for name, found in IMPORTS.items() if _title(name) in rooms
                for other in found if _title(other) in others]

    chips = {"arithmetic", "profile", "on the chip", "emulation", "back ends", "mapping", "rules", "fit"}
    assert not knows(chips, COMPRESSION)
    assert not knows(COMPRESSION, chips)


def test_no_module_imports_itself_through_others() -> None:
    """No circle, neither through imports in functions nor through those for types alone."""
    try:
        TopologicalSorter({name: set(found) - {name} for name, found in IMPORTS.items()}).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_imports_are_read() -> None:
    """What the two tests above stand on: imports of each form are among those that are read."""
    assert "errors" in IMPORTS["cli"]
    assert "verbs.check" in IMPORTS["neurocompress"]  # for types alone
    assert "verbs.deploy" in IMPORTS["cli"]  # in a function
    assert "errors" in IMPORTS["targets.nir"]  # by its whole name
